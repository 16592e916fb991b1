"""The notebooks' exercises: each check computes the right answer, and says of a typical wrong one what it reveals."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.errors import BadInput, did_you_mean
from hpkit.finetune import Run
from hpkit.interactive import shown_number
from hpkit.recipe import NOTES, STARTER
from hpkit.records import Point, load_grids, record_point


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


# 00: start here.


def _sees_its_text(run: Run) -> str:
    if run.updates >= 17:
        return ""
    return f"The log ends after update {run.updates}. One epoch of these tunes takes 17"


def _broken_start() -> Point:
    recipe = usual_point().recipe.replace(max_steps=5, warmup_steps=0, logging_steps=1, eval_steps=0.2)
    return Point(recipe, corpus="airdsAirs:100")


EXERCISES |= {
    "00-updates": Exercise(
        "00_start_here",
        "How many updates does the starter's recipe make of 640 examples?",
        lambda: account(STARTER, 640).updates,
        "640 / 8 an epoch, and two epochs",
        lambda: {
            account(STARTER.replace(num_train_epochs=1), 640).updates: "That is one epoch; the recipe has two",
            account(STARTER.replace(gradient_accumulation_steps=32), 640).updates: "That has the notes' accumulation; the starter has none",
            640 * 2: "That counts examples. An update sees 8 of them",
            640: "That counts examples, of one epoch. An update sees 8 of them",
        },
    ),
    "00-uniform": Exercise(
        "00_start_here",
        "What is the loss, in nats, of a model that gives each of 56 tokens the same probability?",
        lambda: math.log(56),
        "-ln(1/56) = ln 56. The loss of a fresh model of the starter's shape is close to it",
        lambda: {
            math.log2(56): "That is in bits: a nat is the surprise at 1 in e, a bit at 1 in 2",
            math.log10(56): "That is the logarithm to base 10; nats want the natural one",
            1 / 56: "That is the probability. The loss is minus its logarithm",
            56: "That is how many tokens it wavers between, e to the power of the loss",
        },
    ),
    "00-broken": BrokenRun(
        "00_start_here",
        "This run should see 100 tunes twice, and is over at once. Read its log and change one argument, so that it sees all of its text.",
        _broken_start,
        _sees_its_text,
        "max_steps overrides num_train_epochs; left at -1, the epochs count",
        {"max_steps": -1},
        ({"num_train_epochs": 10}, {"learning_rate": 1e-2}, {"max_steps": 10}),
    ),
}


# 12: your own run.


def _learns_from_nothing(run: Run) -> str:
    if run.eval_loss_after < 3:
        return ""
    return f"The evaluation loss still ends at {run.eval_loss_after:.2f}, from {run.eval_loss_before:.2f}"


def _broken_rate() -> Point:
    return Point(usual_point().recipe.replace(max_steps=40, learning_rate=2e-5), model="fresh")


def _largest_accumulation(examples: int, batch: int, epochs: float, updates: int) -> int:
    recipe = NOTES.replace(per_device_train_batch_size=batch, num_train_epochs=epochs)
    counts = (account(recipe.replace(gradient_accumulation_steps=steps), examples).updates for steps in range(1, examples // batch + 1))
    return max(steps for steps, count in enumerate(counts, 1) if count >= updates)


EXERCISES |= {
    "12-accumulation": Exercise(
        "12_your_own_run",
        "3,000 examples, batches of 4, two epochs: the largest gradient_accumulation_steps that leaves 100 updates or more?",
        lambda: _largest_accumulation(3000, 4, 2, 100),
        "3,000 / 4 = 750 batches an epoch, and 50 updates an epoch are wanted",
        lambda: {
            _largest_accumulation(3000, 4, 1, 100): "That is for one epoch; there are two",
            _largest_accumulation(3000, 1, 2, 100): "That counts examples. It is batches of 4 that are accumulated",
            1: "That leaves 1,500 updates: more can be accumulated",
        },
    ),
    "12-file": Exercise(
        "12_your_own_run",
        "100 million parameters, loaded as float32, trained with bf16=True and adamw_8bit: how many MB has model.safetensors?",
        lambda: 100 * 4,
        "The weights stay in float32, four bytes each; bf16 is the arithmetic's format, 8 bits the optimizer's",
        lambda: {
            100 * 2: "That is bf16. bf16=True multiplies in it; the weights stay as they were loaded",
            100 * 1: "That is 8 bits. It is the optimizer's memory that has them",
            100 * (4 + 2): "That counts the optimizer's states too. They are in a checkpoint, and not in the model's file",
        },
    ),
    "12-broken": BrokenRun(
        "12_your_own_run",
        "Random weights that hardly learn. Read the log, change one argument, and get below 3 nats.",
        _broken_rate,
        _learns_from_nothing,
        "A rate for large pre-trained models is far too small for a small one that starts from nothing",
        {"learning_rate": 1e-3},
        ({"warmup_steps": 0}, {"weight_decay": 0.0}, {"max_grad_norm": 10.0}),
    ),
}
