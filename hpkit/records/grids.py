"""What is to be compared: points of hyperparameters, and grids of them, declared in TOML."""

import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from hpkit.errors import BadInput, did_you_mean
from hpkit.files import data_folder, read_toml
from hpkit.recipe import STARTER, Recipe

#: Seeds of a study. The first choose the nuisance hyperparameters of each setting; the others,
#: which have chosen nothing and are evaluated on other tunes, judge it.
CHOOSING_SEEDS = (1, 2, 3)
JUDGING_SEEDS = (4, 5, 6, 7, 8)


class Point(NamedTuple):
    """One setting: everything that a run is made of. The seed is the recipe's."""

    recipe: Recipe
    model: str = "starter"
    corpus: str = "airdsAirs"

    def named(self) -> dict:
        """Its values by name: the hyperparameters, `model` and `corpus`."""
        return vars(self.recipe) | {"model": self.model, "corpus": self.corpus}

    def with_seed(self, seed: int) -> "Point":
        """The same setting with another seed. Raises BadInput for what is no seed."""
        return self._replace(recipe=self.recipe.replace(seed=seed))


@dataclass(frozen=True)
class Grid:
    """Settings worth comparing, each to be run with every seed.

    `asks`: the question that they answer together. In a study each axis has a role: the question is
    about the `scientific` hyperparameters, and the `nuisance` ones, such as the learning rate, are
    tuned for each of their settings; all others are fixed (Google's Deep Learning Tuning Playbook).
    `reference`: the setting that the others are held against; by default the first one.
    `samples`: are tunes sampled after each run of a study? `first_edition`: is it measured as the
    first edition's grids were?
    """

    name: str
    asks: str
    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    scientific: tuple[str, ...] = ()
    nuisance: tuple[str, ...] = ()
    reference: Mapping[str, object] = field(default_factory=dict)
    samples: bool = False
    first_edition: bool = False

    def runs(self) -> list[Point]:
        """Every run of the grid, the seeds of one point together; of a study with nuisance
        hyperparameters, those that choose them.
        """
        return [point.with_seed(seed) for point, seed in itertools.product(self.points, self.seeds)]

    @property
    def axes(self) -> dict[str, list]:
        """What varies over the points, and through which values, in the order of the points.

        The names are those of hyperparameters, `model` and `corpus`. `lr_scheduler_kwargs` is left
        out: it goes with its schedule.
        """
        values = defaultdict(list)
        for point in self.points:
            for name, value in point.named().items():
                if name != "lr_scheduler_kwargs" and value not in values[name]:
                    values[name].append(value)
        return {name: found for name, found in values.items() if len(found) > 1}

    def settings(self) -> list[dict]:
        """Each combination of values of the scientific hyperparameters that a study compares."""
        found = []
        for point in self.points:
            named = point.named()
            setting = {name: named[name] for name in self.scientific}
            if setting not in found:
                found.append(setting)
        return found

    def against(self) -> tuple[dict, list[dict]]:
        """The reference, and the settings that are held against it."""
        settings = self.settings()
        reference = dict(self.reference) or settings[0]
        return reference, [setting for setting in settings if setting != reference]

    def find(self, **values) -> list[Point]:
        """The points that have these values: one where every axis is given, or none."""
        found = []
        for point in self.points:
            # A schedule's own arguments are no axis, so they tell no two points apart here either.
            named = point.named() | {"lr_scheduler_kwargs": None}
            if values.items() <= named.items():
                found.append(point)
        return found


#: The project's own declarations and the tables of their runs, both in `data`: the first edition's
#: grids, and the studies, whose names differ.
PROJECTS_OWN = {"grids.toml": "runs.parquet", "studies.toml": "studies.parquet"}


def load_grids(file: str | Path | None = None) -> dict[str, Grid]:
    """The grids declared in a TOML file, by name; by default all of the project's own.

    Raises BadInput for a file that cannot be read, and for a grid that cannot be.
    """
    if not file:
        own = [load_grids(data_folder() / name) for name in PROJECTS_OWN]
        return {name: grid for grids in own for name, grid in grids.items()}
    file = Path(file)
    tables = read_toml(file, "grids")
    base = tables.pop("base", {})
    first_edition = tables.pop("first_edition", False)
    if not tables:
        raise BadInput(f"grids {file}: expected a table for each grid, found none")
    grids = {}
    for name, table in tables.items():
        grid = _grid_from_table(name, table, base, where=f"grid {name} of {file}")
        grids[name] = replace(grid, first_edition=first_edition is True)
    return grids


#: What a grid's table in TOML may hold, and in which form.
_KEYS_OF_A_GRID = {
    "asks": str,
    "seeds": list,
    "scientific": list,
    "nuisance": list,
    "reference": dict,
    "samples": bool,
    "points": list,
    "axes": dict,
    "recipe": dict,
    "model": str,
    "corpus": str,
}


def _grid_from_table(name: str, table: dict, base: dict, where: str) -> Grid:
    """Every combination of the axes' values with every one of `points`, upon what is fixed."""
    if not isinstance(table, dict) or not isinstance(base, dict):
        raise BadInput(f"{where}: expected a table [{name}]")
    _check_keys(table, where)
    seeds = _seeds_of(table)
    axes = table.get("axes", {})
    changes_of_points = table.get("points", [{}])
    if not seeds or not all(isinstance(values, list) and values for values in axes.values()):
        raise BadInput(f"{where}: expected seeds = [1, 2, 3], and a list of values for every axis")
    if not changes_of_points or not all(isinstance(point, dict) for point in changes_of_points):
        raise BadInput(f"{where}: expected points = [{{ name = value }}, …]")
    fixed = base | table.get("recipe", {})
    for key in ("model", "corpus"):
        if key in table:
            fixed[key] = table[key]
    points = []
    for values in itertools.product(*axes.values()):
        for changes in changes_of_points:
            # The narrower declaration wins: a point's over an axis', an axis' over what is fixed.
            points.append(_point(fixed | dict(zip(axes, values)) | changes, where))
    grid = Grid(
        name=name,
        asks=table.get("asks", ""),
        points=tuple(points),
        seeds=tuple(seeds),
        scientific=tuple(table.get("scientific", ())),
        nuisance=tuple(table.get("nuisance", ())),
        reference=table.get("reference", {}),
        samples=table.get("samples", False),
    )
    _check_roles(grid, table, where)
    # Only a recipe knows what a seed may be: making every run now refuses a bad one at once.
    grid.runs()
    return grid


def _seeds_of(table: dict) -> list[int]:
    """The seeds that a grid's table names; a study's follow from its roles."""
    if table.get("nuisance"):
        return list(CHOOSING_SEEDS)
    if table.get("scientific"):
        return list(JUDGING_SEEDS)
    return table.get("seeds", [])


def _check_roles(grid: Grid, table: dict, where: str) -> None:
    """Raise BadInput for a study in which an axis has no role or two, or a role no axis."""
    roles = [*grid.scientific, *grid.nuisance]
    if not roles and not grid.samples:
        return
    if "seeds" in table:
        raise BadInput(
            f"{where}: expected no seeds, which a study does not choose: {CHOOSING_SEEDS} tune, "
            f"{JUDGING_SEEDS} judge"
        )
    if not grid.scientific or sorted(map(str, roles)) != sorted(grid.axes):
        raise BadInput(
            f"{where}: expected each of its axes ({', '.join(grid.axes) or 'it has none'}) once in "
            "scientific (what the question is about) or in nuisance (what is tuned for each "
            f"setting); got scientific = {list(grid.scientific)}, nuisance = {list(grid.nuisance)}"
        )
    if grid.reference and grid.reference not in grid.settings():
        raise BadInput(
            f"{where}: expected as reference one of its settings, such as {grid.settings()[0]}, "
            f"got {grid.reference}"
        )
    for point in grid.points:
        named = {name: value for name, value in point.named().items() if name in roles}
        if len(grid.find(**named)) > 1:
            raise BadInput(
                f"{where}: expected each point once; two have {named} and differ, if at all, in "
                "lr_scheduler_kwargs, which goes with its schedule"
            )


def _check_keys(table: dict, where: str) -> None:
    for key, value in table.items():
        if key not in _KEYS_OF_A_GRID or not isinstance(value, _KEYS_OF_A_GRID[key]):
            raise BadInput(
                f"{where}: expected {', '.join(_KEYS_OF_A_GRID)}, each in its form; "
                f"got {key} = {value!r}{did_you_mean(key, _KEYS_OF_A_GRID)}"
            )


def _point(values: dict, where: str) -> Point:
    """The starter recipe with these values; `model` and `corpus` may be among them."""
    changes = dict(values)
    beside_the_recipe = {}
    for key in ("model", "corpus"):
        if key in changes:
            beside_the_recipe[key] = changes.pop(key)
    try:
        return Point(STARTER.replace(**changes), **beside_the_recipe)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
