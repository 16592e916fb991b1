"""Predictions without their widget: what counts as an answer, how it is scored, what is kept."""

import math

import pytest

from hpkit.errors import BadInput
from hpkit.lessons import Question, calibration

NUMBER = Question("loss", "Which loss?", low=0.5, high=3.0, tolerance=0.05, relative=True)
CURVE = Question("curve", "Which curve?", low=1, high=2, tolerance=0.1, steps=(0, 10))
ORDER = Question("order", "Which first?", order=("a", "b", "c"), tolerance=1 / 3)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Nothing predicted yet."""
    monkeypatch.setenv("HPKIT_CACHE", str(tmp_path))
    return tmp_path


def test_what_is_given_becomes_a_tuple():
    assert NUMBER.values(1) == NUMBER.values((1,)) == (1.0,)
    assert CURVE.values([1, 2]) == (1.0, 2.0)
    assert ORDER.values(["c", "a", "b"]) == ("c", "a", "b")


@pytest.mark.parametrize(
    "question, given, expected",
    [
        (NUMBER, math.nan, "a finite number, got nan"),
        (NUMBER, "high", "a finite number"),
        (NUMBER, [1, 2], "a finite number"),
        (CURVE, [1], "2 finite numbers"),
        (CURVE, 1, "2 finite numbers"),
        (ORDER, ["a", "b"], "a, b, c in some order"),
        (ORDER, ["a", 1, "b"], "a, b, c in some order"),
    ],
)
def test_what_is_no_answer_is_named(question, given, expected):
    with pytest.raises(BadInput, match=f"prediction {question.name}: expected {expected}"):
        question.values(given)


def test_a_relative_distance_from_0_is_none():
    with pytest.raises(BadInput, match="an answer other than 0"):
        NUMBER.score((1.0,), (0.0,))


@pytest.mark.parametrize(
    "question, guess, truth, verdict",
    [
        (NUMBER, (1.02,), (1.0,), "Your guess was 2 % too high: within the tolerance of 5 %"),
        (NUMBER, (0.9,), (1.0,), "Your guess was 10 % too low: not within the tolerance of 5 %"),
        (NUMBER, (1.0,), (1.0,), "Your guess was 0 % away: within the tolerance of 5 %"),
        (
            CURVE,
            (1.0, 1.5),
            (1.25, 1.25),
            "Your guess was 0.25 away from the answer on average: not within the tolerance of 0.1",
        ),
        (
            ORDER,
            ("b", "a", "c"),
            ("a", "b", "c"),
            "2 of 3 pairs in the right order: within the tolerance",
        ),
    ],
)
def test_a_score_is_said_in_words(question, guess, truth, verdict):
    assert question.verdict(question.score(guess, truth)) == verdict


def test_what_was_guessed_is_kept_under_its_text():
    assert NUMBER.kept() == (None, None)
    NUMBER.keep((1.02,), None, None)
    assert NUMBER.kept() == ((1.02,), None)
    assert calibration().n == 0
    NUMBER.keep((1.02,), (1.0,), NUMBER.score((1.02,), (1.0,)))
    assert NUMBER.kept() == ((1.02,), (1.0,))
    assert Question("loss", "Another question?", tolerance=1).kept() == (None, None)
    assert str(calibration()).startswith("n = 1 prediction so far: 1 within tolerance (100%)")
