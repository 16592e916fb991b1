"""The notebooks' exercises: each check computes the right answer, and says of a typical wrong one what it reveals."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.errors import BadInput, did_you_mean
from hpkit.finetune import Run
from hpkit.formats import FORMATS
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


# 07: number formats.


def _learns_as_usual(run: Run) -> str:
    fallen = run.eval_loss_before - run.eval_loss_after
    if fallen > 0.035:
        return ""
    return f"The evaluation loss falls by {fallen:.3f}. With an epsilon that leaves Adam alone, these 40 updates bring more than 0.035"


def _large_epsilon() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(max_steps=40, eval_steps=0.25, adam_epsilon=0.1))


EXERCISES |= {
    "07-stops": Exercise(
        "07_number_formats",
        "Start at 1 and add 1 again and again in bf16. Where does the sum stop growing?",
        lambda: FORMATS["bf16"].exact_integers,
        "From 256 on the next number is two away, and 256 + 1 is rounded back to the even one",
        lambda: {
            2 ** FORMATS["bf16"].mantissa_bits: "You counted the 7 written bits. There is an implied 1 in front of them",
            FORMATS["fp16"].exact_integers: "That is where fp16 stops",
            2**16: "16 bits are the whole number's room: sign and exponent take 8 of them",
            FORMATS["fp32"].exact_integers: "That is where fp32 stops",
        },
    ),
    "07-density": Exercise(
        "07_number_formats",
        "Three bf16 parts, 5.2 times as fast as fp32: how many times as fast must one bf16 product be?",
        lambda: 6 * 5.2,
        "Six products have to fit into the time of one, 5.2 times over",
        lambda: {
            5.2: "That is enough for a single product, which has errors of 2e-3. Three parts need more of them",
            3 * 5.2: "Three products are those of two parts. Three parts have six",
            9 * 5.2: "Nine are all combinations; the three smallest are left out",
            5.2 / 6: "That is upside down: each product has to be faster than fp32's, since there are six",
        },
    ),
    "07-broken": BrokenRun(
        "07_number_formats",
        "Its evaluation loss hardly falls, though rate and data are the usual ones. Change one argument.",
        _large_epsilon,
        _learns_as_usual,
        "Adam divides by the gradient's usual size plus epsilon. Now epsilon is small beside it again, and fp32 has no trouble with 1e-8",
        {"adam_epsilon": 1e-8},
        ({"learning_rate": 3e-3}, {"bf16": False}),
    ),
}


# 08: mixed precision.


def _keeps_small_updates(run: Run) -> str:
    if run.recipe.learning_rate != _bf16_weights().recipe.learning_rate:
        return "The learning rate was to stay: larger updates survive the rounding, and change the model more than was wanted"
    fallen = run.eval_loss_before - run.eval_loss_after
    if fallen > 0.015:
        return ""
    return f"The evaluation loss falls by {fallen:.4f}. At this rate it can fall by more than 0.015: what rounds the updates away?"


def _bf16_weights() -> Point:
    usual = usual_point()
    return usual._replace(recipe=usual.recipe.replace(max_steps=40, eval_steps=0.25, learning_rate=3e-5, dtype="bfloat16"))


EXERCISES |= {
    "08-scale": Exercise(
        "08_mixed_precision",
        "By which smallest power of two must a gradient of 3e-9 be scaled to be a normal number of fp16?",
        lambda: 2.0 ** math.ceil(math.log2(FORMATS["fp16"].smallest_normal / 3e-9)),
        "6.1e-5 / 3e-9 is 20,345, and the next power of two above is 32,768",
        lambda: {
            2.0 ** math.ceil(math.log2(FORMATS["fp16"].smallest_subnormal / 2 / 3e-9)): "That keeps it from becoming 0, with a single bit",
            2.0
            ** math.ceil(math.log2(FORMATS["fp16"].smallest_subnormal / 3e-9)): "That makes it the smallest subnormal, with a single bit",
            2.0 ** math.floor(math.log2(FORMATS["fp16"].smallest_normal / 3e-9)): "Just too little: 16,384 x 3e-9 = 4.9e-5 is below 6.1e-5",
            FORMATS["fp16"].smallest_normal / 3e-9: "That is the ratio. Which power of two is the next above it?",
            2.0**16: "That is torch's first scale. A smaller one is enough",
        },
    ),
    "08-bytes": Exercise(
        "08_mixed_precision",
        "fp32 weights, bf16=True, 32-bit AdamW: how many bytes a parameter for weights, gradients and states?",
        lambda: 4 + 4 + 8,
        "Autocast changes products. What is kept stays fp32: 4 + 4 + 8",
        lambda: {
            8: "That is a model whose weights are bf16: 2 + 2 + 4",
            12: "A weight takes 4, a gradient 4, and Adam has two averages of 4 each",
            14: "Is the weight or the gradient bf16? Look at the table again",
            2: "That is one bf16 number. Weights, gradients and two averages are kept, and none of them in bf16",
            10: "That is with adamw_8bit",
        },
    ),
    "08-gap": Exercise(
        "08_mixed_precision",
        "A bf16 weight of exactly 1: more than how much must an update be, so that the weight grows?",
        lambda: FORMATS["bf16"].epsilon / 2,
        "Half the gap above 1, which is 2^-7 wide",
        lambda: {
            FORMATS["bf16"].epsilon: "That is the whole gap. Rounding goes to the nearest: half of it is enough",
            FORMATS["bf16"].epsilon / 4: "Below 1 the gap is half as wide, so that is the answer for shrinking",
            FORMATS["fp16"].epsilon / 2: "That is fp16's half gap",
        },
    ),
    "08-broken": BrokenRun(
        "08_mixed_precision",
        "It hardly learns at a small learning rate. Change one argument, and leave the rate.",
        _bf16_weights,
        _keeps_small_updates,
        "fp32 weights take every update, and products are still bf16",
        {"dtype": "float32"},
        ({"bf16": False}, {"learning_rate": 3e-4}),
    ),
}
