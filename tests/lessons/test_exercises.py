"""Exercises: each check takes its solution, and neither the untouched stub nor a typical wrong answer."""

import pytest

from hpkit.errors import BadInput
from hpkit.lessons import EXERCISES, BrokenRun, Exercise, check_answer, check_cure
from hpkit.records import recording

NUMBERS = [name for name, exercise in EXERCISES.items() if isinstance(exercise, Exercise)]
BROKEN = [name for name, exercise in EXERCISES.items() if isinstance(exercise, BrokenRun)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERS)
def test_an_answer_is_told_from_typical_wrong_ones(name):
    exercise = EXERCISES[name]
    assert check_answer(name, exercise.answer()).right and exercise.why in repr(
        check_answer(name, exercise.answer())
    )
    replies = {check_answer(name, wrong) for wrong in exercise.wrong()}
    assert not any(right for right, _ in replies) and {words for _, words in replies} == set(
        exercise.wrong().values()
    )
    for stub in (..., None, "408", True):
        assert not check_answer(name, stub).right and "Expected a number" in repr(
            check_answer(name, stub)
        )
    assert "no slip that is common" in check_answer(name, 7e77).words


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_cure_cures_and_other_changes_do_not(name, monkeypatch):
    monkeypatch.setattr(
        recording, "YARDSTICK", recording.YARDSTICK._replace(sampled_tokens=2)
    )  # no check listens to the tunes
    exercise = EXERCISES[name]
    assert check_cure(name, **exercise.cure) == (True, exercise.why)
    for changes in ({}, exercise.cure | {"seed": 1}):
        assert (
            not check_cure(name, **changes).right
            and "one argument" in check_cure(name, **changes).words
        )
    for changes in exercise.wrong:
        assert len(changes) == 1 and not check_cure(name, **changes).right


def test_bad_input_is_named():
    with pytest.raises(
        BadInput, match="exercise: expected one of .*, got '02-update' .did you mean 02-updates"
    ):
        check_answer("02-update", 1)
    with pytest.raises(BadInput, match="unknown hyperparameter 'warmup'"):
        check_cure(BROKEN[0], warmup=1)
