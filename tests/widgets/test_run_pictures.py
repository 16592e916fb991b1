"""The pictures of recorded runs at the corners that no recorded run has."""

import math

from hpkit.records import Band
from hpkit.widgets.run_pictures import CurvesPicture, EndsPicture


def test_a_curve_that_ends_in_no_number_is_said():
    curves = CurvesPicture()
    band = Band([0, 5, 9], [1, 2, 3], [1, 2, math.inf], [1, 2, math.inf])
    picture = curves.draw("loss", [("this", band)], [])
    assert list(curves.medians[0].get_xdata()) == [0, 5]
    assert "after that no number" in picture.alt


def test_an_end_that_is_no_number_is_said():
    columns = [("1", [1.0, math.inf], []), ("2", [2.0, 3.0], [])]
    picture = EndsPicture().draw("loss", "rate", columns, here=0)
    assert "1: no number; 2: 2.5 (2 to 3)" in picture.alt
