"""Bands over the seeds of one setting, and comparisons of two settings."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from hpkit.errors import BadInput
from hpkit.finetune.run import LOGGED, Run


class Band(NamedTuple):
    """What the seeds of one setting did at each step: lowest, median and highest. A loss that is no number is infinite."""

    steps: list[int]
    low: list[float]
    median: list[float]
    high: list[float]


def finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.inf


def band(runs: Sequence[Run], series: str = "eval_loss") -> Band:
    """The band of `loss`, `eval_loss`, `learning_rate` or `grad_norm` over runs of one setting. Raises BadInput."""
    if not runs or series not in LOGGED:
        raise BadInput(
            f"band: expected recorded runs and one of {', '.join(LOGGED)}, got {len(runs)} runs and {series!r}"
        )
    curves = [
        {entry["step"]: finite(entry[series]) for entry in run.history if series in entry}
        for run in runs
    ]
    if any(curve.keys() != curves[0].keys() for curve in curves):
        raise BadInput(
            "band: the runs were not measured at the same steps: expected seeds of one setting"
        )
    columns = [sorted(curve[step] for curve in curves) for step in sorted(curves[0])]
    return Band(
        sorted(curves[0]),
        [c[0] for c in columns],
        [statistics.median(c) for c in columns],
        [c[-1] for c in columns],
    )


class Comparison(NamedTuple):
    """Two settings by one figure: the medians over their seeds, and the seeds' spread, the larger of the two ranges."""

    what: str
    one: float
    other: float
    spread: float

    @property
    def larger(self) -> bool:
        """Is the difference larger than the spread? Between two that both diverged there is none."""
        return abs(self.one - self.other) > self.spread

    def __str__(self) -> str:
        difference = abs(self.one - self.other) if self.one != self.other else 0.0
        verdict = "larger than" if self.larger else "not larger than"
        return (
            f"{self.what}: {self.one:.5g} and {self.other:.5g}; their difference, {difference:.2g}, "
            f"is {verdict} the seeds' spread, {self.spread:.2g}"
        )


def compare(one: Sequence[Run], other: Sequence[Run], what: str = "eval_loss_after") -> Comparison:
    """Compare two settings by a figure of `Run`, such as `eval_loss_after` or `bars_valid_after`.

    The spread counts finite values alone: a setting that diverged differs from one that did not. Raises BadInput for
    fewer than two seeds, which have no spread, and for runs evaluated on different text.
    """
    if min(len(one), len(other)) < 2:
        raise BadInput(
            f"compare: expected two seeds or more of each setting, got {len(one)} and {len(other)}"
        )
    if len({run.evaluation_fingerprint for run in (*one, *other)}) > 1:
        raise BadInput(
            "compare: the runs were evaluated on different text, so their losses do not compare"
        )
    figures = [[finite(getattr(run, what)) for run in runs] for runs in (one, other)]
    ranges = [[value for value in values if value < math.inf] for values in figures]
    spread = max(max(values) - min(values) if values else 0.0 for values in ranges)
    return Comparison(what, *map(statistics.median, figures), spread)
