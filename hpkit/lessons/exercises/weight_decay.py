"""Exercises of notebook 05: weight decay."""

import math

from hpkit.accounting import account
from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point
from hpkit.recipe import NOTES
from hpkit.schedules import learning_rates

NOTEBOOK = "05_weight_decay"


def _wrong_parts_left() -> dict[float, str]:
    decay = 1e-3 * 0.1
    return {
        1 - 5000 * decay: (
            "That takes the same amount every time; each update takes a share of what is left"
        ),
        1 - (1 - decay) ** 5000: "That is the part that is gone",
        (1 - 0.1) ** 5000: "That forgets the learning rate: an update takes rate times decay",
    }


def _taken_by_the_notes() -> float:
    """Percent of a weight that decay takes over the notes' run on 52,000 examples."""
    updates = account(NOTES, 52_000).updates
    # The last rate is the one after the last update, with which no update is made.
    rates = learning_rates(NOTES, updates)[:-1]
    return 100 * (1 - math.prod(1 - rate * NOTES.weight_decay for rate in rates))


def _wrong_percents() -> dict[float, str]:
    taken = _taken_by_the_notes()
    at_full_rate = 100 * account(NOTES, 52_000).updates * NOTES.learning_rate * NOTES.weight_decay
    return {
        at_full_rate: (
            "That has the full rate at every update; "
            "the warmup outlasts the run, so the rate only rises to a fifth of it"
        ),
        taken / 100: "That is the share; the question asks for percent",
        taken / NOTES.weight_decay: (
            "That is the sum of the rates in percent; multiply by the decay"
        ),
    }


def _learns_in_spite_of_decay(run: Run) -> str:
    before = run.eval_loss_before
    after = run.eval_loss_after
    # By 0.02 nats runs differ that differ by their seed alone (notebook 06).
    if after < before - 0.02:
        return ""
    taken = run.recipe.learning_rate * run.recipe.weight_decay
    return (
        f"The evaluation loss goes from {before:.3f} to {after:.3f}, "
        f"the weights' length to {run.weights_norm:.0f}: "
        f"at the highest rate an update still takes {taken:.2g} of every weight"
    )


EXERCISES = {
    "05-left": Exercise(
        notebook=NOTEBOOK,
        question=(
            "Rate 1e-3, decay 0.1, gradient 0: which part of a weight is left after 5,000 updates?"
        ),
        answer=lambda: (1 - 1e-3 * 0.1) ** 5000,
        why=(
            "Each update leaves 0.9999 of it. Five thousand times that is not a half: "
            "what is taken gets smaller with the weight"
        ),
        wrong=_wrong_parts_left,
    ),
    "05-notes": Exercise(
        notebook=NOTEBOOK,
        question=(
            "The notes' recipe on 52,000 examples: how many percent of a weight has decay taken "
            "after its 408 updates?"
        ),
        answer=_taken_by_the_notes,
        why=(
            "The rates of all updates add up to 0.0042, and decay takes a hundredth of that: "
            "0.0042 percent"
        ),
        wrong=_wrong_percents,
    ),
    "05-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "Both losses of this run rise. Read its log, change one argument, and let it learn."
        ),
        # At the peak, 1e-3, an update takes a tenth of every weight.
        point=lambda: usual_point(max_steps=30, weight_decay=100),
        cured=_learns_in_spite_of_decay,
        why=(
            "Decay no longer takes more than the gradients can give back, "
            "and the evaluation loss falls"
        ),
        cure={"weight_decay": 0.01},
        wrong=({"learning_rate": 1e-4}, {"warmup_steps": 0.3}),
    ),
}
