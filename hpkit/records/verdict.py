"""The rule by which two settings are judged, in one place. In words (data/METHOD.md has more):

Both settings are run with the same seeds, and one is subtracted from the other, seed by seed. The
mean of these differences has a 95 % interval, Student's t of paired samples.

1. The interval excludes 0: *lower* or *higher*, by at least the end that is nearer to 0.
2. It includes 0, and neither end is farther away than the smallest difference that matters: *no
   difference larger than* the end that is farther away.
3. Otherwise it *cannot be told* with so many seeds.

A diverged run has no loss. Where all runs of one setting diverged, three or more, and none of the
other, the other one is lower; any other mixture cannot be told.
"""

import functools
import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_UP, Decimal
from typing import NamedTuple

from hpkit.errors import BadInput
from hpkit.finetune.run import Run
from hpkit.formatting import plural
from hpkit.records.comparison import number_or_infinity

#: Of the interval; so a difference that is none is called one in at most 5 comparisons of 100.
CONFIDENCE = 0.95
#: The smallest difference that could have been seen is seen in this share of comparisons.
POWER = 0.8
#: The smallest difference of losses that matters, in nats per token: a perplexity 1 % lower.
MATTERS = 0.01
#: Were a run to diverge by the toss of a coin, three seeds would mislead in 3 of 100 comparisons.
FEWEST_DIVERGED = 3

LOWER = "lower"
HIGHER = "higher"
NONE = "no difference"
UNKNOWN = "cannot be told"


class Interval(NamedTuple):
    """Of paired differences: their mean, its standard error, and the two ends of its interval."""

    mean: float
    error: float
    low: float
    high: float


def paired_interval(one, other) -> Interval:
    """The interval of `one` less `other` along the last axis, of at least two finite pairs.

    Arrays of any equal shapes; each field of the result has the shape without its last axis.
    """
    import numpy as np
    from scipy import stats

    differences = np.asarray(one, float) - np.asarray(other, float)
    mean = differences.mean(axis=-1)
    pairs = differences.shape[-1]
    error = differences.std(axis=-1, ddof=1) / math.sqrt(pairs)
    # The two-sided quantile: 2.776 for five pairs, which have four degrees of freedom.
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, pairs - 1)
    return Interval(mean, error, mean - quantile * error, mean + quantile * error)


def decide(interval: Interval, matters: float = MATTERS) -> str:
    """LOWER, HIGHER, NONE or UNKNOWN, by the rule above."""
    if interval.high < 0:
        return LOWER
    if interval.low > 0:
        return HIGHER
    if max(-interval.low, interval.high) <= matters:
        return NONE
    return UNKNOWN


@functools.cache
def _detectable_in_errors(pairs: int) -> float:
    """How many standard errors a true difference must have to be seen with probability POWER.

    By the noncentral t distribution: 3.76 for five pairs.
    """
    from scipy import optimize, stats

    freedom = pairs - 1
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, freedom)

    def power_beyond_what_is_asked(errors: float) -> float:
        return stats.nct.sf(quantile, freedom, errors) - POWER

    # With two pairs the quantile is 12.7, and 16 errors are needed.
    return optimize.brentq(power_beyond_what_is_asked, 0, 100)


class Difference(NamedTuple):
    """One setting less another, by one figure of runs with the same seeds.

    `one` and `other`: the means over the seeds. `interval`: None where a run has diverged;
    `detectable`: the smallest true difference that these seeds, with this spread, would have shown
    in 80 of 100 such comparisons. `diverged`: how many runs of the one and of the other.
    """

    what: str
    seeds: tuple[int, ...]
    one: float
    other: float
    interval: Interval | None
    detectable: float | None
    diverged: tuple[int, int]
    matters: float

    @property
    def verdict(self) -> str:
        """LOWER, HIGHER, NONE or UNKNOWN."""
        if self.interval is not None:
            return decide(self.interval, self.matters)
        # Of other figures, such as valid bars, nobody can say on which side a lost one lies.
        if "loss" not in self.what or len(self.seeds) < FEWEST_DIVERGED:
            return UNKNOWN
        if self.diverged == (0, len(self.seeds)):
            return LOWER
        if self.diverged == (len(self.seeds), 0):
            return HIGHER
        return UNKNOWN

    def __str__(self) -> str:
        seeds = plural(len(self.seeds), "seed")
        if self.interval is None:
            one, other = self.diverged
            return f"{self.what}: {one} and {other} of {seeds} diverged: {self._words()}"
        low = _two_digits(self.interval.low, ROUND_FLOOR)
        high = _two_digits(self.interval.high, ROUND_CEILING)
        return (
            f"{self.what}: {self.one:.4f} and {self.other:.4f}, means of {seeds}; the difference "
            f"is {self.interval.mean:+.2g} ({low:+.2g} to {high:+.2g}): {self._words()}. "
            f"A difference of {outward(self.detectable)} would probably have been seen"
        )

    def _words(self) -> str:
        """The verdict with its numbers, rounded so that it stays true."""
        verdict = self.verdict
        if verdict == UNKNOWN:
            return f"it {UNKNOWN} with {plural(len(self.seeds), 'seed')}"
        if self.interval is None:
            return verdict
        near, far = sorted((abs(self.interval.low), abs(self.interval.high)))
        if verdict == NONE:
            return f"{NONE} larger than {outward(far)}"
        return f"{verdict} by at least {inward(near)} and at most {outward(far)}"


def inward(value: float) -> str:
    """Two significant digits, never more than the value: `0.0031` of 0.003199."""
    return f"{_two_digits(value, ROUND_DOWN):.2g}"


def outward(value: float) -> str:
    """Two significant digits, never less than the value: `0.0032` of 0.00311."""
    return f"{_two_digits(value, ROUND_UP):.2g}"


def _two_digits(value: float, rounding: str) -> float:
    exact = Decimal(str(float(value)))
    if not exact:
        return 0.0
    last = Decimal(1).scaleb(exact.adjusted() - 1)
    return float(exact.quantize(last, rounding))


def difference(
    one: Sequence[Run],
    other: Sequence[Run],
    what: str = "eval_loss_after",
    matters: float | None = None,
) -> Difference:
    """Judge runs of two settings by a figure of `Run`, such as `eval_loss_after`.

    `matters`: the smallest difference that does, in the unit of the figure; of losses MATTERS where
    nothing is said. Raises BadInput for fewer than two seeds, for seeds that are not the same, for
    runs evaluated on different text, and for a figure that is none or was not measured.
    """
    if matters is None:
        if "loss" not in what:
            raise BadInput(f"difference: expected how large a difference of {what} matters")
        matters = MATTERS
    values_of_one = _by_seed(one, what)
    values_of_other = _by_seed(other, what)
    if values_of_one.keys() != values_of_other.keys() or len(values_of_one) < 2:
        raise BadInput(
            "difference: expected the same two seeds or more of each setting, "
            f"got {sorted(values_of_one)} and {sorted(values_of_other)}"
        )
    refuse_different_text((*one, *other))
    seeds = tuple(sorted(values_of_one))
    first = [values_of_one[seed] for seed in seeds]
    second = [values_of_other[seed] for seed in seeds]
    diverged = (_count_lost(first), _count_lost(second))
    interval = None
    detectable = None
    if diverged == (0, 0):
        interval = Interval(*map(float, paired_interval(first, second)))
        detectable = _detectable_in_errors(len(seeds)) * interval.error
    return Difference(
        what=what,
        seeds=seeds,
        one=sum(first) / len(first),
        other=sum(second) / len(second),
        interval=interval,
        detectable=detectable,
        diverged=diverged,
        matters=matters,
    )


def refuse_different_text(runs: Sequence[Run]) -> None:
    """Raise BadInput for runs whose losses do not compare, or of which nobody knows."""
    texts = {run.evaluation_fingerprint for run in runs}
    if len(texts) > 1 or None in texts:
        raise BadInput(
            "the runs were evaluated on different text, or on text that nobody noted, so their "
            "losses do not compare"
        )


def _by_seed(runs: Sequence[Run], what: str) -> dict[int, float]:
    """Seed -> figure of runs of one setting, infinite where the run has diverged."""
    values = {}
    for run in runs:
        seed = run.recipe.seed
        here = (run.recipe.in_force.replace(seed=0), run.model, run.corpus)
        first = (runs[0].recipe.in_force.replace(seed=0), runs[0].model, runs[0].corpus)
        if seed in values or here != first:
            raise BadInput(
                "difference: expected one setting, with each seed once; "
                f"got seed {seed} twice, or runs that differ in more than their seed"
            )
        values[seed] = figure_of(run, what)
    return values


def figure_of(run: Run, what: str = "eval_loss_after") -> float:
    """A figure of the run, infinite where it has diverged. Raises BadInput for what is none."""
    if run.diverged:
        return math.inf
    value = getattr(run, what, None)
    if not isinstance(value, int | float):
        raise BadInput(f"{what!r} of seed {run.recipe.seed} is no number that was measured")
    return number_or_infinity(value)


def _count_lost(values: list[float]) -> int:
    return sum(value == math.inf for value in values)
