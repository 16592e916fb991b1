"""The notebooks' exercises: each check computes the right answer, and says of a typical wrong one what it reveals."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.errors import BadInput, did_you_mean
from hpkit.finetune import Run
from hpkit.interactive import shown_number
from hpkit.recipe import NOTES
from hpkit.records import Point, load_grids, record_point
from hpkit.schedules import learning_rates


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
            return Reply(False, f"Expected a number, got {answer!r}: put yours in place of the dots")
        near = [(abs(answer - value) / (abs(value) or 1), words) for value, words in self.wrong().items()]
        right = abs(answer - self.answer()) <= 0.01 * abs(self.answer())
        if right:
            return Reply(True, self.why)
        distance, words = min(near)
        return Reply(False, words if distance <= 0.01 else f"{shown_number(answer)} is not it, and no slip that is common")


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
        changed = [name for name, value in vars(recipe).items() if value != getattr(point.recipe, name)]
        if len(changed) != 1:
            return Reply(False, f"Change one argument and no more: here {len(changed)} differ from the broken run's")
        wrong = self.cured(record_point(point._replace(recipe=recipe)))
        return Reply(not wrong, wrong or self.why)


def check_answer(name: str, answer) -> Reply:
    """Check the answer to an exercise. Raises BadInput for a name that is none."""
    return _find(name, Exercise).reply(answer)


def check_cure(name: str, **changes) -> Reply:
    """Train a broken run with one argument changed, and say whether that cures it. Raises BadInput."""
    return _find(name, BrokenRun).reply(**changes)


def _find(name: str, kind: type):
    names = [known for known, exercise in EXERCISES.items() if isinstance(exercise, kind)]
    if name not in names:
        raise BadInput(f"exercise: expected one of {', '.join(names)}, got {name!r}{did_you_mean(name, names)}")
    return EXERCISES[name]


#: Every exercise by its name, which begins with its notebook's number. Each section below adds its own.
EXERCISES: dict[str, "Exercise | BrokenRun"] = {}


def usual_point() -> Point:
    """The starter's recipe as short as the recorded runs: the usual starting point of a broken run."""
    return load_grids()["seeds"].points[0]


# 02: warmup and schedules.


def _reaches_its_rate(run: Run) -> str:
    rates = [entry["learning_rate"] for entry in run.history if "learning_rate" in entry]
    share = max(rates) / run.recipe.learning_rate
    if share > 0.8:
        return ""
    asked = run.recipe.learning_rate
    return f"The highest logged rate is {max(rates):.1e}, {share:.0%} of the {asked:.1e} asked for: warmup still outlasts the run"


def _broken_warmup() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(max_steps=40, warmup_steps=2000))


EXERCISES |= {
    "02-updates": Exercise(
        "02_warmup_and_schedules",
        "With the notes' recipe and 52,000 examples, how many updates does the run have?",
        lambda: account(NOTES, 52_000).updates,
        "52,000 / (8 x 32), rounded up, times two epochs. Warmup of 2,000 would take ten such epochs",
        lambda: {
            52_000 / 8 * 2: "That counts batches of 8. An update waits for 32 of them",
            account(NOTES.replace(num_train_epochs=1), 52_000).updates: "That is one epoch; the notes have two",
            52_000 * 2: "That counts examples, not updates",
        },
    ),
    "02-peak": Exercise(
        "02_warmup_and_schedules",
        "What is the highest learning rate of that run, with the notes' 2,000 updates of warmup?",
        lambda: account(NOTES, 52_000).peak_learning_rate,
        "The rate rises by 1e-4 / 2,000 an update, and the run ends long before update 2,000",
        lambda: {
            NOTES.learning_rate: "That is the rate asked for. Compare the warmup with the number of updates",
            NOTES.learning_rate * 2000 / account(NOTES, 52_000).updates: "That is upside down: updates of the run over updates of warmup",
            NOTES.learning_rate / 2000: "That is the rise of a single update",
        },
    ),
    "02-broken": BrokenRun(
        "02_warmup_and_schedules",
        "This run hardly learns. Read its log, change one argument, and let the rate reach what is asked for.",
        _broken_warmup,
        _reaches_its_rate,
        "With a warmup shorter than the run, the rate gets where it should, and falls again",
        {"warmup_steps": 0.1},
        ({"learning_rate": 1e-2}, {"weight_decay": 0.0}, {"warmup_steps": 100}),
    ),
}


# 05: weight decay.


def _taken_by_the_notes() -> float:
    """Percent of a weight that decay takes over the notes' run on 52,000 examples."""
    rates = learning_rates(NOTES, account(NOTES, 52_000).updates)[:-1]
    return 100 * (1 - math.prod(1 - rate * NOTES.weight_decay for rate in rates))


def _learns_again(run: Run) -> str:
    before, after = run.eval_loss_before, run.eval_loss_after
    if after < before - 0.02:
        return ""
    taken = run.recipe.learning_rate * run.recipe.weight_decay
    words = f"The evaluation loss goes from {before:.3f} to {after:.3f}, the weights' length to {run.weights_norm:.0f}"
    return f"{words}: at the highest rate an update still takes {taken:.2g} of every weight"


def _broken_decay() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(max_steps=30, weight_decay=100))


EXERCISES |= {
    "05-left": Exercise(
        "05_weight_decay",
        "Rate 1e-3, decay 0.1, gradient 0: which part of a weight is left after 5,000 updates?",
        lambda: (1 - 1e-3 * 0.1) ** 5000,
        "Each update leaves 0.9999 of it. Five thousand times that is not a half: what is taken gets smaller with the weight",
        lambda: {
            1 - 5000 * 1e-3 * 0.1: "That takes the same amount every time; each update takes a share of what is left",
            1 - (1 - 1e-3 * 0.1) ** 5000: "That is the part that is gone",
            (1 - 0.1) ** 5000: "That forgets the learning rate: an update takes rate times decay",
        },
    ),
    "05-notes": Exercise(
        "05_weight_decay",
        "The notes' recipe on 52,000 examples: how many percent of a weight has decay taken after its 408 updates?",
        _taken_by_the_notes,
        "The rates of all updates add up to 0.0042, and decay takes a hundredth of that: 0.0042 percent",
        lambda: {
            100 * account(NOTES, 52_000).updates * NOTES.learning_rate * NOTES.weight_decay: "That has the full rate at every update; "
            "the warmup outlasts the run, so the rate only rises to a fifth of it",
            _taken_by_the_notes() / 100: "That is the share; the question asks for percent",
            _taken_by_the_notes() / NOTES.weight_decay: "That is the sum of the rates in percent; multiply by the decay",
        },
    ),
    "05-broken": BrokenRun(
        "05_weight_decay",
        "Both losses of this run rise. Read its log, change one argument, and let it learn.",
        _broken_decay,
        _learns_again,
        "Decay no longer takes more than the gradients can give back, and the evaluation loss falls",
        {"weight_decay": 0.01},
        ({"learning_rate": 1e-4}, {"warmup_steps": 0.3}),
    ),
}


# 04: epochs.


def _plan(**changes) -> int:
    """Updates of 5,000 examples, batch 8, accumulation 4 and 3 epochs, or with changes."""
    plan = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "num_train_epochs": 3, "max_steps": -1}
    return account(usual_point().recipe.replace(**plan | changes), 5000).updates


def _reads_as_often_as_it_says(run: Run) -> str:
    # 30 tunes make 30 blocks of 128 characters.
    planned = account(run.recipe.replace(max_steps=-1), 30).updates
    before, after = run.eval_loss_before, run.eval_loss_after
    ends = f"The evaluation loss goes from {before:.3f} to {after:.3f}"
    if run.updates > planned:
        return (
            f"{ends}, after {run.updates} updates where {run.recipe.num_train_epochs} epochs have {planned}: something overrides the epochs"
        )
    return "" if after < before + 0.1 else f"{ends}: it still overfits"


def _broken_epochs() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(num_train_epochs=2, max_steps=40), corpus="airdsAirs:30")


EXERCISES |= {
    "04-updates": Exercise(
        "04_epochs",
        "5,000 examples, batch 8, accumulation 4, 3 epochs: how many updates?",
        _plan,
        "5,000 / (8 x 4), rounded up in each epoch, times 3",
        lambda: {
            _plan(gradient_accumulation_steps=1): "That counts batches. Four of them make an update",
            _plan(num_train_epochs=1): "That is one epoch",
            5000 * 3: "That counts examples read, not updates",
        },
    ),
    "04-fraction": Exercise(
        "04_epochs",
        "The same data, batch and accumulation: which num_train_epochs gives 100 updates?",
        lambda: 100 / _plan(num_train_epochs=1),
        "100 of the 157 updates that an epoch has; fractions are allowed",
        lambda: {
            100 / _plan(): "That divides by the updates of three epochs",
            100 / _plan(num_train_epochs=1, gradient_accumulation_steps=1): "That divides by batches; four of them make an update",
            _plan(num_train_epochs=1) / 100: "That is upside down",
        },
    ),
    "04-broken": BrokenRun(
        "04_epochs",
        "This run says two epochs, and ends far above its start. Change one argument so that it reads each tune twice.",
        _broken_epochs,
        _reads_as_often_as_it_says,
        "Nothing overrides the epochs any more: 8 updates, two readings of each tune, and hardly any overfitting",
        {"max_steps": -1},
        ({"num_train_epochs": 1}, {"learning_rate": 1e-4}),
    ),
}
