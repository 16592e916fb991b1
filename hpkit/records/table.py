"""Recorded runs: grids of settings, trained once and kept in a table that a slider reads, a lookup and never a guess.

A finished run is one small file, `<key>-<hash of its bytes>.parquet`, which gets its name by a rename when it is whole.
Merging puts such files into the table and can be repeated at will. The key is made of recipe, model, corpus and what was
measured with, so a run that is there is never trained again, and killing anything at any moment costs the runs in hand.
"""

import hashlib
import io
import json
import typing
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.finetune.run import LOGGED, Run
from hpkit.recipe import Recipe

# What is the same run: told by values, not by how they are written (200 or 200.0).


def recipe_values(recipe: Recipe) -> dict:
    plain = vars(recipe).items()
    return {
        name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in plain
    }


def _setting(recipe: Recipe, model: str, corpus: str) -> str:
    return json.dumps([recipe_values(recipe) | {"seed": None}, model, corpus], sort_keys=True)


# Runs as rows of Parquet: recipe and history as they are, other tables as JSON text.


def _column(hint):
    import pyarrow as pa

    kinds = set(typing.get_args(hint) or (hint,))
    if Recipe in kinds:
        return pa.struct(
            [(name, _column(kind)) for name, kind in typing.get_type_hints(Recipe).items()]
        )
    if list in kinds:
        return pa.list_(
            pa.struct([("step", pa.int64()), *((name, pa.float64()) for name in LOGGED)])
        )
    plain = {
        float: pa.float64(),
        bool: pa.bool_(),
        int: pa.int64(),
        str: pa.string(),
        dict: pa.string(),
    }
    return next(column for kind, column in plain.items() if kind in kinds)


def _plain(values: dict) -> dict:
    return {
        name: json.dumps(value) if isinstance(value, dict) else value
        for name, value in values.items()
    }


def parquet_bytes(table) -> bytes:
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return file.getvalue()


def read_parquet(content: bytes):
    import pyarrow.parquet as pq

    # pyarrow's reading threads sometimes outlive Python and abort a finished process: status -6, one time in ten.
    # `read_table` would import pyarrow.dataset, which takes longer than reading all runs.
    return pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read(
        use_threads=False
    )


def short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


#: What reading a spoilt file of Parquet raises, between pyarrow and `Run`.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, NotImplementedError)


def to_table(runs: Iterable[tuple[str, Run]]):
    """(key, run) pairs as a pyarrow table, one row a run."""
    import pyarrow as pa

    schema = pa.schema(
        [
            ("key", pa.string()),
            *((name, _column(hint)) for name, hint in typing.get_type_hints(Run).items()),
        ]
    )
    rows = [
        {"key": key} | _plain(vars(run) | {"recipe": None}) | {"recipe": _plain(vars(run.recipe))}
        for key, run in runs
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def from_table(table) -> list[Run]:
    """The rows of a pyarrow table as runs; what an older table lacks has its default."""
    tables = [name for name, hint in typing.get_type_hints(Run).items() if hint is dict]
    decode = {
        text: json.loads(text) for name in tables for text in table[name].unique().to_pylist()
    }
    runs = []
    for row in table.drop_columns("key").to_pylist():
        recipe = row.pop("recipe")
        recipe["lr_scheduler_kwargs"] = json.loads(recipe["lr_scheduler_kwargs"] or "null")
        for (
            name,
            value,
        ) in recipe.items():  # transformers counts whole numbers and takes others as shares
            if isinstance(value, float) and 1 <= value < 2**32 and value.is_integer():
                recipe[name] = int(value)
        row |= {name: decode[row[name]] for name in tables}
        row["history"] = [
            {name: value for name, value in entry.items() if value is not None}
            for entry in row["history"]
        ]
        runs.append(Run(recipe=Recipe(**recipe), **row))
    return runs


# Reading: lookups, bands over seeds, comparisons.


class Runs(Sequence):
    """Recorded runs in the table's order, found by their setting."""

    def __init__(self, runs: Iterable[Run]):
        self._runs = tuple(runs)
        self._by_setting = defaultdict(list)
        for run in sorted(self._runs, key=lambda run: run.recipe.seed):
            self._by_setting[_setting(run.recipe, run.model, run.corpus)].append(run)

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

        `seeds`: only these, such as a grid's own, where another grid has recorded more; None: all. The recipe's own seed
        does not matter.
        """
        found = self._by_setting.get(_setting(recipe, model, corpus), ())
        return [run for run in found if seeds is None or run.recipe.seed in seeds]


def load_runs(file: str | Path | None = None) -> Runs:
    """Read the table of recorded runs, by default the project's, `data/runs.parquet`. Raises BadInput."""
    file = Path(file) if file else data_folder() / "runs.parquet"
    if not file.is_file():
        raise BadInput(f"no recorded runs in {file}: record some with `hpkit record`")
    return Runs(whole_table(file)[1])


def whole_table(file: Path) -> tuple[object, list[Run]]:
    """The table in the file, and its runs."""
    try:
        table = read_parquet(file.read_bytes())
        return table, from_table(table)
    except UNREADABLE as error:
        why = str(error).splitlines()[0]
        raise BadInput(
            f"{file} is not a whole table of recorded runs ({why}): move it away, then `hpkit record --merge`"
        ) from None
