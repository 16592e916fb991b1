"""FormatExplorer: every preset, format and bit moved.

What is drawn and said is held against ml_dtypes and numpy.
"""

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
    drawn = []
    draw = explorer._figure.draw

    def counted(*args):
        drawn.append(args)
        return draw(*args)

    explorer._figure.draw = counted
    return drawn


def digits(explorer) -> str:
    """What the buttons say, field by field, read from the widgets of the page."""
    fields = [box.children for box in explorer._fields]
    assert all(button.description == str(int(button.value)) for field in fields for button in field)
    return " ".join("".join(button.description for button in field) for field in fields)


@np.errstate(all="ignore")
def converted(value: float, name: str):
    """The number in a format as ml_dtypes has it.

    Of tf32, which it lacks, as torch.round in float64 has it.
    """
    if name == "tf32":
        step = 2.0 ** (max(-126, math.frexp(value)[1] - 1) - 10)
        return np.float32(float(torch.tensor(value / step, dtype=torch.float64).round()) * step)
    result = np.float32(value).astype(NUMPY[name][0])
    # E4M3 has no inf: ml_dtypes makes NaN of what is too large, torch 2.13 the largest number.
    if name == "fp8 E4M3":
        return np.clip(np.float32(value), -448, 448).astype(result.dtype)
    return result


@np.errstate(all="ignore")
def there(name: str, low: float, high: float, most: int) -> list[float]:
    """The first `most` numbers of a format from `low` to `high`, stepping from one to the next."""
    dtype = NUMPY[name][0]
    largest = FORMATS[name].largest
    number = np.clip(converted(low, name), -largest, largest).astype(dtype)
    result = []
    while number <= high and len(result) < most:
        if number >= low:
            result.append(float(number))
        if number == largest:
            break
        number = np.nextafter(number, dtype(largest))
    return result


def check(explorer) -> None:
    """What is drawn and said, against ml_dtypes and numpy."""
    value = float(explorer.controls["value"].value)
    names = list(dict.fromkeys(["fp32", "fp16", "bf16", explorer.controls["format"].value]))
    results = [float(converted(value, name)) for name in names]
    found = [rounded.result for rounded in explorer.roundings]
    assert found == pytest.approx(results, rel=0, abs=0, nan_ok=True)
    assert digits(explorer) == explorer.bits
    assert explorer.error == ""
    if explorer.format in NUMPY and not math.isnan(value):
        _, whole, bits = NUMPY[explorer.format]
        pattern = int(converted(value, explorer.format).view(whole))
        assert explorer.bits.replace(" ", "") == f"{pattern:0{bits}b}"
    rows = explorer._figure.rows
    for name, result, row in zip(names, results, rows):
        rounded = rounding(value, FORMATS[name])
        assert row["name"].get_text() == name
        assert row["words"].get_text() == f"becomes {rounded}"
        assert all(artist.get_visible() for key, artist in row.items() if key != "band")
        check_ruler(explorer._figure, name, row, value)
        check_places(explorer._figure, row, value, result)
        assert f"{name} {rounded}" in explorer.picture.alt
        assert f"{name}: {rounded}" in explorer.summary
    seen = [row["words"].get_visible() for row in rows]
    assert seen == [number < len(names) for number in range(4)]
    assert explorer.summary.startswith(f"{explorer.format} {explorer.bits}: ")


def is_known(value: float) -> bool:
    """Is there a close-up of the number?"""
    return abs(value) < 1e39


def check_ruler(picture, name: str, row: dict, value: float) -> None:
    """Every number of the format has its mark, or, where they are too many, all have one band."""
    low, high = picture.rulers.get_xlim()
    most = picture.most_marks
    drawn = [float(segment[0][0]) for segment in row["marks"].get_segments()]
    if not is_known(value):
        assert not drawn
        assert not row["band"].get_visible()
    elif row["band"].get_visible():
        assert not drawn
        assert name == "tf32" or len(there(name, low, high, most)) > most - 3
    else:
        assert name == "tf32" or drawn == there(name, low, high, most + 3)


def check_places(picture, row: dict, value: float, result: float) -> None:
    """The diamonds stand at the result: in the range, and on the ruler where it is within."""
    place = row["place"].get_xdata()
    if math.isnan(result):
        assert len(place) == 0
    elif result and math.isfinite(result):
        assert 10 ** place[0] == pytest.approx(abs(result))
        low, high = picture.rulers.get_xlim()
        expected = []
        if is_known(value) and low <= result <= high:
            expected = [result]
        assert list(row["result"].get_xdata()) == expected
    else:
        left, right = picture.ranges.get_xlim()
        assert place[0] == (right - 2 if result else left + 2)


@pytest.mark.parametrize("format", FORMATS)
def test_every_preset_in_every_format(format):
    explorer = FormatExplorer(format=format)
    seen = set()
    for name, value in explorer.presets.items():
        explorer.controls["preset"].value = name  # as the browser's message does
        check(explorer)
        assert explorer.value == value
        assert explorer.preset == name
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
        drawn = drawings(explorer)
        before = explorer.bits.replace(" ", "")
        on_the_page = list(itertools.chain(*(box.children for box in explorer._fields)))
        button = on_the_page[place]
        button.value = not button.value
        pattern = int(before, 2) ^ 1 << (bits - 1 - place)
        assert explorer.bits.replace(" ", "") == f"{pattern:0{bits}b}"
        assert len(drawn) == 1
        check(explorer)
        value = float(np.array(pattern, dtype=whole).view(dtype))
        assert explorer.value == value or (math.isnan(value) and math.isnan(explorer.value))


def test_bits_are_set_and_of_nan_they_stay():
    explorer = FormatExplorer()
    explorer.set(bits="0 00000 00000000 01", format="fp16")
    assert explorer.value == 2.0**-24
    assert explorer.bits == "0 00000 0000000001"
    assert explorer.preset == "a number of your own"
    check(explorer)
    explorer.bits = "0111110000000101"
    first = explorer.summary
    assert math.isnan(explorer.value)
    assert explorer.bits == "0 11111 0000000101"
    assert "NaN" in explorer.picture.alt
    explorer._buttons[8].value = True
    assert explorer.bits == "0 11111 0010000101"
    assert explorer.summary != first
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
    assert 'role="alert"' in explorer._error.value
    assert "<b>'" not in explorer._error.value
    assert 'alt="Out of date: ' in explorer._image.value
    assert explorer.picture == good
    explorer.format = "fp16"  # the bits stay what they can be
    assert explorer.error
    explorer.controls["value"].value = " 1_000e-3 "
    assert explorer.value == 1
    assert explorer.error == ""
    assert explorer.bits == "0 01111 0000000000"
    explorer.controls["value"].value = "nothing"
    explorer._buttons[0].value = True  # a click mends it
    assert explorer.value == -1
    assert explorer.error == ""


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
        assert control._model_module == "@jupyter-widgets/controls"
        assert control.description
    assert [len(box.children) for box in explorer._fields] == [1, 8, 23]
    for button, tip in (
        (0, "sign: 1 is minus"),
        (1, "exponent, worth 128"),
        (8, "exponent, worth 1"),
        (9, "mantissa, worth 1/2"),
    ):
        assert explorer._buttons[button].tooltip == tip
        assert isinstance(explorer._buttons[button], ipywidgets.ToggleButton)


@pytest.mark.slow
def test_no_text_of_the_picture_lies_on_another_or_outside():
    """At every corner: labels, titles and names; none over its neighbour in the row of labels."""
    explorer = FormatExplorer()
    picture = explorer._figure
    whole = picture.figure.bbox
    for value in (0.1, 1.0, -1.0, 2.0**-100, -3.3e38, 448, 1e-8, 0, 1.9999999):
        for format in ("bf16", "fp8 E4M3"):
            explorer.set(value=value, format=format)
            for scale in picture.scales:
                labels = [text for text in scale.texts if text.get_text()]
                boxes = sorted(text.get_window_extent().extents.tolist() for text in labels)
                assert boxes
                for left, right in itertools.pairwise(boxes):
                    assert left[2] < right[0]
                assert whole.x0 <= boxes[0][0] and boxes[-1][2] <= whole.x1
                assert boxes[0][1] >= whole.y0
            for text in texts_of_rows(picture) + picture.titles:
                box = text.get_window_extent()
                assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.y1 <= whole.y1


def texts_of_rows(picture) -> list:
    """The texts of all formats that are drawn."""
    found = []
    for row in picture.rows:
        found += [row[name] for name in ("names", "name", "words") if row[name].get_visible()]
    return found
