"""FormatExplorer: every preset, format and bit moved; what is drawn and said against ml_dtypes and numpy."""

import itertools
import math
from base64 import b64encode

import ipywidgets
import ml_dtypes
import numpy as np
import pytest
import torch

from hpkit.errors import BadInput
from hpkit.labs.formats import FORMATS, rounding
from hpkit.widgets import FormatExplorer, Interactive

NUMPY = {
    "fp32": (np.float32, np.uint32, 32),
    "fp16": (np.float16, np.uint16, 16),
    "bf16": (ml_dtypes.bfloat16, np.uint16, 16),
    "fp8 E4M3": (ml_dtypes.float8_e4m3fn, np.uint8, 8),
    "fp8 E5M2": (ml_dtypes.float8_e5m2, np.uint8, 8),
}


@pytest.fixture(autouse=True)
def errors_are_raised(monkeypatch):
    monkeypatch.setattr(Interactive, "raise_errors", True)


def drawings(explorer) -> list:
    """A list that grows with each drawing from now on."""
    drawn, draw = [], explorer._figure.draw
    explorer._figure.draw = lambda *args: drawn.append(args) or draw(*args)
    return drawn


def digits(explorer) -> str:
    """What the buttons say, field by field, read from the widgets of the page."""
    fields = [box.children for box in explorer._fields]
    assert all(button.description == str(int(button.value)) for field in fields for button in field)
    return " ".join("".join(button.description for button in field) for field in fields)


@np.errstate(all="ignore")
def converted(value: float, name: str):
    """The number in a format as ml_dtypes has it; of tf32, which it lacks, as torch.round in float64 has it."""
    if name == "tf32":
        step = 2.0 ** (max(-126, math.frexp(value)[1] - 1) - 10)
        return np.float32(float(torch.tensor(value / step, dtype=torch.float64).round()) * step)
    result = np.float32(value).astype(NUMPY[name][0])
    # E4M3 has no inf: ml_dtypes makes NaN of what is too large, torch 2.13 the largest number.
    return (
        np.clip(np.float32(value), -448, 448).astype(result.dtype) if name == "fp8 E4M3" else result
    )


@np.errstate(all="ignore")
def there(name: str, low: float, high: float, most: int) -> list[float]:
    """The first `most` numbers of a format from `low` to `high`, by stepping from one to the next."""
    number, result = (
        np.clip(converted(low, name), -FORMATS[name].largest, FORMATS[name].largest).astype(
            NUMPY[name][0]
        ),
        [],
    )
    while number <= high and len(result) < most:
        result += [float(number)] * bool(number >= low)
        if number == FORMATS[name].largest:
            break
        number = np.nextafter(number, number.dtype.type(FORMATS[name].largest))
    return result


def check(explorer) -> None:
    """What is drawn and said, against ml_dtypes and numpy."""
    value, picture = float(explorer.controls["value"].value), explorer._figure
    names = list(dict.fromkeys(["fp32", "fp16", "bf16", explorer.controls["format"].value]))
    results = [float(converted(value, name)) for name in names]
    assert [found.result for found in explorer.roundings] == pytest.approx(
        results, rel=0, abs=0, nan_ok=True
    )
    assert digits(explorer) == explorer.bits and explorer.error == ""
    if explorer.format in NUMPY and not math.isnan(value):
        _, whole, bits = NUMPY[explorer.format]
        assert (
            explorer.bits.replace(" ", "")
            == f"{int(converted(value, explorer.format).view(whole)):0{bits}b}"
        )
    low, high = picture.rulers.get_xlim()
    for name, result, row in zip(names, results, picture.rows):
        assert (
            row["name"].get_text() == name
            and row["words"].get_text() == f"becomes {rounding(value, FORMATS[name])}"
        )
        assert all(artist.get_visible() for key, artist in row.items() if key != "band")
        drawn = [float(segment[0][0]) for segment in row["marks"].get_segments()]
        known = abs(value) < 1e39
        if not known:
            assert not drawn and not row["band"].get_visible()
        elif row["band"].get_visible():
            assert not drawn and (
                name == "tf32"
                or len(there(name, low, high, picture.most_marks)) > picture.most_marks - 3
            )
        else:
            assert name == "tf32" or drawn == there(name, low, high, picture.most_marks + 3)
        place = row["place"].get_xdata()
        if math.isnan(result):
            assert len(place) == 0
        elif result and math.isfinite(result):
            assert 10 ** place[0] == pytest.approx(abs(result))
            assert list(row["result"].get_xdata()) == [result] * bool(
                known and low <= result <= high
            )
        else:
            ends = picture.ranges.get_xlim()
            assert place[0] == (ends[1] - 2 if result else ends[0] + 2)
        assert f"{name} {rounding(value, FORMATS[name])}" in explorer.picture.alt
        assert f"{name}: {rounding(value, FORMATS[name])}" in explorer.summary
    assert [row["words"].get_visible() for row in picture.rows] == [
        number < len(names) for number in range(4)
    ]
    assert explorer.summary.startswith(f"{explorer.format} {explorer.bits}: ")


@pytest.mark.parametrize("format", FORMATS)
def test_every_preset_in_every_format(format):
    explorer, seen = FormatExplorer(format=format), set()
    for name, value in explorer.presets.items():
        explorer.controls["preset"].value = name  # as the browser's message does
        check(explorer)
        assert explorer.value == value and explorer.preset == name
        seen.add(explorer.picture.alt)
    assert len(seen) == len(explorer.presets) >= 6


@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, -0.3, 1e-30, 1e-45, 1e300, 464, 500, -math.inf, math.nan, 1.0, 3e-8, 2.0**-133],
)
def test_numbers_at_the_corners(value):
    explorer = FormatExplorer(value, "fp16")
    for format in ("bf16", "tf32", "fp8 E4M3"):
        explorer.format = format
        check(explorer)
        assert explorer.value == value or math.isnan(value)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["fp32", "bf16", "fp8 E4M3"])
def test_every_bit_can_be_clicked(format):
    explorer = FormatExplorer(0.1, format)
    dtype, whole, bits = NUMPY[format]
    for place in range(bits):
        drawn, before = drawings(explorer), explorer.bits.replace(" ", "")
        button = [button for box in explorer._fields for button in box.children][place]
        button.value = not button.value
        pattern = int(before, 2) ^ 1 << (bits - 1 - place)
        assert explorer.bits.replace(" ", "") == f"{pattern:0{bits}b}" and len(drawn) == 1
        check(explorer)
        value = float(np.array(pattern, dtype=whole).view(dtype))
        assert explorer.value == value or (math.isnan(value) and math.isnan(explorer.value))


def test_bits_are_set_and_of_nan_they_stay():
    explorer = FormatExplorer()
    explorer.set(bits="0 00000 00000000 01", format="fp16")
    assert (
        explorer.value == 2.0**-24
        and explorer.bits == "0 00000 0000000001"
        and explorer.preset == "a number of your own"
    )
    check(explorer)
    explorer.bits = "0111110000000101"
    first = explorer.summary
    assert (
        math.isnan(explorer.value)
        and explorer.bits == "0 11111 0000000101"
        and "NaN" in explorer.picture.alt
    )
    explorer._buttons[8].value = True
    assert explorer.bits == "0 11111 0010000101" and explorer.summary != first
    for wrong in ("0", "0 11111 00000000002", "0" * 32, 7):
        with pytest.raises(BadInput, match="bits: expected 16 of 0 and 1 for fp16"):
            explorer.bits = wrong
    assert explorer.bits == "0 11111 0010000101"


def test_what_was_typed_is_kept_when_the_format_changes():
    explorer = FormatExplorer(0.1, "fp32")
    for format in ("fp8 E5M2", "fp32", "bf16"):
        explorer.format = format
        assert explorer.value == 0.1
    explorer._buttons[0].value = True  # a click makes the number that these bits are
    assert explorer.value == -0.10009765625


def test_a_gradient_of_your_own_run_is_a_preset():
    weight = torch.nn.Parameter(torch.tensor([3e-9]))
    weight.square().sum().backward()
    explorer = FormatExplorer(gradient=weight.grad[0])
    name = "6e-09, a gradient of your run"
    assert explorer.controls["preset"].options[-1] == name
    explorer.preset = name
    assert explorer.value == weight.grad.item()
    check(explorer)
    with pytest.raises(BadInput, match="gradient: expected a number"):
        FormatExplorer(gradient=torch.ones(2))
    with pytest.raises(BadInput, match="preset: expected one of"):
        FormatExplorer().preset = name


def test_one_change_draws_once_and_no_change_draws_nothing():
    explorer = FormatExplorer()
    drawn = drawings(explorer)
    explorer.controls["value"].value = "3"
    explorer.preset = "257 = 256 + 1"
    explorer.format = "fp16"
    explorer.set(value=7, format="tf32")
    explorer.bits = "1" * 19
    assert len(drawn) == 5
    explorer.bits = "1" * 19
    explorer.format = "tf32"
    explorer.preset = "a number of your own"
    assert len(drawn) == 5


def test_a_text_that_is_no_number_is_said(monkeypatch):
    explorer = FormatExplorer()
    good = explorer.picture
    with pytest.raises(BadInput, match="value: expected a number such as"):
        explorer.controls["value"].value = "much"
    for wrong in ("", "much", "1e400", "1e-400", True, None, 10**400, [1]):
        with pytest.raises(BadInput, match="value: expected a number such as"):
            explorer.value = wrong
    monkeypatch.setattr(Interactive, "raise_errors", False)
    explorer.controls["value"].value = "<b>"
    assert 'role="alert"' in explorer._error.value and "<b>'" not in explorer._error.value
    assert 'alt="Out of date: ' in explorer._image.value and explorer.picture == good
    explorer.format = "fp16"  # the bits stay what they can be
    assert explorer.error
    explorer.controls["value"].value = " 1_000e-3 "
    assert explorer.value == 1 and explorer.error == "" and explorer.bits == "0 01111 0000000000"
    explorer.controls["value"].value = "nothing"
    explorer._buttons[0].value = True  # a click mends it
    assert explorer.value == -1 and explorer.error == ""


def test_same_state_same_bytes():
    explorer = FormatExplorer()
    first = explorer.picture
    for value, format in (
        (1e-8, "fp8 E4M3"),
        (math.nan, "fp32"),
        (65520, "tf32"),
        (3.4e38, "fp16"),
    ):
        explorer.set(value=value, format=format)
    explorer.set(value="0.1", format="bf16")
    assert explorer.picture == first == FormatExplorer().picture
    assert b64encode(first.png).decode() in explorer._image.value


def test_every_control_is_core_named_and_fits():
    explorer = FormatExplorer(format="fp32")
    for control in (*explorer.controls.values(), *explorer._buttons):
        assert control._model_module == "@jupyter-widgets/controls" and control.description
    assert [len(box.children) for box in explorer._fields] == [1, 8, 23]
    for button, tip in (
        (0, "sign: 1 is minus"),
        (1, "exponent, worth 128"),
        (8, "exponent, worth 1"),
        (9, "mantissa, worth 1/2"),
    ):
        assert explorer._buttons[button].tooltip == tip and isinstance(
            explorer._buttons[button], ipywidgets.ToggleButton
        )


@pytest.mark.slow
def test_no_text_of_the_picture_lies_on_another_or_outside():
    """At every corner: labels, titles and names within the picture, none over its neighbour in the row of labels."""
    explorer = FormatExplorer()
    for value in (0.1, 1.0, -1.0, 2.0**-100, -3.3e38, 448, 1e-8, 0, 1.9999999):
        for format in ("bf16", "fp8 E4M3"):
            explorer.set(value=value, format=format)
            picture, whole = explorer._figure, explorer._figure.figure.bbox
            for scale in picture.scales:
                boxes = sorted(
                    (text.get_window_extent().extents for text in scale.texts if text.get_text()),
                    key=lambda box: box[0],
                )
                assert boxes and all(
                    left[2] < right[0] for left, right in itertools.pairwise(boxes)
                )
                assert (
                    whole.x0 <= boxes[0][0] and boxes[-1][2] <= whole.x1 and boxes[0][1] >= whole.y0
                )
            words = [
                row[key]
                for row in picture.rows
                for key in ("names", "name", "words")
                if row[key].get_visible()
            ]
            for text in (*words, *picture.titles):
                box = text.get_window_extent()
                assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.y1 <= whole.y1
