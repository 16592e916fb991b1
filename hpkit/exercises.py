"""The notebooks' exercises: each check computes the right answer, and says of a typical wrong one what it reveals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.errors import BadInput, did_you_mean
from hpkit.finetune import Run
from hpkit.interactive import shown_number
from hpkit.recipe import NOTES
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


# 03: batch and accumulation.


def _learns_on_average(run: Run) -> str:
    before, after = run.eval_loss_before, run.eval_loss_after
    if after is not None and after < before - 0.01:
        return ""
    return f"The evaluation loss goes from {before:.3f} to {after:.3f}: the updates still do not add up to learning"


def _broken_batch() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(max_steps=40, per_device_train_batch_size=1, eval_steps=10))


EXERCISES |= {
    "03-same-update": Exercise(
        "03_batch_and_accumulation",
        "Which gradient_accumulation_steps makes an update of 8 x 32 examples from micro-batches of 2?",
        lambda: NOTES.per_device_train_batch_size * NOTES.gradient_accumulation_steps / 2,
        "2 x 128 are the same 256 examples; only the memory of a pass is smaller",
        lambda: {
            NOTES.gradient_accumulation_steps: "With 32 an update would see 2 x 32 = 64 examples, a quarter",
            NOTES.per_device_train_batch_size
            * NOTES.gradient_accumulation_steps: "That is how many examples the update sees; each micro-batch brings 2",
            NOTES.gradient_accumulation_steps / 4: "That is the wrong way round: smaller micro-batches need more of them",
        },
    ),
    "03-one-batch": Exercise(
        "03_batch_and_accumulation",
        "4 tokens with a mean loss of 3.0 and 60 with 1.0: what is the mean loss of all?",
        lambda: (4 * 3.0 + 60 * 1.0) / 64,
        "All 64 tokens weigh the same, so the 60 decide",
        lambda: {
            2.0: "That is the mean of the two means: a token of the first would weigh 15 times one of the second",
            4.0: "That is the sum of the two means",
            72.0: "That is the sum over all tokens: divide by how many they are",
        },
    ),
    "03-broken": BrokenRun(
        "03_batch_and_accumulation",
        "This run ends worse than it began. Read its log, change one argument, and let it learn.",
        _broken_batch,
        _learns_on_average,
        "What the gradient says by chance now counts less than what all examples have in common",
        {"gradient_accumulation_steps": 8},
        ({"weight_decay": 0.1}, {"warmup_steps": 0}, {"max_steps": 20}),
    ),
}


# 11: sequence length.


def _reads_enough(run: Run) -> str:
    before, after = run.eval_loss_before, run.eval_loss_after
    if after is not None and after < before - 0.02:
        return ""
    first = next(entry["loss"] for entry in run.history if "loss" in entry)
    return (
        f"The evaluation loss goes from {before:.3f} to {after:.3f}, and the first training loss, {first:.2f}, "
        f"lies {first - before:.2f} above it: the examples still hold less than what is asked about"
    )


def _broken_length() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(max_steps=40, max_seq_length=16, eval_steps=10))


EXERCISES |= {
    "11-share": Exercise(
        "11_sequence_length",
        "Texts of 100, 200, 300 and 400 tokens, padded to the longest: what share of the places is padding, in percent?",
        lambda: 100 * (1 - (100 + 200 + 300 + 400) / (4 * 400)),
        "600 of 1,600 places mean nothing and are computed nevertheless",
        lambda: {
            62.5: "That is the share of real tokens",
            60.0: "That is padding held against real tokens: 600 to 1,000. The question is about all places",
            25.0: "That leaves the longest out: count all 4 x 400 places",
        },
    ),
    "11-bytes": Exercise(
        "11_sequence_length",
        "1 x 512 tokens keep 34 MB under sdpa: how many MB do 8 x 128 tokens keep?",
        lambda: 34 * 8 * 128 / 512,
        "Under sdpa the tokens of a micro-batch count, however they are spread over examples",
        lambda: {
            34 * 8: "That would be 8 examples of 512 tokens",
            34 / 4: "That is one example of 128 tokens",
            34: "8 x 128 are 1,024 tokens, twice as many as 512",
        },
    ),
    "11-broken": BrokenRun(
        "11_sequence_length",
        "The training loss lies far above the evaluation loss, which rises. Read the log, change one argument, and mend it.",
        _broken_length,
        _reads_enough,
        "Now a piece holds most of a tune, and what is learned from it helps with whole ones",
        {"max_seq_length": 128},
        ({"learning_rate": 1e-4}, {"per_device_train_batch_size": 32}, {"max_steps": 80}),
    ),
}
