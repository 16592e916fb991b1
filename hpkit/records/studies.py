"""Studies: each setting at its own best nuisance values, judged by seeds that chose nothing."""

import math
from typing import NamedTuple

from hpkit.errors import BadInput
from hpkit.formatting import shown
from hpkit.records.grids import CHOOSING_SEEDS, JUDGING_SEEDS, Grid, Point
from hpkit.records.table import Runs
from hpkit.records.verdict import Difference, difference, figure_of, refuse_different_text


class Choice(NamedTuple):
    """One setting of a study at its best.

    `tried`: every point of the setting, with its mean evaluation loss over the choosing seeds;
    `point` is the one where it is lowest, and `best` its values of the nuisance hyperparameters.
    Where a study has none, `tried` and `best` are empty. `at_edge`: which of `best` is the lowest
    or highest value tried, in words, because a better one may lie beyond.
    """

    setting: dict
    point: Point
    best: dict
    tried: tuple[tuple[Point, float], ...]
    at_edge: tuple[str, ...]

    def __str__(self) -> str:
        words = _listed(self.setting)
        if self.best:
            words += f" at its best {_listed(self.best)}"
        if self.at_edge:
            words += f" ({'; '.join(self.at_edge)}: a better one may lie beyond)"
        return words


class Judgement(NamedTuple):
    """Two settings of a study, each at its best, and what the judging seeds say of them."""

    one: Choice
    other: Choice
    difference: Difference

    def __str__(self) -> str:
        return f"{self.one} against {self.other}. {self.difference}."


def choose(grid: Grid, runs: Runs, **setting) -> Choice:
    """The best nuisance values of one setting, by the seeds and the tunes that choose.

    Raises BadInput for a setting that the study does not have, and where a run is missing.
    """
    if setting not in grid.settings():
        settings = "; ".join(map(_listed, grid.settings())) or "none: it is no study"
        raise BadInput(
            f"grid {grid.name}: expected one of its settings ({settings}), got {_listed(setting)}"
        )
    points = grid.find(**setting)
    if not grid.nuisance:
        return Choice(setting, points[0], {}, (), ())
    tried = []
    for point in points:
        found = _recorded(grid, runs, point, CHOOSING_SEEDS)
        refuse_different_text(found)
        losses = [figure_of(run) for run in found]
        tried.append((point, sum(losses) / len(losses)))
    point, lowest = min(tried, key=lambda point_and_loss: point_and_loss[1])
    named = point.named()
    best = {name: named[name] for name in grid.nuisance}
    at_edge = []
    if not math.isfinite(lowest):
        at_edge.append("some seed diverged wherever it was tried")
    for name, value in best.items():
        values = [other.named()[name] for other in points]
        # A schedule or an optimizer has no neighbours, and neither has a yes or no.
        if isinstance(value, int | float) and not isinstance(value, bool):
            at_edge += _edge(name, value, values)
    return Choice(setting, point, best, tuple(tried), tuple(at_edge))


def _edge(name: str, value: float, values: list[float]) -> list[str]:
    """Words for a value at the edge of those tried; none for one between others."""
    shares = [tried for tried in values if 0 < tried < 1]
    if name.endswith("_steps") and 0 < len(shares) < len(values):
        # To transformers 0.1 is a share of the run and 5 a count: they have no order.
        return []
    if min(values) == max(values):
        return [f"{name} {shown(value)} is the only one tried"]
    if value == min(values):
        return [f"{name} {shown(value)} is the lowest tried"]
    if value == max(values):
        return [f"{name} {shown(value)} is the highest tried"]
    return []


def judging_runs(grid: Grid, runs: Runs) -> list[Point]:
    """The runs that judge a study's settings, of each one whose choosing runs are all recorded.

    None where nothing is to be chosen: there the grid's own runs judge.
    """
    judging = []
    if grid.nuisance:
        for setting in grid.settings():
            points = grid.find(**setting)
            if all(_missing(runs, point, CHOOSING_SEEDS) == [] for point in points):
                best = choose(grid, runs, **setting).point
                judging += [best.with_seed(seed) for seed in JUDGING_SEEDS]
    return judging


def judging_to_come(grid: Grid, runs: Runs) -> int:
    """How many runs will judge a study that cannot be planned yet."""
    if not grid.nuisance:
        return 0
    return len(grid.settings()) * len(JUDGING_SEEDS) - len(judging_runs(grid, runs))


def judge(
    grid: Grid,
    runs: Runs,
    one: dict,
    other: dict,
    what: str = "eval_loss_after",
    matters: float | None = None,
) -> Judgement:
    """Compare two settings of a study, each at its own best nuisance values.

    `one` and `other` name all scientific hyperparameters, such as `{"optim": "adamw_8bit"}`. `what`
    and `matters` as in `hpkit.records.difference`. Raises BadInput for a setting that the study
    does not have, and where a run is missing.
    """
    choice = choose(grid, runs, **one)
    other_choice = choose(grid, runs, **other)
    found = difference(
        _recorded(grid, runs, choice.point, JUDGING_SEEDS),
        _recorded(grid, runs, other_choice.point, JUDGING_SEEDS),
        what,
        matters,
    )
    return Judgement(choice, other_choice, found)


def verdicts(grid: Grid, runs: Runs) -> list[Judgement]:
    """Each setting of a study against its reference; none for other grids, and none until all that
    judges is recorded."""
    if not grid.scientific or judging_to_come(grid, runs):
        return []
    points = [choose(grid, runs, **setting).point for setting in grid.settings()]
    if any(_missing(runs, point, JUDGING_SEEDS) for point in points):
        return []
    reference, others = grid.against()
    return [judge(grid, runs, other, reference) for other in others]


def _recorded(grid: Grid, runs: Runs, point: Point, seeds: tuple[int, ...]) -> list:
    """The runs of a point with these seeds, every one. Raises BadInput where one is missing."""
    missing = _missing(runs, point, seeds)
    if missing:
        raise BadInput(
            f"grid {grid.name}: with seeds {missing} no run is recorded at {point.recipe}, "
            f"{point.model}, {point.corpus}: hpkit record --grid {grid.name}"
        )
    by_seed = {}
    # Where another study asked for samples too, there are two runs, which differ in nothing else.
    for run in sorted(runs.at(*point, seeds=seeds), key=lambda run: run.tunes_parsed_after or -1):
        by_seed[run.recipe.seed] = run
    return [by_seed[seed] for seed in seeds]


def _missing(runs: Runs, point: Point, seeds: tuple[int, ...]) -> list[int]:
    recorded = {run.recipe.seed for run in runs.at(*point, seeds=seeds)}
    return [seed for seed in seeds if seed not in recorded]


def _listed(values: dict) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in values.items())
