"""Exercises of notebook 12: your own run."""

from hpkit.accounting import account
from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point
from hpkit.recipe import NOTES
from hpkit.records.grids import Point

NOTEBOOK = "12_your_own_run"


def _largest_accumulation(*, batch: int, epochs: float) -> int:
    """The largest accumulation that leaves 100 updates or more of 3,000 examples."""
    examples = 3000
    # Tried one by one: the last update of an epoch may be a smaller one, which no division sees.
    recipe = NOTES.replace(per_device_train_batch_size=batch, num_train_epochs=epochs)
    largest = 0
    for steps in range(1, examples // batch + 1):
        accumulated = recipe.replace(gradient_accumulation_steps=steps)
        if account(accumulated, examples).updates >= 100:
            largest = steps
    return largest


def _wrong_accumulations() -> dict[float, str]:
    of_one_epoch = _largest_accumulation(batch=4, epochs=1)
    of_examples = _largest_accumulation(batch=1, epochs=2)
    return {
        of_one_epoch: "That is for one epoch; there are two",
        of_examples: "That counts examples. It is batches of 4 that are accumulated",
        1: "That leaves 1,500 updates: more can be accumulated",
    }


def _wrong_megabytes() -> dict[float, str]:
    return {
        100 * 2: "That is bf16. bf16=True multiplies in it; the weights stay as they were loaded",
        100 * 1: "That is 8 bits. It is the optimizer's memory that has them",
        100 * (4 + 2): (
            "That counts the optimizer's states too. "
            "They are in a checkpoint, and not in the model's file"
        ),
    }


def _fresh_at_a_small_rate() -> Point:
    # A rate for BERT (see the card of learning_rate), fifty times below that of the starter.
    usual = usual_point(max_steps=40, learning_rate=2e-5)
    return usual._replace(model="fresh")


def _learns_from_nothing(run: Run) -> str:
    if run.eval_loss_after < 3:
        return ""
    return (
        f"The evaluation loss still ends at {run.eval_loss_after:.2f}, "
        f"from {run.eval_loss_before:.2f}"
    )


EXERCISES = {
    "12-accumulation": Exercise(
        notebook=NOTEBOOK,
        question=(
            "3,000 examples, batches of 4, two epochs: the largest gradient_accumulation_steps "
            "that leaves 100 updates or more?"
        ),
        answer=lambda: _largest_accumulation(batch=4, epochs=2),
        why="3,000 / 4 = 750 batches an epoch, and 50 updates an epoch are wanted",
        wrong=_wrong_accumulations,
    ),
    "12-file": Exercise(
        notebook=NOTEBOOK,
        question=(
            "100 million parameters, loaded as float32, trained with bf16=True and adamw_8bit: "
            "how many MB has model.safetensors?"
        ),
        answer=lambda: 100 * 4,
        why=(
            "The weights stay in float32, four bytes each; "
            "bf16 is the arithmetic's format, 8 bits the optimizer's"
        ),
        wrong=_wrong_megabytes,
    ),
    "12-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "Random weights that hardly learn. Read the log, change one argument, and get below "
            "3 nats."
        ),
        point=_fresh_at_a_small_rate,
        cured=_learns_from_nothing,
        why=(
            "A rate for large pre-trained models is far too small for a small one "
            "that starts from nothing"
        ),
        cure={"learning_rate": 1e-3},
        wrong=({"warmup_steps": 0}, {"weight_decay": 0.0}, {"max_grad_norm": 10.0}),
    ),
}
