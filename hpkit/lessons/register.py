"""Every exercise of every notebook by its name, and the two checks that a notebook calls."""

from hpkit.errors import BadInput, did_you_mean
from hpkit.lessons.exercise import BrokenRun, Exercise, Reply
from hpkit.lessons.exercises import (
    batch_and_accumulation,
    eight_bit_adamw,
    epochs,
    learning_rate,
    log_eval_save,
    mixed_precision,
    number_formats,
    seed,
    sequence_length,
    start_here,
    warmup_and_schedules,
    weight_decay,
    your_own_run,
)

#: The modules in the notebooks' order, in which a mistyped name is told what there is.
NOTEBOOKS = (
    start_here,
    learning_rate,
    warmup_and_schedules,
    batch_and_accumulation,
    epochs,
    weight_decay,
    seed,
    number_formats,
    mixed_precision,
    eight_bit_adamw,
    log_eval_save,
    sequence_length,
    your_own_run,
)

#: Every exercise by its name, which begins with its notebook's number.
EXERCISES: dict[str, Exercise | BrokenRun] = {}
for _notebook in NOTEBOOKS:
    EXERCISES |= _notebook.EXERCISES


def check_answer(name: str, answer) -> Reply:
    """Check the answer to an exercise. Raises BadInput for a name that is none."""
    return _exercise(name, Exercise).reply(answer)


def check_cure(name: str, **changes) -> Reply:
    """Train a broken run with one argument changed, and say whether that cures it.

    Takes a minute at most. Raises BadInput for a name that is none and for a value that cannot be.
    """
    return _exercise(name, BrokenRun).reply(**changes)


def _exercise(name: str, kind: type) -> Exercise | BrokenRun:
    names = [known for known, exercise in EXERCISES.items() if isinstance(exercise, kind)]
    if name not in names:
        raise BadInput(
            f"exercise: expected one of {', '.join(names)}, got {name!r}{did_you_mean(name, names)}"
        )
    return EXERCISES[name]
