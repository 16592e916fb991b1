"""Exercises of notebook 06: the seed."""

import statistics

from hpkit.finetune.run import Run
from hpkit.lessons.exercise import BrokenRun, Exercise, usual_point
from hpkit.records.table import load_runs

NOTEBOOK = "06_seed"


def _wrong_numbers_of_seeds() -> dict[float, str]:
    return {
        3: (
            "That divides 0.0057 by 0.0025. "
            "The spread of a mean falls with the square root of the number of seeds"
        ),
        5: "Nearly: five give 0.00255, just above",
        2: "Two seeds divide the spread by the square root of two, 1.4; it takes a factor of 2.3",
    }


def _losses_of_20_seeds() -> list[float]:
    """The evaluation losses of the recorded runs that differ by their seed alone."""
    usual = usual_point()
    runs = load_runs().at(usual.recipe, model=usual.model, corpus=usual.corpus)
    return [run.eval_loss_after for run in runs]


def _luck_of_the_best() -> float:
    losses = _losses_of_20_seeds()
    return statistics.median(losses) - min(losses)


def _wrong_lucks() -> dict[float, str]:
    losses = _losses_of_20_seeds()
    return {
        max(losses) - min(losses): (
            "That is from the worst to the best; asked is from the median to the best"
        ),
        max(losses) - statistics.median(losses): (
            "That is how far the worst lies above the median"
        ),
    }


def _better_than_before(run: Run) -> str:
    before = run.eval_loss_before
    after = run.eval_loss_after
    # Without a margin: the broken run ends further above its start than any seed could bring it.
    if after < before:
        return ""
    return (
        f"It ends at {after:.3f} and began at {before:.3f}: "
        "still worse, far outside of what 20 seeds do"
    )


EXERCISES = {
    "06-seeds-needed": Exercise(
        notebook=NOTEBOOK,
        question=(
            "Single runs have a standard deviation of 0.0057. How many seeds does it take until "
            "their mean has one of at most 0.0025?"
        ),
        # (0.0057 / 0.0025) squared is 5.2, and there is no fifth of a seed.
        answer=lambda: 6,
        why=(
            "A mean of n runs has a standard deviation of 0.0057 / sqrt(n); "
            "n = (0.0057 / 0.0025) squared is 5.2, so six"
        ),
        wrong=_wrong_numbers_of_seeds,
    ),
    "06-best-of": Exercise(
        notebook=NOTEBOOK,
        question=(
            "You train one unchanged recipe with 20 seeds and report the best. By how many nats "
            "does it look better than the median?"
        ),
        answer=_luck_of_the_best,
        why=(
            "All of it is luck: nothing was changed. "
            "It is more than what lies between 3e-4 and 1e-3 here"
        ),
        wrong=_wrong_lucks,
    ),
    "06-broken": BrokenRun(
        notebook=NOTEBOOK,
        question=(
            "The loss of this run jumps, and it ends worse than it began. Bad luck? Change one "
            "argument and let it end better than it began."
        ),
        point=lambda: usual_point(per_device_train_batch_size=1, max_steps=30, eval_steps=0.2),
        cured=_better_than_before,
        why=(
            "The seed was innocent. Updates of one short piece point anywhere; "
            "with more pieces to an update, or smaller steps, they agree"
        ),
        cure={"per_device_train_batch_size": 8},
        wrong=({"seed": 1}, {"seed": 42}, {"weight_decay": 0.0}),
    ),
}
