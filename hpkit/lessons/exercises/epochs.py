"""Exercises of notebook 04: epochs."""

from hpkit.accounting import account
from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point
from hpkit.records.grids import Point

NOTEBOOK = "04_epochs"


def _updates(**changes) -> int:
    """Updates of 5,000 examples, batch 8, accumulation 4 and 3 epochs, or with changes."""
    asked = {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4,
        "num_train_epochs": 3,
        "max_steps": -1,
    }
    recipe = usual_point(**asked | changes).recipe
    return account(recipe, 5000).updates


def _wrong_updates() -> dict[float, str]:
    batches = _updates(gradient_accumulation_steps=1)
    return {
        batches: "That counts batches. Four of them make an update",
        _updates(num_train_epochs=1): "That is one epoch",
        5000 * 3: "That counts examples read, not updates",
    }


def _wrong_fractions() -> dict[float, str]:
    updates_an_epoch = _updates(num_train_epochs=1)
    batches_an_epoch = _updates(num_train_epochs=1, gradient_accumulation_steps=1)
    return {
        100 / _updates(): "That divides by the updates of three epochs",
        100 / batches_an_epoch: "That divides by batches; four of them make an update",
        updates_an_epoch / 100: "That is upside down",
    }


def _read_too_often() -> Point:
    # An epoch has 4 updates, so 40 read each tune ten times.
    return usual_point(num_train_epochs=2, max_steps=40)._replace(corpus="airdsAirs:30")


def _reads_as_often_as_it_says(run: Run) -> str:
    # 30 tunes make 30 blocks of 128 characters.
    planned = account(run.recipe.replace(max_steps=-1), 30).updates
    before = run.eval_loss_before
    after = run.eval_loss_after
    ends = f"The evaluation loss goes from {before:.3f} to {after:.3f}"
    if run.updates > planned:
        epochs = f"{run.recipe.num_train_epochs} epochs have {planned}"
        return f"{ends}, after {run.updates} updates where {epochs}: something overrides the epochs"
    # Two readings overfit a little, which is no fault of the run's.
    if after < before + 0.1:
        return ""
    return f"{ends}: it still overfits"


EXERCISES = {
    "04-updates": Exercise(
        notebook=NOTEBOOK,
        question="5,000 examples, batch 8, accumulation 4, 3 epochs: how many updates?",
        answer=_updates,
        why="5,000 / (8 x 4), rounded up in each epoch, times 3",
        wrong=_wrong_updates,
    ),
    "04-fraction": Exercise(
        notebook=NOTEBOOK,
        question=(
            "The same data, batch and accumulation: which num_train_epochs gives 100 updates?"
        ),
        answer=lambda: 100 / _updates(num_train_epochs=1),
        why="100 of the 157 updates that an epoch has; fractions are allowed",
        wrong=_wrong_fractions,
    ),
    "04-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "This run says two epochs, and ends far above its start. Change one argument so that "
            "it reads each tune twice."
        ),
        point=_read_too_often,
        cured=_reads_as_often_as_it_says,
        why=(
            "Nothing overrides the epochs any more: 8 updates, two readings of each tune, "
            "and hardly any overfitting"
        ),
        cure={"max_steps": -1},
        wrong=({"num_train_epochs": 1}, {"learning_rate": 1e-4}),
    ),
}
