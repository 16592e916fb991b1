"""Exercises of notebook 03: batch and accumulation."""

from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point
from hpkit.recipe import NOTES

NOTEBOOK = "03_batch_and_accumulation"


def _accumulation_for_micro_batches_of_2() -> float:
    return NOTES.per_device_train_batch_size * NOTES.gradient_accumulation_steps / 2


def _wrong_accumulations() -> dict[float, str]:
    batch = NOTES.per_device_train_batch_size
    accumulation = NOTES.gradient_accumulation_steps
    return {
        accumulation: "With 32 an update would see 2 x 32 = 64 examples, a quarter",
        batch * accumulation: (
            "That is how many examples the update sees; each micro-batch brings 2"
        ),
        accumulation / 4: "That is the wrong way round: smaller micro-batches need more of them",
    }


def _wrong_means() -> dict[float, str]:
    return {
        2.0: (
            "That is the mean of the two means: "
            "a token of the first would weigh 15 times one of the second"
        ),
        4.0: "That is the sum of the two means",
        72.0: "That is the sum over all tokens: divide by how many they are",
    }


def _learns_on_average(run: Run) -> str:
    before = run.eval_loss_before
    after = run.eval_loss_after
    if after < before - 0.01:
        return ""
    return (
        f"The evaluation loss goes from {before:.3f} to {after:.3f}: "
        "the updates still do not add up to learning"
    )


EXERCISES = {
    "03-same-update": Exercise(
        notebook=NOTEBOOK,
        question=(
            "Which gradient_accumulation_steps makes an update of 8 x 32 examples from "
            "micro-batches of 2?"
        ),
        answer=_accumulation_for_micro_batches_of_2,
        why="2 x 128 are the same 256 examples; only the memory of a pass is smaller",
        wrong=_wrong_accumulations,
    ),
    "03-one-batch": Exercise(
        notebook=NOTEBOOK,
        question="4 tokens with a mean loss of 3.0 and 60 with 1.0: what is the mean loss of all?",
        answer=lambda: (4 * 3.0 + 60 * 1.0) / 64,
        why="All 64 tokens weigh the same, so the 60 decide",
        wrong=_wrong_means,
    ),
    "03-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "This run ends worse than it began. Read its log, change one argument, and let it "
            "learn."
        ),
        # One piece of a tune an update: its gradient is mostly chance.
        point=lambda: usual_point(max_steps=40, per_device_train_batch_size=1, eval_steps=10),
        cured=_learns_on_average,
        why=(
            "What the gradient says by chance now counts less than what all examples have in common"
        ),
        cure={"gradient_accumulation_steps": 8},
        wrong=({"weight_decay": 0.1}, {"warmup_steps": 0}, {"max_steps": 20}),
    ),
}
