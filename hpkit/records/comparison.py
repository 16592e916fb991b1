"""Bands over the seeds of one setting, and comparisons of two settings."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from hpkit.errors import BadInput
from hpkit.finetune.run import LOGGED, Run
from hpkit.records.grids import load_grids
from hpkit.records.table import load_runs


class Band(NamedTuple):
    """What the seeds of one setting did at each step: lowest, median and highest.

    A loss that is no number is infinite.
    """

    steps: list[int]
    low: list[float]
    median: list[float]
    high: list[float]


def band(runs: Sequence[Run], series: str = "eval_loss") -> Band:
    """The band of one of LOGGED, such as `eval_loss` or `grad_norm`, over runs of one setting.

    Raises BadInput for no runs, an unknown series, and runs that were measured at other steps.
    """
    if not runs or series not in LOGGED:
        raise BadInput(
            f"band: expected recorded runs and one of {', '.join(LOGGED)}, "
            f"got {len(runs)} runs and {series!r}"
        )
    curves = [_curve(run, series) for run in runs]
    for curve in curves:
        if curve.keys() != curves[0].keys():
            raise BadInput(
                "band: the runs were not measured at the same steps: expected seeds of one setting"
            )
    result = Band(steps=sorted(curves[0]), low=[], median=[], high=[])
    for step in result.steps:
        values = [curve[step] for curve in curves]
        result.low.append(min(values))
        result.median.append(statistics.median(values))
        result.high.append(max(values))
    return result


def _curve(run: Run, series: str) -> dict[int, float]:
    """Step -> value, at the steps where the series was logged."""
    curve = {}
    for entry in run.history:
        if series in entry:
            curve[entry["step"]] = number_or_infinity(entry[series])
    return curve


def number_or_infinity(value: float | None) -> float:
    """The value; infinity for None and for what is no finite number."""
    # A diverged run has NaN here, and None where it went through JSON. Infinity sorts behind every
    # loss, as a loss that is lost should; NaN would make minimum and median depend on the order.
    if value is None or not math.isfinite(value):
        return math.inf
    return value


class Comparison(NamedTuple):
    """Two settings by one figure, `what`: the medians over their seeds, and the seeds' spread.

    The spread is the larger of the two ranges, in the unit of the figure.
    """

    what: str
    one: float
    other: float
    spread: float

    @property
    def larger(self) -> bool:
        """Is the difference larger than the spread? Two that both diverged do not differ."""
        # Infinity less infinity is NaN, which is larger than nothing.
        return abs(self.one - self.other) > self.spread

    def __str__(self) -> str:
        difference = 0.0
        if self.one != self.other:
            difference = abs(self.one - self.other)
        verdict = "not larger than"
        if self.larger:
            verdict = "larger than"
        return (
            f"{self.what}: {self.one:.5g} and {self.other:.5g}; "
            f"their difference, {difference:.2g}, "
            f"is {verdict} the seeds' spread, {self.spread:.2g}"
        )


def compare(one: Sequence[Run], other: Sequence[Run], what: str = "eval_loss_after") -> Comparison:
    """Compare two settings by a figure of `Run`, such as `eval_loss_after` or `bars_valid_after`.

    The spread counts finite values alone: a setting that diverged differs from one that did not.
    Raises BadInput for fewer than two seeds, which have no spread, and for runs evaluated on
    different text.
    """
    if min(len(one), len(other)) < 2:
        raise BadInput(
            f"compare: expected two seeds or more of each setting, got {len(one)} and {len(other)}"
        )
    if len({run.evaluation_fingerprint for run in (*one, *other)}) > 1:
        raise BadInput(
            "compare: the runs were evaluated on different text, so their losses do not compare"
        )
    values_of_one = [number_or_infinity(getattr(run, what)) for run in one]
    values_of_other = [number_or_infinity(getattr(run, what)) for run in other]
    return Comparison(
        what,
        one=statistics.median(values_of_one),
        other=statistics.median(values_of_other),
        spread=max(_finite_range(values_of_one), _finite_range(values_of_other)),
    )


def _finite_range(values: list[float]) -> float:
    finite = [value for value in values if value < math.inf]
    if not finite:
        return 0.0
    return max(finite) - min(finite)


class SeedsSpread(NamedTuple):
    """How far the recorded runs of the usual recipe lie apart, which differ by their seed alone.

    Evaluation losses after the run, in nats per token.
    """

    seeds: int
    lowest: float
    highest: float

    @property
    def spread(self) -> float:
        """From the lowest loss to the highest."""
        return self.highest - self.lowest

    def __str__(self) -> str:
        return (
            f"{self.seeds} recorded runs of one recipe that differ by their seed alone end between "
            f"{self.lowest:.4f} and {self.highest:.4f}, {self.spread:.4f} apart"
        )


def seeds_spread() -> SeedsSpread:
    """The spread of the grid `seeds`, read from the recorded runs. Raises BadInput without them."""
    grids = load_grids()
    if "seeds" not in grids:
        raise BadInput(f"seeds_spread: expected a grid called seeds, got {', '.join(grids)}")
    runs = load_runs().at(*grids["seeds"].points[0], seeds=grids["seeds"].seeds)
    losses = [number_or_infinity(run.eval_loss_after) for run in runs]
    if len(losses) < 2:
        raise BadInput(f"seeds_spread: expected two recorded seeds or more, got {len(losses)}")
    return SeedsSpread(len(losses), min(losses), max(losses))
