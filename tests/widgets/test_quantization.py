"""QuantizationExplorer: every control moved.

What is drawn and said is compared with blockwise itself.
"""

import numpy
import pytest
import torch

from hpkit.errors import BadInput
from hpkit.labs.blockwise import quantize, with_outlier
from hpkit.widgets import Interactive, QuantizationExplorer
from hpkit.widgets.quantization import WHOLE


@pytest.fixture(autouse=True)
def errors_are_raised(monkeypatch):
    monkeypatch.setattr(Interactive, "raise_errors", True)


@pytest.fixture
def explorer():
    generator = torch.Generator().manual_seed(0)
    averages = {}
    for name, shape in (("small", (50,)), ("first", (60, 77)), ("second", (64, 64))):
        gradient = torch.randn(shape, generator=generator) ** 3
        averages[name] = {"exp_avg": gradient, "exp_avg_sq": gradient**2}
    return QuantizationExplorer(averages)


def check(explorer) -> None:
    """What is drawn and said, against blockwise on the values of the ipywidgets."""
    at = {name: control.value for name, control in explorer.controls.items()}
    tensor = explorer._averages[at["parameter"]][at["average"]]
    outlier = "no outlier"
    if at["outlier"]:
        tensor, place = with_outlier(tensor, at["outlier"])
        outlier = f"outlier put at {place:,}: {tensor.flatten()[place]:.3g}"
    size = None if at["block_size"] == WHOLE else int(at["block_size"])
    expected = quantize(tensor, size, at["code_book"], at["average"] == "exp_avg", at["rounding"])
    assert numpy.array_equal(explorer.quantized.after, expected.after)
    check_picture(explorer._figure, expected)
    assert (len(explorer._figure.outlier.get_xdata()) == 1) == bool(at["outlier"])
    assert (explorer.harm is not None) == bool(at["outlier"])
    summary = explorer.summary
    assert f"{expected.mean_relative_error:.2%}" in summary
    assert f"{expected.became_zero:.2%} of the values come back as zero" in summary
    codes = f"{expected.codes.nbytes:,} bytes of codes"
    assert f"{codes} and {expected.scales.nbytes:,} of scales" in summary
    assert ("was put there by this widget" in summary) == bool(at["outlier"])
    title = f"{at['parameter']}, {at['average']}"
    blocks = f"values, in {len(expected.scales):,} block"
    assert explorer.picture.alt.startswith(f"{title}: {blocks}")
    assert outlier in explorer.picture.alt
    assert explorer.error == ""


def check_picture(figure, expected) -> None:
    heights = figure.kept.get_data().values
    assert heights.sum() == pytest.approx(100)
    zeros = 100 * (expected.after == 0)[expected.before != 0].mean()
    assert figure.zero.get_data().values.sum() == pytest.approx(zeros)
    # Each drawn block's error, in powers of ten, is that of its values.
    starts, drawn = figure.by_place.get_data()
    last = len(starts) - 2
    for number in (0, last // 2, last):
        block = expected.relative_error[int(starts[number]) : int(starts[number + 1])]
        assert 10 ** drawn[number] == pytest.approx(numpy.nanmean(block.astype(float)), rel=1e-4)
    assert len(starts) == len(expected.scales) + 1
    assert starts[-1] == len(expected.before)


@pytest.mark.parametrize(
    "name", ["parameter", "average", "block_size", "code_book", "rounding", "outlier"]
)
def test_it_follows_every_control(explorer, name):
    control = explorer.controls[name]
    explorer.set(parameter="first", outlier=100)
    options = [option[1] if isinstance(option, tuple) else option for option in control.options]
    if name == "outlier":  # of many every eighth
        options = options[::8]
    seen = set()
    for value in options:
        control.value = value  # as the browser's message does
        check(explorer)
        seen.add(explorer.summary + explorer.picture.alt)
    assert len(seen) > 1


def test_it_starts_with_the_largest_tensor_in_the_optimizers_blocks(explorer):
    check(explorer)
    assert explorer.parameter == "first"
    assert explorer.block_size == "256"
    assert explorer.code_book == "dynamic"
    assert explorer.outlier == 0
    explorer.block_size = 64
    assert explorer.block_size == "64"
    assert len(explorer.quantized.scales) == 73
    check(explorer)


def test_the_same_setting_gives_the_same_picture(explorer):
    before = explorer.picture.png
    explorer.set(
        average="exp_avg_sq", block_size=WHOLE, outlier=1000, code_book="linear", rounding="cpu"
    )
    assert explorer.picture.png != before
    explorer.set(
        average="exp_avg", block_size=256, outlier=0, code_book="dynamic", rounding="nearest"
    )
    assert explorer.picture.png == before


def test_many_blocks_are_drawn_together_and_said_so():
    values = torch.randn(64 * 3100, generator=torch.Generator().manual_seed(0))
    explorer = QuantizationExplorer({"large": {"exp_avg": values, "exp_avg_sq": values**2}})
    explorer.block_size = 64
    starts, drawn = explorer._figure.by_place.get_data()
    assert len(starts) < 1500
    assert "mean of 3 blocks each" in explorer._figure.places.get_xlabel()
    error = explorer.quantized.relative_error[: 3 * 64].astype(float)
    assert 10 ** drawn[0] == pytest.approx(error.mean(), rel=1e-4)


def test_zeros_alone_can_be_drawn():
    zeros = torch.zeros(5000)
    explorer = QuantizationExplorer({"unused": {"exp_avg": zeros, "exp_avg_sq": zeros}})
    for rounding in ("nearest", "cpu"):
        explorer.set(rounding=rounding, outlier=0)
        explorer.outlier = 10
        assert explorer.picture
        assert explorer.error == ""


def test_nonsense_is_bad_input(explorer):
    for name, value in (
        ("block_size", 100),
        ("block_size", "all"),
        ("parameter", "third"),
        ("code_book", "log"),
        ("outlier", -1),
    ):
        with pytest.raises(BadInput, match=f"{name}: expected"):
            setattr(explorer, name, value)
        check(explorer)
    with pytest.raises(BadInput, match="averages: expected"):
        QuantizationExplorer({})
