"""What is to be compared: points of hyperparameters, and grids of them, declared in TOML."""

import itertools
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hpkit.errors import BadInput, did_you_mean
from hpkit.files import data_folder, read_toml
from hpkit.recipe import STARTER, Recipe


class Point(NamedTuple):
    """One setting: everything that a run is made of. The seed is the recipe's."""

    recipe: Recipe
    model: str = "starter"
    corpus: str = "airdsAirs"

    def named(self) -> dict:
        return vars(self.recipe) | {"model": self.model, "corpus": self.corpus}

    def with_seed(self, seed: int) -> "Point":
        return self._replace(recipe=self.recipe.replace(seed=seed))


@dataclass(frozen=True)
class Grid:
    """Settings worth comparing, each to be run with every seed. `asks`: the question that they answer together."""

    name: str
    asks: str
    points: tuple[Point, ...]
    seeds: tuple[int, ...]

    def runs(self) -> list[Point]:
        """Every run of the grid, the seeds of one point together."""
        return [point.with_seed(seed) for point in self.points for seed in self.seeds]

    @property
    def axes(self) -> dict[str, list]:
        """What varies over the points, and through which values: hyperparameters, `model`, `corpus`.

        `lr_scheduler_kwargs` is left out: it goes with its schedule.
        """
        values = defaultdict(list)
        for point in self.points:
            for name, value in point.named().items():
                if name != "lr_scheduler_kwargs" and value not in values[name]:
                    values[name].append(value)
        return {name: found for name, found in values.items() if len(found) > 1}

    def find(self, **values) -> list[Point]:
        """The points that have these values: one where every axis is given, none where the grid has no such point."""
        return [
            point
            for point in self.points
            if values.items() <= {**point.named(), "lr_scheduler_kwargs": None}.items()
        ]


def load_grids(file: str | Path | None = None) -> dict[str, Grid]:
    """The grids declared in a TOML file, by name; without one those of the project, `data/grids.toml`. Raises BadInput."""
    file = Path(file) if file else data_folder() / "grids.toml"
    tables = read_toml(file, "grids")
    base = tables.pop("base", {})
    if not tables:
        raise BadInput(f"grids {file}: expected a table for each grid, found none")
    return {name: _grid(name, table, base, file) for name, table in tables.items()}


_GRID = {
    "asks": str,
    "seeds": list,
    "points": list,
    "axes": dict,
    "recipe": dict,
    "model": str,
    "corpus": str,
}


def _grid(name: str, table: dict, base: dict, file: Path) -> Grid:
    where = f"grid {name} of {file}"
    if not isinstance(table, dict) or not isinstance(base, dict):
        raise BadInput(f"{where}: expected a table [{name}]")
    for key, value in table.items():
        if key not in _GRID or not isinstance(value, _GRID[key]):
            raise BadInput(
                f"{where}: expected {', '.join(_GRID)}, each in its form; got {key} = {value!r}{did_you_mean(key, _GRID)}"
            )
    seeds, axes, points = table.get("seeds"), table.get("axes", {}), table.get("points", [{}])
    if not seeds or not all(isinstance(values, list) and values for values in axes.values()):
        raise BadInput(f"{where}: expected seeds = [1, 2, 3], and a list of values for every axis")
    if not points or not all(isinstance(point, dict) for point in points):
        raise BadInput(f"{where}: expected points = [{{ name = value }}, …]")
    fixed = (
        base
        | table.get("recipe", {})
        | {key: table[key] for key in ("model", "corpus") if key in table}
    )
    made = []
    for values in itertools.product(*axes.values()):
        for point in points:
            changes = fixed | dict(zip(axes, values)) | point
            rest = {key: changes.pop(key) for key in ("model", "corpus") if key in changes}
            try:
                made.append(Point(STARTER.replace(**changes), **rest))
            except BadInput as error:
                raise BadInput(f"{where}: {error}") from None
    grid = Grid(name, table.get("asks", ""), tuple(made), tuple(seeds))
    grid.runs()  # the seeds are checked like everything else
    return grid
