"""The settings of a grid as a widget moves them: recorded ones, and those that nobody has trained.

A setting is told by its values of the grid's axes, a dictionary; everything else of it is what the
grid's points have in common.
"""

import math
import statistics

from hpkit.finetune.run import Run
from hpkit.formatting import shown, shown_rate
from hpkit.records.grids import Grid, Point
from hpkit.records.table import Runs


class GridSettings:
    """The settings of `grid`, and the runs of them that `runs` has.

    `axes`: the hyperparameters that differ between them, `model` and `corpus` included.
    """

    def __init__(self, grid: Grid, runs: Runs):
        self.grid = grid
        self.runs = runs
        self.axes = grid.axes

    def values_of(self, point: Point) -> dict:
        """The point's value on each axis of the grid."""
        return {name: value for name, value in point.named().items() if name in self.axes}

    def name_of(self, point: Point) -> str:
        """A setting in words: each axis with its value."""
        return self.named(self.values_of(point))

    @staticmethod
    def named(values: dict) -> str:
        """A setting in words."""
        return ", ".join(f"{name} {shown_value(name, value)}" for name, value in values.items())

    def most_like(self, usual: Point) -> Point:
        """The grid's point that has most values of the axes in common with this one."""

        def likeness(point: Point) -> int:
            values = point.named()
            return sum(values[name] == usual.named()[name] for name in self.axes)

        return max(self.grid.points, key=likeness)

    def point_of(self, values: dict) -> Point:
        """The setting with these values for all axes, recorded or not. Raises BadInput."""
        found = self.grid.find(**values)
        if found:
            return found[0]
        base = self._point_of_schedule(values.get("lr_scheduler_type"))
        changes = {name: _whole_or_share(value) for name, value in values.items()}
        # Of a point, model and corpus are its own, and the rest its recipe's.
        own = {name: changes.pop(name) for name in ("model", "corpus") if name in changes}
        return base._replace(recipe=base.recipe.replace(**changes), **own)

    def _point_of_schedule(self, schedule: str | None) -> Point:
        """A point of the grid with this schedule: its lr_scheduler_kwargs are no axis."""
        for point in self.grid.points:
            if schedule is None or point.recipe.lr_scheduler_type == schedule:
                return point
        return self.grid.points[0]

    def recorded_at(self, point: Point) -> list[Run]:
        """The runs of a setting with the grid's seeds: other grids may have recorded more."""
        return self.runs.at(*point, seeds=self.grid.seeds)

    def usual_seconds(self) -> float | None:
        """How long a training took where the grid's runs were recorded; None where none was."""
        seconds = []
        for point in self.grid.points:
            seconds += [run.train_seconds for run in self.recorded_at(point)]
        if not seconds:
            return None
        return statistics.median(seconds)


def same_setting(one: Point, other: Point) -> bool:
    """Are the two one setting? The seed does not count."""
    return one.with_seed(0) == other.with_seed(0)


def shown_value(name: str, value) -> str:
    """The value of an axis as it is written: `1.0e-3` of a learning rate, `true`, `adamw_8bit`."""
    if name == "learning_rate":
        return shown_rate(value)
    return shown(value)


def brief(values: dict, names: list[str]) -> str:
    """The values alone; of true and false the names as well, or nobody could say of what."""
    words = []
    for name in names:
        said = shown_value(name, values[name])
        words.append(f"{name} {said}" if isinstance(values[name], bool) else said)
    return ", ".join(words)


def stop_between(low: float, high: float) -> float:
    """A round number between two, to be tried: half-way by ratio.

    Between powers of two another one, or three quarters of the higher.
    """
    if _power_of_two(low) and _power_of_two(high):
        doublings = round(math.log2(high / low))
        if doublings % 2 == 0:
            return low * 2 ** (doublings // 2)
        return 3 * high // 4
    if not low:  # from zero there is no ratio
        return _whole_or_share(high / 2)
    return _whole_or_share(float(f"{math.sqrt(low * high):.1g}"))


def _power_of_two(value: float) -> bool:
    # One bit alone: one less has all the lower ones, and shares none with it.
    return isinstance(value, int) and value > 0 and value & (value - 1) == 0


def _whole_or_share(value):
    """transformers counts whole numbers and takes others as shares: 8.0 is to be 8."""
    if isinstance(value, float) and value >= 1 and value.is_integer():
        return int(value)
    return value
