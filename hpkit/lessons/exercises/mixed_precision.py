"""Exercises of notebook 08: mixed precision."""

import math

from hpkit.finetune.run import Run
from hpkit.labs.formats import FORMATS
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point

NOTEBOOK = "08_mixed_precision"

#: The broken run's, which its cure is to leave alone.
SMALL_RATE = 3e-5


def _power_of_two_above(ratio: float) -> float:
    return 2.0 ** math.ceil(math.log2(ratio))


def _wrong_scales() -> dict[float, str]:
    normal = FORMATS["fp16"].smallest_normal
    subnormal = FORMATS["fp16"].smallest_subnormal
    just_below = 2.0 ** math.floor(math.log2(normal / 3e-9))
    return {
        # Rounding goes to the nearest: from half the smallest subnormal on it is not 0.
        _power_of_two_above(subnormal / 2 / 3e-9): (
            "That keeps it from becoming 0, with a single bit"
        ),
        _power_of_two_above(subnormal / 3e-9): (
            "That makes it the smallest subnormal, with a single bit"
        ),
        just_below: "Just too little: 16,384 x 3e-9 = 4.9e-5 is below 6.1e-5",
        normal / 3e-9: "That is the ratio. Which power of two is the next above it?",
        2.0**16: "That is torch's first scale. A smaller one is enough",
    }


def _wrong_bytes() -> dict[float, str]:
    return {
        8: "That is a model whose weights are bf16: 2 + 2 + 4",
        12: "A weight takes 4, a gradient 4, and Adam has two averages of 4 each",
        14: "Is the weight or the gradient bf16? Look at the table again",
        2: (
            "That is one bf16 number. "
            "Weights, gradients and two averages are kept, and none of them in bf16"
        ),
        10: "That is with adamw_8bit",
    }


def _wrong_gaps() -> dict[float, str]:
    gap = FORMATS["bf16"].epsilon
    return {
        gap: "That is the whole gap. Rounding goes to the nearest: half of it is enough",
        gap / 4: "Below 1 the gap is half as wide, so that is the answer for shrinking",
        FORMATS["fp16"].epsilon / 2: "That is fp16's half gap",
    }


def _keeps_small_updates(run: Run) -> str:
    if run.recipe.learning_rate != SMALL_RATE:
        return (
            "The learning rate was to stay: "
            "larger updates survive the rounding, and change the model more than was wanted"
        )
    fallen = run.eval_loss_before - run.eval_loss_after
    if fallen > 0.015:
        return ""
    return (
        f"The evaluation loss falls by {fallen:.4f}. "
        "At this rate it can fall by more than 0.015: what rounds the updates away?"
    )


EXERCISES = {
    "08-scale": Exercise(
        notebook=NOTEBOOK,
        question=(
            "By which smallest power of two must a gradient of 3e-9 be scaled to be a normal "
            "number of fp16?"
        ),
        answer=lambda: _power_of_two_above(FORMATS["fp16"].smallest_normal / 3e-9),
        why="6.1e-5 / 3e-9 is 20,345, and the next power of two above is 32,768",
        wrong=_wrong_scales,
    ),
    "08-bytes": Exercise(
        notebook=NOTEBOOK,
        question=(
            "fp32 weights, bf16=True, 32-bit AdamW: how many bytes a parameter for weights, "
            "gradients and states?"
        ),
        answer=lambda: 4 + 4 + 8,
        why="Autocast changes products. What is kept stays fp32: 4 + 4 + 8",
        wrong=_wrong_bytes,
    ),
    "08-gap": Exercise(
        notebook=NOTEBOOK,
        question=(
            "A bf16 weight of exactly 1: more than how much must an update be, so that the weight "
            "grows?"
        ),
        answer=lambda: FORMATS["bf16"].epsilon / 2,
        why="Half the gap above 1, which is 2^-7 wide",
        wrong=_wrong_gaps,
    ),
    "08-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "It hardly learns at a small learning rate. Change one argument, and leave the rate."
        ),
        point=lambda: usual_point(
            max_steps=40, eval_steps=0.25, learning_rate=SMALL_RATE, dtype="bfloat16"
        ),
        cured=_keeps_small_updates,
        why="fp32 weights take every update, and products are still bf16",
        cure={"dtype": "float32"},
        wrong=({"bf16": False}, {"learning_rate": 3e-4}),
    ),
}
