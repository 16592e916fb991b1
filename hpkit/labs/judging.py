"""How often the rule for verdicts errs, and how often it sees what is there, by simulation.

Differences are in standard deviations of the paired differences: of one setting's figure less the
other's, seed by seed.
"""

from collections import Counter
from collections.abc import Sequence

from hpkit.errors import BadInput
from hpkit.records.verdict import HIGHER, LOWER, Interval, decide, paired_interval

#: With so many comparisons a share of 5 % is known to 0.4 % (two standard errors).
TRIALS = 10_000


def verdict_shares(
    seeds: int,
    true_difference: float = 0.0,
    matters: float = 1.0,
    noise: Sequence[float] | None = None,
    trials: int = TRIALS,
) -> Counter:
    """Verdict -> its share, 0 to 1, of simulated comparisons of two settings with `seeds` seeds.

    `true_difference`: how far the other setting lies above the one. `noise`: recorded figures of
    runs that differ by their seed alone, to draw from; None: the normal distribution. Raises
    BadInput for fewer than two seeds, and for noise that is none.
    """
    import numpy as np

    if seeds < 2 or (noise is not None and min(noise) == max(noise)):
        raise BadInput("expected two seeds or more, and recorded figures that differ")
    random = np.random.default_rng(seeds)
    one, other = _two_settings(random, (trials, seeds), noise)
    return _shares(paired_interval(one, other + true_difference), matters)


def _shares(intervals: Interval, matters: float = 1.0) -> Counter:
    """Verdict -> its share, of intervals whose fields are arrays."""
    verdicts = Counter(decide(Interval(*row), matters) for row in zip(*intervals))
    return Counter({verdict: count / verdicts.total() for verdict, count in verdicts.items()})


def false_alarms(seeds: int, noise: Sequence[float] | None = None, trials: int = TRIALS) -> float:
    """The share of comparisons of two settings that are the same in which the rule says lower or
    higher. `noise` as in `verdict_shares`."""
    shares = verdict_shares(seeds, noise=noise, trials=trials)
    return shares[LOWER] + shares[HIGHER]


def power(seeds: int, true_difference: float, trials: int = TRIALS) -> float:
    """The share of comparisons in which the rule says which of two settings is lower, where one
    is."""
    return verdict_shares(seeds, true_difference, trials=trials)[LOWER]


def false_alarms_by_spread(seeds: int, trials: int = TRIALS) -> float:
    """`false_alarms` of the first edition's rule: the medians lie farther apart than the seeds of
    either setting do."""
    import numpy as np

    return float((np.abs(_apart_in_spreads(seeds, 0.0, trials)) > 1).mean())


def power_by_spread(seeds: int, true_difference: float, trials: int = TRIALS) -> float:
    """`power` of the first edition's rule."""
    return float((_apart_in_spreads(seeds, true_difference, trials) > 1).mean())


def _apart_in_spreads(seeds: int, true_difference: float, trials: int):
    """How far the other setting's median lies above the one's, in spreads of the seeds."""
    import numpy as np

    random = np.random.default_rng(seeds)
    one, other = _two_settings(random, (trials, seeds), None)
    other = other + true_difference
    spread = np.maximum(np.ptp(one, axis=-1), np.ptp(other, axis=-1))
    return (np.median(other, axis=-1) - np.median(one, axis=-1)) / spread


def false_alarms_after_choosing(
    means: Sequence[float],
    deviation: float,
    choosing: int = 3,
    judging: int = 5,
    trials: int = TRIALS,
) -> float:
    """The share of false alarms of a whole study of two settings that are the same.

    `means`: the true loss at each learning rate tried; `deviation`: the standard deviation of a run
    over seeds. Each setting takes the rate with the lowest mean of its `choosing` seeds, and is
    judged there. Two that take different rates differ indeed, if by little. The two share nothing
    but the rates; real ones share their seeds, and choose alike more often.
    """
    import numpy as np

    random = np.random.default_rng(0)
    losses = []
    for _ in ("one", "other"):
        noise = random.normal(0, deviation, (trials, choosing, len(means)))
        chosen = (np.asarray(means) + noise).mean(axis=1).argmin(axis=1)
        at_best = np.asarray(means)[chosen, None]
        losses.append(at_best + random.normal(0, deviation, (trials, judging)))
    shares = _shares(paired_interval(*losses))
    return shares[LOWER] + shares[HIGHER]


def _two_settings(random, shape: tuple[int, int], noise: Sequence[float] | None):
    """Figures of two settings that are the same; the differences have standard deviation 1."""
    import numpy as np

    if noise is None:
        return random.normal(0, 0.5**0.5, shape), random.normal(0, 0.5**0.5, shape)
    recorded = np.asarray(noise, float)
    recorded = (recorded - recorded.mean()) / recorded.std() * 0.5**0.5
    return random.choice(recorded, shape), random.choice(recorded, shape)
