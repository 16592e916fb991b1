"""The notebooks' exercises: each check computes the right answer, and says of a typical wrong one what it reveals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.errors import BadInput, did_you_mean
from hpkit.finetune import Run
from hpkit.interactive import shown_number
from hpkit.recipe import NOTES
from hpkit.records import Point, load_grids, load_runs, record_point


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


# 01: learning rate.


def _broken_rate() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(learning_rate=3e-2, max_steps=30, eval_steps=0.2))


def _learns(run: Run) -> str:
    before, after = run.eval_loss_before, run.eval_loss_after
    if after < before - 0.02:
        return ""
    if abs(after - before) <= 0.02:
        return f"The evaluation loss went from {before:.3f} to {after:.3f}: nothing is broken any more, and next to nothing is learnt"
    return f"The evaluation loss still rises, from {before:.3f} to {after:.3f}: the run forgets what the starter knew"


EXERCISES |= {
    "01-decades": Exercise(
        "01_learning_rate",
        "You sweep from 1e-5 to 1e-1, both included, with two rates to every power of ten. How many runs with three seeds each?",
        lambda: 9 * 3,
        "Four powers of ten hold eight half steps, so nine rates, and each is trained three times",
        lambda: {
            8 * 3: "Eight half steps have nine ends: both 1e-5 and 1e-1 are trained",
            9: "Nine rates it is. Each is trained with three seeds",
            5 * 3: "That is one rate to every power of ten; asked were two",
        },
    ),
    "01-own-size": Exercise(
        "01_learning_rate",
        "A weight of size 0.02 is moved by one rate in each update, always the same way, at a constant 1e-3. After how many updates has it "
        "moved by its own size?",
        lambda: 0.02 / 1e-3,
        "0.02 / 1e-3. At the notes' 1e-4 it would take ten times as many, and real weights turn round on the way",
        lambda: {
            0.02 / 1e-4: "That is the answer at 1e-4; asked was 1e-3",
            0.02 * 1e-3: "That multiplies: it is how far a plain gradient of 0.02 would move it. Divide the way by the length of a step",
            1e-3 / 0.02: "That is upside down: one step in units of the weight's size",
        },
    ),
    "01-broken": BrokenRun(
        "01_learning_rate",
        "The evaluation loss of this run rises from its first update. Read its log, change one argument, and let it learn.",
        _broken_rate,
        _learns,
        "At a rate that fits the model the same 30 updates lower the loss",
        {"learning_rate": 3e-4},
        ({"max_grad_norm": 0.01}, {"warmup_steps": 0.5}, {"learning_rate": 1e-6}),
    ),
}


# 06: seed.


def _blamed_on_the_seed() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(per_device_train_batch_size=1, max_steps=30, eval_steps=0.2))


def _better_than_before(run: Run) -> str:
    before, after = run.eval_loss_before, run.eval_loss_after
    if after < before:
        return ""
    return f"It ends at {after:.3f} and began at {before:.3f}: still worse, far outside of what 20 seeds do"


def _seed_ends() -> list[float]:
    return sorted(run.eval_loss_after for run in load_runs().at(*usual_point()))


EXERCISES |= {
    "06-seeds-needed": Exercise(
        "06_seed",
        "Single runs have a standard deviation of 0.0057. How many seeds does it take until their mean has one of at most 0.0025?",
        lambda: 6,
        "A mean of n runs has a standard deviation of 0.0057 / sqrt(n); n = (0.0057 / 0.0025) squared is 5.2, so six",
        lambda: {
            3: "That divides 0.0057 by 0.0025. The spread of a mean falls with the square root of the number of seeds",
            5: "Nearly: five give 0.00255, just above",
            2: "Two seeds divide the spread by the square root of two, 1.4; it takes a factor of 2.3",
        },
    ),
    "06-best-of": Exercise(
        "06_seed",
        "You train one unchanged recipe with 20 seeds and report the best. By how many nats does it look better than the median?",
        lambda: (_seed_ends()[9] + _seed_ends()[10]) / 2 - _seed_ends()[0],
        "All of it is luck: nothing was changed. It is more than what lies between 3e-4 and 1e-3 here",
        lambda: {
            _seed_ends()[-1] - _seed_ends()[0]: "That is from the worst to the best; asked is from the median to the best",
            _seed_ends()[-1] - (_seed_ends()[9] + _seed_ends()[10]) / 2: "That is how far the worst lies above the median",
        },
    ),
    "06-broken": BrokenRun(
        "06_seed",
        "The loss of this run jumps, and it ends worse than it began. Bad luck? Change one argument and let it end better than it began.",
        _blamed_on_the_seed,
        _better_than_before,
        "The seed was innocent. Updates of one short piece point anywhere; with more pieces to an update, or smaller steps, they agree",
        {"per_device_train_batch_size": 8},
        ({"seed": 1}, {"seed": 42}, {"weight_decay": 0.0}),
    ),
}
