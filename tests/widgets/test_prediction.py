"""Prediction: guesses of all kinds committed, scored and kept; their pictures and their words."""

import math

import pytest

from hpkit.errors import BadInput
from hpkit.lessons import predictions
from hpkit.widgets import Prediction

from .conftest import drawings, positions, shown_in_page

pytestmark = pytest.mark.usefixtures("own_cache")


def number(name="a number", **changes) -> Prediction:
    question = dict(low=0.5, high=3.0, tolerance=0.05, relative=True) | changes
    return Prediction(name, "Which loss?", **question)


def test_number_is_scored_after_the_commit():
    asked = number()
    for value in positions(asked.controls["number"]):
        asked.controls["number"].value = value
        assert asked._figure.guess.get_xdata()[0] == asked.guess == value
        assert f"Your guess: {value:.4g};" in asked.picture.alt
    asked.guess = 1.2
    assert asked.answer(1.17) is None and asked.score is None  # it waits
    assert "1.17" not in shown_in_page(asked) + asked.summary
    assert not len(asked._figure.truth.get_xdata())
    asked._button.click()
    assert asked.committed
    assert asked.score.within and asked.score.error == pytest.approx(0.03 / 1.17)
    assert "2.56 % too high: within the tolerance of 5 %" in asked.summary
    assert asked.picture.alt == "Your guess: 1.2; the answer: 1.17."
    assert asked._figure.truth.get_xdata()[0] == 1.17


def test_number_is_scored_by_its_distance_where_it_is_not_relative():
    low = number("another", relative=False, tolerance=0.1)
    low.guess = 1.0
    low.commit()
    assert not low.answer(1.5).within
    assert low.score.error == 0.5 and low.score.signed == pytest.approx(-5)
    assert "0.5 too low: not within the tolerance of 0.1" in low.summary


def test_order_is_scored_by_pairs():
    asked = Prediction("an order", "Which first?", order=("a", "b", "c", "d"))
    for place, control in asked.controls.items():
        for name in control.options:
            control.value = name
            assert getattr(asked, place) == name and sorted(asked.guess) == ["a", "b", "c", "d"]
            assert ", ".join(asked.guess) in asked.picture.alt
    asked.guess = ("a", "b", "c", "d")
    drawn = drawings(asked)
    asked.place_1 = "c"  # changes places with a
    assert asked.guess == ("c", "b", "a", "d") and len(drawn) == 1
    asked.commit()
    # Against a, b, c, d: the pairs c-b, c-a and b-a are the wrong way round.
    assert asked.answer(["a", "b", "c", "d"]).pairs == (3, 6)
    assert not asked.score.within and asked.score.signed is None
    assert "3 of 6 pairs" in asked.summary and "the answer: a, b, c, d" in asked.picture.alt
    joined = [list(line.get_ydata()) for line in asked._figure.lines]
    assert joined == [[1, 3], [2, 2], [3, 1], [4, 4]]


def test_curve_is_scored_by_its_mean_distance():
    asked = Prediction(
        "a curve", "Which losses?", low=1, high=2, steps=(0, 10, 20), tolerance=0.1, unit="loss"
    )
    for control in asked.controls.values():
        for value in positions(control):
            control.value = value
            assert tuple(asked._figure.guess.get_ydata()) == asked.guess
            assert f"{value:.4g} at" in asked.picture.alt
    asked.guess = (1.5, 1.4, 1.3)
    asked.at_10 = 1.2
    asked.commit()
    assert asked.answer([1.5, 1.4, 1.4]).error == pytest.approx(0.1)
    assert asked.score.signed == pytest.approx(-1)
    steps, losses = asked._figure.truth.get_data()
    assert list(steps) == [0, 10, 20] and list(losses) == [1.5, 1.4, 1.4]
    assert "the answer: 1.5 at 0, 1.4 at 10, 1.4 at 20" in asked.picture.alt


def test_powers_of_ten_are_guessed_on_a_log_axis():
    asked = Prediction(
        "a rate", "Which?", low=1e-6, high=1.0, tolerance=0.5, relative=True, log=True
    )
    assert asked.guess == pytest.approx(1e-3)
    for value in positions(asked.controls["number"]):
        asked.controls["number"].value = value
        assert asked.guess == value and f"Your guess: {value:.4g};" in asked.picture.alt
    with pytest.raises(BadInput, match="log expects low above 0"):
        Prediction("a rate", "Which?", tolerance=1, log=True)


def test_nothing_changes_after_the_commit():
    asked = number()
    asked.guess = 1.2
    asked.commit()
    asked.answer(1.5)
    before = asked.picture
    slider = asked.controls["number"]
    for change in (
        lambda: setattr(asked, "guess", 1.5),
        lambda: setattr(asked, "number", 1.5),
        lambda: slider.set_trait("index", 80),  # a message that no disabled slider sends
        asked.commit,
    ):
        with pytest.raises(BadInput, match="committed"):
            change()
        assert asked.guess == slider.value == 1.2 and asked.picture == before
    assert "committed" in asked.error
    assert all(control.disabled for control in asked.controls.values())
    # The first answer counts.
    assert asked.answer(1.2).error == pytest.approx(0.2) and asked.truth == (1.5,)
    again = number()
    assert again.committed and again.guess == 1.2
    assert again.score == asked.score and again.picture == before
    other = Prediction("a number", "Another question?", tolerance=1)
    assert not other.committed


def test_answers_that_are_none():
    for asked, answers in (
        (number(), (math.nan, "high", None, [1, 2], 0)),
        (Prediction("o", "?", order=("a", "b")), (["a"], ["a", "a"], "ba?", 3)),
        (Prediction("c", "?", steps=(1, 2), tolerance=1), ([1], 1, [1, math.inf])),
    ):
        for wrong in answers:
            with pytest.raises(BadInput, match="prediction"):
                asked.answer(wrong)
        assert not asked._pending
        assert "The answer is known" not in asked.summary


@pytest.mark.parametrize(
    "wrong",
    [
        dict(tolerance=0),
        dict(low=3, high=2, tolerance=1),
        dict(order=("a", "a")),
        dict(order=("a",)),
        dict(steps=(1,)),
    ],
)
def test_questions_that_are_none(wrong):
    with pytest.raises(BadInput, match="prediction x"):
        Prediction("x", "?", **wrong)


def test_calibration_over_all_predictions():
    assert "No prediction" in str(predictions.calibration())
    for k, (guess, truth) in enumerate(((1.0, 1.1), (2.0, 1.0), (1.5, 1.5))):
        asked = number(f"number {k}", relative=False, tolerance=0.2)
        asked.guess = guess
        asked.commit()
        asked.answer(truth)
    number("never answered").commit()
    order = Prediction("order", "?", order=("a", "b"))
    order.commit()
    order.answer(("a", "b"))
    found = predictions.calibration()
    assert (found.n, found.within) == (4, 3) and found.signed == pytest.approx((-0.5 + 5 + 0) / 3)
    words = str(found)
    assert words in order.summary
    assert "n = 4" in words and "3 within tolerance (75%)" in words
    assert "1.5 tolerances too high" in words
    assert "So few prove little" in words
    assert "So few" not in str(predictions.Calibration(predictions.FEW, 3, None))


@pytest.mark.parametrize(
    "damage",
    [
        *("", "{", "[1]", "null", "[" * 100_000, '{"a number": 3}'),
        '{"a number": {"text": "Which loss?", "guess": []}}',
        '{"a number": {"text": "Which loss?", "guess": [9], "score": {"within": 1}}}',
    ],
)
def test_a_damaged_file_harms_nothing(damage, tmp_path):
    file = tmp_path / "predictions.json"
    file.write_text(damage)
    assert predictions.calibration().n == 0
    asked = number()
    assert not asked.committed
    asked.guess = 1.2
    asked.commit()
    asked.answer(1.2)
    assert predictions.calibration().n == 1 and number().committed
    # Put aside is what could not be read at all; entries that could be are written anew.
    aside = tmp_path / "predictions.damaged.json"
    assert not aside.exists() or aside.read_text() == damage
    assert aside.exists() == ('{"text"' not in damage)


def test_a_prediction_that_cannot_be_kept_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HPKIT_CACHE", str(tmp_path / "file"))
    asked = number()
    asked.commit()
    assert asked.committed and "could not be kept" in asked.summary
    assert asked.answer(1.0) is not None
