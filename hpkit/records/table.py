"""The table of recorded runs, which a slider reads: a lookup and never a guess.

A run is a row of Parquet. Its recipe and its history are columns of their own; its other tables,
such as the versions of the libraries, are JSON text.
"""

import bisect
import dataclasses
import io
import json
import typing
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.finetune.run import LOGGED, Run
from hpkit.recipe import Recipe
from hpkit.records.grids import PROJECTS_OWN

#: What reading a spoilt file of Parquet raises, between pyarrow and `Run`.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, NotImplementedError)


class Rows(Sequence):
    """The runs in the rows of pyarrow tables, each made when it is first asked for.

    Reading all of some thousand takes seconds, and most are never looked at. The tables need not
    have the same columns.
    """

    def __init__(self, tables: Iterable):
        self.tables = tuple(tables)
        self._ends = list(accumulate(table.num_rows for table in self.tables))
        self._made = {}

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place not in self._made:
            number = bisect.bisect_right(self._ends, place)
            table = self.tables[number]
            row = place - self._ends[number] + table.num_rows
            (self._made[place],) = from_table(table.slice(row, 1))
        return self._made[place]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @cached_property
    def settings(self) -> list[tuple[int, str]]:
        """(seed, setting) of each row; a recipe is made for each setting alone."""
        known = {}
        found = []
        for table in self.tables:
            columns = [table[name].to_pylist() for name in ("recipe", "model", "corpus")]
            for row, model, corpus in zip(*columns):
                values = (*(row | {"seed": 0}).items(), model, corpus)
                if values not in known:
                    known[values] = _setting(_recipe_of(row), model, corpus)
                found.append((row["seed"], known[values]))
        return found


class Runs(Sequence):
    """Recorded runs in the table's order, found by their setting."""

    def __init__(self, runs: Iterable[Run]):
        if isinstance(runs, Rows):
            self._runs = runs
            settings = runs.settings
        else:
            self._runs = tuple(runs)
            settings = [
                (run.recipe.seed, _setting(run.recipe, run.model, run.corpus)) for run in self._runs
            ]
        self._by_setting = defaultdict(list)  # setting -> (seed, place) of its runs
        for place, (seed, setting) in enumerate(settings):
            self._by_setting[setting].append((seed, place))

    def __getitem__(self, index):
        return self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def at(
        self,
        recipe: Recipe,
        model: str = "starter",
        corpus: str = "airdsAirs",
        seeds: Iterable[int] | None = None,
    ) -> list[Run]:
        """The runs of exactly this setting, by seed; an empty list where none was recorded.

        `seeds`: only these, such as a grid's own, where another grid has recorded more; None: all.
        The recipe's own seed does not matter.
        """
        found = sorted(self._by_setting.get(_setting(recipe, model, corpus), ()))
        return [self._runs[place] for seed, place in found if seeds is None or seed in seeds]


def _setting(recipe: Recipe, model: str, corpus: str) -> str:
    """What all seeds of one setting share, as a text to look them up by."""
    values = canonical_values(recipe) | {"seed": None}
    return json.dumps([values, model, corpus], sort_keys=True)


def canonical_values(recipe: Recipe) -> dict:
    """The recipe's values, so that two which mean the same are the same.

    200 and 200.0 are, and two alphas without an adapter.
    """
    values = dict(vars(recipe.in_force))
    for name, value in values.items():
        # To Python a bool is an int, and true is not 1.0.
        if isinstance(value, int) and not isinstance(value, bool):
            values[name] = float(value)
    return values


def load_runs(file: str | Path | None = None) -> Runs:
    """Read a table of recorded runs, by default the project's two: the first edition's, and the
    studies'.

    Raises BadInput where there is none, or none that is whole.
    """
    files = [file] if file else [data_folder() / name for name in PROJECTS_OWN.values()]
    tables = []
    for file in map(Path, files):
        if not file.is_file():
            raise BadInput(f"no recorded runs in {file}: record some with `hpkit record`")
        tables += read_table(file).tables
    return Runs(Rows(tables))


def joined(tables: list):
    """Several pyarrow tables in one, row after row, with today's columns."""
    import pyarrow as pa

    schema = _schema()
    of_today = []
    for table in tables:
        # Not pyarrow's own promotion: that of Colab's version fails where structs differ.
        if table.schema != schema and {*table.column_names} <= {*schema.names}:
            table = pa.Table.from_pylist(table.to_pylist(), schema=schema)
        of_today.append(table)
    return pa.concat_tables(of_today, promote_options="default")


def read_table(file: Path) -> Rows:
    """The rows of a file. Raises BadInput where it is no whole table of runs."""
    try:
        rows = Rows([from_parquet(file.read_bytes())])
        # All settings and the first run are read now: a table of something else is none.
        if rows.settings:
            rows[0]
        return rows
    except UNREADABLE as error:
        why = str(error).splitlines()[0]
        raise BadInput(
            f"{file} is not a whole table of recorded runs ({why}): "
            "move it away, then `hpkit record --merge`"
        ) from None


def to_parquet(table) -> bytes:
    """A pyarrow table as the bytes of a file, with a checksum in every page."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return file.getvalue()


def from_parquet(content: bytes):
    """The pyarrow table in the bytes of a file. Raises one of UNREADABLE where they are spoilt."""
    import pyarrow.parquet as pq

    # `read_table` would import pyarrow.dataset, which takes longer than reading all runs.
    file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
    # pyarrow's reading threads sometimes outlive Python and abort a finished process: status -6,
    # one time in ten.
    return file.read(use_threads=False)


def to_table(runs: Iterable[tuple[str, Run]]):
    """(key, run) pairs as a pyarrow table, one row a run."""
    import pyarrow as pa

    rows = []
    for key, run in runs:
        row = _dicts_as_json(vars(run))
        row["key"] = key
        row["recipe"] = _dicts_as_json(vars(run.recipe))
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=_schema())


def _schema():
    """The columns of today: the key, and the fields of `Run`."""
    import pyarrow as pa

    return pa.schema([("key", pa.string()), *_columns(Run)])


def _columns(kind: type) -> list[tuple[str, object]]:
    """(name, Arrow type) of each field of `Run` or `Recipe`."""
    return [(name, _arrow_type(hint)) for name, hint in typing.get_type_hints(kind).items()]


def _arrow_type(hint):
    """The Arrow type that holds what a field's type hint allows."""
    import pyarrow as pa

    # The parts of a hint such as `float | None`; a plain type has none.
    kinds = typing.get_args(hint) or (hint,)
    if Recipe in kinds:
        return pa.struct(_columns(Recipe))
    if list in kinds:  # the history
        logged = [(name, pa.float64()) for name in LOGGED]
        return pa.list_(pa.struct([("step", pa.int64()), *logged]))
    if float in kinds:
        return pa.float64()
    if bool in kinds:
        return pa.bool_()
    if int in kinds:
        return pa.int64()
    return pa.string()  # text, and dicts as JSON


def _dicts_as_json(values: dict) -> dict:
    encoded = dict(values)
    for name, value in values.items():
        if isinstance(value, dict):
            encoded[name] = json.dumps(value)
    return encoded


def from_table(table) -> list[Run]:
    """The rows of a pyarrow table as runs; what an older table lacks has its default."""
    json_columns = []
    for name, hint in typing.get_type_hints(Run).items():
        if hint is dict or dict in typing.get_args(hint):
            json_columns.append(name)
    required = [
        field.name for field in dataclasses.fields(Run) if field.default is dataclasses.MISSING
    ]
    runs = []
    for row in table.drop_columns("key").to_pylist():
        # Beside newer rows, a column that an older row lacks is there and empty.
        row = {name: value for name, value in row.items() if value is not None or name in required}
        row["recipe"] = _recipe_of(row["recipe"])
        row["history"] = [_without_gaps(entry) for entry in row["history"]]
        for name in json_columns:
            if name in row:
                row[name] = json.loads(row[name])
        runs.append(Run(**row))
    return runs


def _recipe_of(row: dict) -> Recipe:
    # A hyperparameter that an older row lacks is None beside newer ones; and what may be None is so
    # by default.
    row = _without_gaps(row)
    values = row | {"lr_scheduler_kwargs": json.loads(row.get("lr_scheduler_kwargs", "null"))}
    for name, value in row.items():
        # The column made a float of every number, but to transformers a whole number is a count,
        # as of warmup steps, and any other one a share.
        if isinstance(value, float) and 1 <= value < 2**32 and value.is_integer():
            values[name] = int(value)
    return Recipe(**values)


def _without_gaps(entry: dict) -> dict:
    """An entry without the None by which Arrow fills what it lacks."""
    return {name: value for name, value in entry.items() if value is not None}
