"""What an exercise of a notebook is: a question with a number for an answer, or a broken run to be cured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hpkit.finetune.run import Run
from hpkit.formatting import shown_number
from hpkit.records.grids import Point, load_grids
from hpkit.records.recording import record_point


class Reply(NamedTuple):
    """Whether an answer is right, and what it shows."""

    right: bool
    words: str

    def __repr__(self) -> str:
        return ("✓ Right. " if self.right else "✗ Not yet. ") + self.words


@dataclass(frozen=True)
class Exercise:
    """A question with a number for an answer, right within one part in a hundred.

    `answer` and `wrong` compute, so that they are never out of date: the right number, and typical wrong ones with what
    each reveals. `why` explains the right one.
    """

    notebook: str
    question: str
    answer: Callable[[], float]
    why: str
    wrong: Callable[[], dict[float, str]]

    def reply(self, answer) -> Reply:
        if not isinstance(answer, (int, float)) or isinstance(answer, bool):
            return Reply(
                False, f"Expected a number, got {answer!r}: put yours in place of the dots"
            )
        near = [
            (abs(answer - value) / (abs(value) or 1), words)
            for value, words in self.wrong().items()
        ]
        right = abs(answer - self.answer()) <= 0.01 * abs(self.answer())
        if right:
            return Reply(True, self.why)
        distance, words = min(near)
        return Reply(
            False,
            words
            if distance <= 0.01
            else f"{shown_number(answer)} is not it, and no slip that is common",
        )


@dataclass(frozen=True)
class BrokenRun:
    """A run to be diagnosed from its log and cured by changing one argument. `cured` looks at the new run.

    It returns an empty string for a cure, else what is still wrong. `wrong`: changes that a reader tries first. `point`
    makes the run as it is broken.
    """

    notebook: str
    question: str
    point: Callable[[], Point]
    cured: Callable[[Run], str]
    why: str
    cure: dict
    wrong: tuple[dict, ...]

    def reply(self, **changes) -> Reply:
        """Train with the change, and judge the run: a minute at most. Raises BadInput for a value that cannot be."""
        point = self.point()
        recipe = point.recipe.replace(**changes)
        changed = [
            name for name, value in vars(recipe).items() if value != getattr(point.recipe, name)
        ]
        if len(changed) != 1:
            return Reply(
                False,
                f"Change one argument and no more: here {len(changed)} differ from the broken run's",
            )
        wrong = self.cured(record_point(point._replace(recipe=recipe)))
        return Reply(not wrong, wrong or self.why)


def usual_point() -> Point:
    """The starter's recipe as short as the recorded runs: the usual starting point of a broken run."""
    return load_grids()["seeds"].points[0]
