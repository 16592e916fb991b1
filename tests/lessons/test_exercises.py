"""Exercises: each check takes its solution, no untouched stub and no typical wrong answer."""

import pkgutil

import pytest

from hpkit.errors import BadInput
from hpkit.lessons import (
    EXERCISES,
    BrokenRun,
    Exercise,
    check_answer,
    check_cure,
    exercises,
    register,
    usual_point,
)
from hpkit.records import recording


def names_of(kind: type) -> list[str]:
    return [name for name, exercise in EXERCISES.items() if isinstance(exercise, kind)]


NUMBERS = names_of(Exercise)
BROKEN = names_of(BrokenRun)


def test_every_notebooks_exercises_are_registered_in_order():
    files = {module.name for module in pkgutil.iter_modules(exercises.__path__)}
    registered = list(register.NOTEBOOKS)
    assert registered == sorted(registered, key=lambda notebook: notebook.NOTEBOOK)
    for notebook in registered:
        # Taken out one by one, so that none can stand there twice.
        files.remove(notebook.__name__.rpartition(".")[2])
        for name, exercise in notebook.EXERCISES.items():
            assert EXERCISES[name] is exercise
            assert exercise.notebook == notebook.NOTEBOOK
            assert name.startswith(f"{notebook.NOTEBOOK[:2]}-")
    assert not files


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERS)
def test_an_answer_is_told_from_typical_wrong_ones(name):
    exercise = EXERCISES[name]
    reply = check_answer(name, exercise.answer())
    assert reply.right
    assert exercise.why in repr(reply)
    wrong = exercise.wrong()
    said = set()
    for answer in wrong:
        reply = check_answer(name, answer)
        assert not reply.right
        said.add(reply.words)
    # Every slip is told, though two may be told in the same words.
    assert said == set(wrong.values())
    for stub in (..., None, "408", True):
        reply = check_answer(name, stub)
        assert not reply.right
        assert "Expected a number" in repr(reply)
    assert "no slip that is common" in check_answer(name, 7e77).words


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_cure_cures_and_other_changes_do_not(name, monkeypatch):
    # No check listens to the tunes.
    silent = recording.FIRST_EDITION._replace(sampled_tokens=2)
    monkeypatch.setattr(recording, "FIRST_EDITION", silent)
    exercise = EXERCISES[name]
    assert check_cure(name, **exercise.cure) == (True, exercise.why)
    for changes in ({}, exercise.cure | {"seed": 1}):
        reply = check_cure(name, **changes)
        assert not reply.right
        assert "one argument" in reply.words
    for changes in exercise.wrong:
        assert len(changes) == 1
        assert not check_cure(name, **changes).right


def test_the_usual_point_takes_changes():
    changed = usual_point(max_steps=7)
    assert changed.recipe == usual_point().recipe.replace(max_steps=7)
    with pytest.raises(BadInput, match="max_steps: expected"):
        usual_point(max_steps=0)


def test_bad_input_is_named():
    message = "exercise: expected one of .*, got '02-update' .did you mean 02-updates"
    with pytest.raises(BadInput, match=message):
        check_answer("02-update", 1)
    with pytest.raises(BadInput, match="unknown hyperparameter 'warmup'"):
        check_cure(BROKEN[0], warmup=1)
