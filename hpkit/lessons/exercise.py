"""What an exercise is: a question answered by a number, or a broken run to be cured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hpkit.finetune.run import Run
from hpkit.formatting import shown_number
from hpkit.records.grids import Point, load_grids
from hpkit.records.recording import record_point

#: How far an answer may be from the right one, as a share of it.
TOLERANCE = 0.01


class Reply(NamedTuple):
    """Whether an answer is right, and what it shows."""

    right: bool
    words: str

    def __repr__(self) -> str:
        if self.right:
            return f"✓ Right. {self.words}"
        return f"✗ Not yet. {self.words}"


@dataclass(frozen=True)
class Exercise:
    """A question with a number for an answer, right within one part in a hundred.

    `answer` and `wrong` compute, so that they are never out of date: the right number, and typical
    wrong ones with what each reveals. `why` explains the right one.
    """

    notebook: str
    question: str
    answer: Callable[[], float]
    why: str
    wrong: Callable[[], dict[float, str]]

    def reply(self, answer) -> Reply:
        """Whether `answer` is right; of a wrong one, which slip leads to it."""
        # True is an int to Python, and no answer to a reader.
        if not isinstance(answer, (int, float)) or isinstance(answer, bool):
            expected = f"Expected a number, got {answer!r}: put yours in place of the dots"
            return Reply(False, expected)
        right = self.answer()
        if abs(answer - right) <= TOLERANCE * abs(right):
            return Reply(True, self.why)
        distances = []
        for value, words in self.wrong().items():
            # The distance from a slip that gives 0 can be no share of it.
            scale = abs(value) or 1
            distances.append((abs(answer - value) / scale, words))
        distance, words = min(distances)
        if distance <= TOLERANCE:
            return Reply(False, words)
        return Reply(False, f"{shown_number(answer)} is not it, and no slip that is common")


@dataclass(frozen=True)
class BrokenRun:
    """A run to be diagnosed from its log and cured by changing one argument.

    `point` makes the run as it is broken. `cured` looks at the new run and returns an empty string
    for a cure, else what is still wrong. `cure`: one change that cures; `wrong`: changes that a
    reader tries first.
    """

    notebook: str
    question: str
    point: Callable[[], Point]
    cured: Callable[[Run], str]
    why: str
    cure: dict
    wrong: tuple[dict, ...]

    def reply(self, **changes) -> Reply:
        """Train with the change and judge the run: a minute at most.

        Raises BadInput for a value that cannot be.
        """
        point = self.point()
        recipe = point.recipe.replace(**changes)
        # Counted by what differs: an argument given the value that it has anyway changes nothing.
        before = vars(point.recipe)
        changed = [name for name, value in vars(recipe).items() if value != before[name]]
        if len(changed) != 1:
            differ = f"here {len(changed)} differ from the broken run's"
            return Reply(False, f"Change one argument and no more: {differ}")
        still_wrong = self.cured(record_point(point._replace(recipe=recipe)))
        if still_wrong:
            return Reply(False, still_wrong)
        return Reply(True, self.why)


def usual_point(**changes) -> Point:
    """The starter's recipe as short as the recorded runs: the usual starting point of a broken run.

    `changes` are hyperparameters that it has otherwise. Raises BadInput for a value that cannot be.
    """
    usual = load_grids()["seeds"].points[0]
    return usual._replace(recipe=usual.recipe.replace(**changes))
