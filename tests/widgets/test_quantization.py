"""QuantizationExplorer: every control moved; what is drawn and said is compared with blockwise itself."""

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
    tensor, place = explorer._averages[at["parameter"]][at["average"]], None
    if at["outlier"]:
        tensor, place = with_outlier(tensor, at["outlier"])
    size = None if at["block_size"] == WHOLE else int(at["block_size"])
    expected = quantize(tensor, size, at["code_book"], at["average"] == "exp_avg", at["rounding"])
    assert numpy.array_equal(explorer.quantized.after, expected.after)
    figure, error = explorer._figure, expected.relative_error
    heights = figure.kept.get_data().values
    assert heights.sum() == pytest.approx(100)
    assert figure.zero.get_data().values.sum() == pytest.approx(
        100 * (expected.after == 0)[expected.before != 0].mean()
    )
    # Each drawn block's error, in powers of ten, is that of its values.
    starts, drawn = figure.by_place.get_data()
    for number in (0, (len(starts) - 2) // 2, len(starts) - 2):
        block = error[int(starts[number]) : int(starts[number + 1])]
        assert 10 ** drawn[number] == pytest.approx(numpy.nanmean(block.astype(float)), rel=1e-4)
    assert len(starts) == len(expected.scales) + 1 and starts[-1] == tensor.numel()
    assert (
        (len(figure.outlier.get_xdata()) == 1) == bool(at["outlier"]) == (explorer.harm is not None)
    )
    assert f"{expected.mean_relative_error:.2%}" in explorer.summary
    assert f"{expected.became_zero:.2%} of the values come back as zero" in explorer.summary
    assert (
        f"{expected.codes.nbytes:,} bytes of codes and {expected.scales.nbytes:,} of scales"
        in explorer.summary
    )
    assert ("was put there by this widget" in explorer.summary) == bool(at["outlier"])
    alt = explorer.picture.alt
    assert alt.startswith(
        f"{at['parameter']}, {at['average']}: values, in {len(expected.scales):,} block"
    )
    assert (
        f"outlier put at {place:,}: {tensor.flatten()[place]:.3g}"
        if place is not None
        else "no outlier"
    ) in alt
    assert explorer.error == ""


@pytest.mark.parametrize(
    "name", ["parameter", "average", "block_size", "code_book", "rounding", "outlier"]
)
def test_it_follows_every_control(explorer, name):
    control, seen = explorer.controls[name], set()
    explorer.set(parameter="first", outlier=100)
    options = [option[1] if isinstance(option, tuple) else option for option in control.options]
    for value in options[:: 8 if name == "outlier" else 1]:
        control.value = value  # as the browser's message does
        check(explorer)
        seen.add(explorer.summary + explorer.picture.alt)
    assert len(seen) > 1


def test_it_starts_with_the_largest_tensor_in_the_optimizers_blocks(explorer):
    check(explorer)
    assert (explorer.parameter, explorer.block_size, explorer.code_book, explorer.outlier) == (
        "first",
        "256",
        "dynamic",
        0,
    )
    explorer.block_size = 64
    assert explorer.block_size == "64" and len(explorer.quantized.scales) == 73
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
    assert len(starts) < 1500 and "mean of 3 blocks each" in explorer._figure.places.get_xlabel()
    error = explorer.quantized.relative_error[: 3 * 64].astype(float)
    assert 10 ** drawn[0] == pytest.approx(error.mean(), rel=1e-4)


def test_zeros_alone_can_be_drawn():
    zeros = torch.zeros(5000)
    explorer = QuantizationExplorer({"unused": {"exp_avg": zeros, "exp_avg_sq": zeros}})
    for rounding in ("nearest", "cpu"):
        explorer.set(rounding=rounding, outlier=0)
        explorer.outlier = 10
        assert explorer.picture and explorer.error == ""


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
