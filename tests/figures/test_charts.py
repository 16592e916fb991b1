"""Still pictures: what is drawn is what was given, and the words say the same."""

import math

import pytest

from hpkit.errors import BadInput
from hpkit.figures import bars_picture, curves_picture, histogram_picture, schedules_picture


def test_curves_are_drawn_with_their_bands_and_words(figures):
    curves = {
        "one": [(1, 2.5, 3.0, 3.5), (10, 1.0, 1.5, 2.5)],
        "other": [(1, 4.0), (10, math.inf), (100, 2.0)],
    }
    picture = curves_picture(curves, "rate (weight units)", "loss", log_x=True)
    axes = figures[0].axes[0]
    one, other = (line.get_xydata().tolist() for line in axes.lines)
    assert one == [[1, 3], [10, 1.5]]
    assert other == [[1, 4], [100, 2]]
    band = {tuple(corner) for corner in axes.collections[0].get_paths()[0].vertices}
    assert band == {(1, 2.5), (1, 3.5), (10, 1), (10, 2.5)}
    assert axes.get_xlabel() == "rate (weight units)"
    assert axes.get_ylabel() == "loss"
    assert axes.get_xscale() == "log"
    assert picture.alt == (
        "loss over rate (weight units). one: 3 at 1, 1.5 at 10, lowest 1.5 at 10; "
        "other: 4 at 1, 2 at 100, lowest 2 at 100."
    )
    again = curves_picture(curves, "rate (weight units)", "loss", log_x=True)
    assert picture.png == again.png


def test_a_curve_without_a_number_is_said():
    picture = curves_picture({"none": [(1, math.nan)]}, "x", "y", marks={"here": 1})
    assert "no finite number" in picture.alt


def test_bars_are_as_long_as_their_values(figures):
    picture = bars_picture({"bf16": (1.0, 2.0, 3.0), "fp16": 1e-9}, "time (s)")
    assert [patch.get_width() for patch in figures[0].axes[0].patches] == [2.0, 1e-9]
    assert picture.alt == "time (s). bf16: 2 (1 to 3); fp16: 1e-09."


def test_a_histogram_counts_every_value_once(figures):
    picture = histogram_picture(
        {"a": [1, 1, 2, 0], "b": [1, 10, 100, 1000]}, "size", log_x=True, marks={"limit": 50}
    )
    first, second = figures[0].axes
    # The zero has no place on this axis.
    assert sum(patch.get_height() for patch in first.patches) == pytest.approx(75)
    assert sum(patch.get_height() for patch in second.patches) == pytest.approx(100)
    assert "a: n = 4, median 1," in picture.alt and "limit at 50" in picture.alt


def test_more_series_than_can_be_told_apart_are_refused():
    with pytest.raises(BadInput, match="at most 6 series in one picture, got 7"):
        curves_picture({str(number): [(1, 1)] for number in range(7)}, "x", "y")


def test_schedules_are_drawn_as_they_are(figures):
    picture = schedules_picture({"up": (0.0, 0.5, 1.0), "flat": (1.0, 1.0, 1.0)})
    drawn = [axes.lines[0].get_ydata().tolist() for axes in figures[0].axes if axes.lines]
    assert drawn == [[0, 0.5, 1], [1, 1, 1]]
    assert "up begins at 0, is highest at 1 after update 2, ends at 1" in picture.alt
