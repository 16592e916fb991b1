"""Recorded runs: grids of settings, trained once and kept in a table that a slider reads, a lookup and never a guess.

A finished run is one small file, `<key>-<hash of its bytes>.parquet`, which gets its name by a rename when it is whole.
Merging puts such files into the table and can be repeated at will. The key is made of recipe, model, corpus and what was
measured with, so a run that is there is never trained again, and killing anything at any moment costs the runs in hand.
"""

import dataclasses
import gc
import hashlib
import io
import itertools
import json
import math
import multiprocessing
import os
import re
import signal
import statistics
import threading
import typing
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.corpus.load import Corpus, load_corpus
from hpkit.errors import BadInput, did_you_mean
from hpkit.files import data_folder, write_whole
from hpkit.finetune.training import LOGGED, Run, StopSignal, Yardstick, disk_errors_are_bad_input, train
from hpkit.model import fingerprint
from hpkit.recipe import STARTER, Recipe, read_toml

#: What every recorded run is measured with: the same 6,144 held-out tokens, whatever the run's sequence length.
YARDSTICK = Yardstick(eval_blocks=24, eval_length=256, sampled_tokens=128)
#: Loading, evaluating and sampling take about as long as training on this many tokens: for the time left alone.
_TOKENS_BESIDE = 25_000


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
        return [point for point in self.points if values.items() <= {**point.named(), "lr_scheduler_kwargs": None}.items()]


def load_grids(file: str | Path | None = None) -> dict[str, Grid]:
    """The grids declared in a TOML file, by name; without one those of the project, `data/grids.toml`. Raises BadInput."""
    file = Path(file) if file else data_folder() / "grids.toml"
    tables = read_toml(file, "grids")
    base = tables.pop("base", {})
    if not tables:
        raise BadInput(f"grids {file}: expected a table for each grid, found none")
    return {name: _grid(name, table, base, file) for name, table in tables.items()}


_GRID = {"asks": str, "seeds": list, "points": list, "axes": dict, "recipe": dict, "model": str, "corpus": str}


def _grid(name: str, table: dict, base: dict, file: Path) -> Grid:
    where = f"grid {name} of {file}"
    if not isinstance(table, dict) or not isinstance(base, dict):
        raise BadInput(f"{where}: expected a table [{name}]")
    for key, value in table.items():
        if key not in _GRID or not isinstance(value, _GRID[key]):
            raise BadInput(f"{where}: expected {', '.join(_GRID)}, each in its form; got {key} = {value!r}{did_you_mean(key, _GRID)}")
    seeds, axes, points = table.get("seeds"), table.get("axes", {}), table.get("points", [{}])
    if not seeds or not all(isinstance(values, list) and values for values in axes.values()):
        raise BadInput(f"{where}: expected seeds = [1, 2, 3], and a list of values for every axis")
    if not points or not all(isinstance(point, dict) for point in points):
        raise BadInput(f"{where}: expected points = [{{ name = value }}, …]")
    fixed = base | table.get("recipe", {}) | {key: table[key] for key in ("model", "corpus") if key in table}
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


# What is the same run: told by values, not by how they are written (200 or 200.0).


def _values(recipe: Recipe) -> dict:
    plain = vars(recipe).items()
    return {name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value for name, value in plain}


def _setting(recipe: Recipe, model: str, corpus: str) -> str:
    return json.dumps([_values(recipe) | {"seed": None}, model, corpus], sort_keys=True)


def run_key(recipe: Recipe, model_fingerprint: str, corpus_fingerprint: str) -> str:
    """Sixteen hex digits: two runs with the same key would be the same run, measured in the same way."""
    text = json.dumps([_values(recipe), model_fingerprint, corpus_fingerprint, YARDSTICK], sort_keys=True)
    return _hash(text.encode())


# Runs as rows of Parquet: recipe and history as they are, other tables as JSON text.


def _column(hint):
    import pyarrow as pa

    kinds = set(typing.get_args(hint) or (hint,))
    if Recipe in kinds:
        return pa.struct([(name, _column(kind)) for name, kind in typing.get_type_hints(Recipe).items()])
    if list in kinds:
        return pa.list_(pa.struct([("step", pa.int64()), *((name, pa.float64()) for name in LOGGED)]))
    plain = {float: pa.float64(), bool: pa.bool_(), int: pa.int64(), str: pa.string(), dict: pa.string()}
    return next(column for kind, column in plain.items() if kind in kinds)


def _plain(values: dict) -> dict:
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}


def _parquet(table) -> bytes:
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return file.getvalue()


def _read(content: bytes):
    import pyarrow.parquet as pq

    # pyarrow's reading threads sometimes outlive Python and abort a finished process: status -6, one time in ten.
    # `read_table` would import pyarrow.dataset, which takes longer than reading all runs.
    return pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read(use_threads=False)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


#: What reading a spoilt file of Parquet raises, between pyarrow and `Run`.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, NotImplementedError)


def to_table(runs: Iterable[tuple[str, Run]]):
    """(key, run) pairs as a pyarrow table, one row a run."""
    import pyarrow as pa

    schema = pa.schema([("key", pa.string()), *((name, _column(hint)) for name, hint in typing.get_type_hints(Run).items())])
    rows = [{"key": key} | _plain(vars(run) | {"recipe": None}) | {"recipe": _plain(vars(run.recipe))} for key, run in runs]
    return pa.Table.from_pylist(rows, schema=schema)


def from_table(table) -> list[Run]:
    """The rows of a pyarrow table as runs; what an older table lacks has its default."""
    tables = [name for name, hint in typing.get_type_hints(Run).items() if hint is dict]
    decode = {text: json.loads(text) for name in tables for text in table[name].unique().to_pylist()}
    runs = []
    for row in table.drop_columns("key").to_pylist():
        recipe = row.pop("recipe")
        recipe["lr_scheduler_kwargs"] = json.loads(recipe["lr_scheduler_kwargs"] or "null")
        for name, value in recipe.items():  # transformers counts whole numbers and takes others as shares
            if isinstance(value, float) and 1 <= value < 2**32 and value.is_integer():
                recipe[name] = int(value)
        row |= {name: decode[row[name]] for name in tables}
        row["history"] = [{name: value for name, value in entry.items() if value is not None} for entry in row["history"]]
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

    def at(self, recipe: Recipe, model: str = "starter", corpus: str = "airdsAirs", seeds: Iterable[int] | None = None) -> list[Run]:
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
    return Runs(_whole_table(file)[1])


class Band(NamedTuple):
    """What the seeds of one setting did at each step: lowest, median and highest. A loss that is no number is infinite."""

    steps: list[int]
    low: list[float]
    median: list[float]
    high: list[float]


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.inf


def band(runs: Sequence[Run], series: str = "eval_loss") -> Band:
    """The band of `loss`, `eval_loss`, `learning_rate` or `grad_norm` over runs of one setting. Raises BadInput."""
    if not runs or series not in LOGGED:
        raise BadInput(f"band: expected recorded runs and one of {', '.join(LOGGED)}, got {len(runs)} runs and {series!r}")
    curves = [{entry["step"]: _finite(entry[series]) for entry in run.history if series in entry} for run in runs]
    if any(curve.keys() != curves[0].keys() for curve in curves):
        raise BadInput("band: the runs were not measured at the same steps: expected seeds of one setting")
    columns = [sorted(curve[step] for curve in curves) for step in sorted(curves[0])]
    return Band(sorted(curves[0]), [c[0] for c in columns], [statistics.median(c) for c in columns], [c[-1] for c in columns])


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
        raise BadInput(f"compare: expected two seeds or more of each setting, got {len(one)} and {len(other)}")
    if len({run.evaluation_fingerprint for run in (*one, *other)}) > 1:
        raise BadInput("compare: the runs were evaluated on different text, so their losses do not compare")
    figures = [[_finite(getattr(run, what)) for run in runs] for runs in (one, other)]
    ranges = [[value for value in values if value < math.inf] for values in figures]
    spread = max(max(values) - min(values) if values else 0.0 for values in ranges)
    return Comparison(what, *map(statistics.median, figures), spread)


# Recording.


class _Job(NamedTuple):
    """A run to be recorded: key, setting, what the fingerprints must be, cost as so many tokens, and where its file goes."""

    key: str
    point: Point
    model_fingerprint: str
    corpus_fingerprint: str
    cost: int
    parts: Path


def record_point(point: Point, watch=None) -> Run:
    """Train one setting now as it would be recorded, on one thread; `watch` as in `hpkit.finetune.train`."""
    with _one_thread():
        run = train(point.recipe, point.model, point.corpus, YARDSTICK, watch)
    return dataclasses.replace(run, model_fingerprint=fingerprint(point.model))


def plan(grids: Iterable[Grid], parts: Path, part: tuple[int, int] = (1, 1)) -> dict[str, _Job]:
    """The runs of the grids by key, each once however many grids share it; of part (i, n) every n-th from the i-th on.

    Raises BadInput for a model, corpus or schedule that cannot be.
    """
    points = [point for grid in grids for point in grid.runs()]
    models = {name: fingerprint(name) for name in {point.model for point in points}}
    corpora = {name: _known(load_corpus(name)) for name in {point.corpus for point in points}}
    jobs = {}
    for point in points:
        model, (corpus, characters) = models[point.model], corpora[point.corpus]
        length = point.recipe.max_seq_length or 512
        tokens = account(point.recipe, max(characters // length, 1), length).tokens  # refuses schedules that cannot run
        key = run_key(point.recipe, model, corpus)
        jobs[key] = _Job(key, point, model, corpus, tokens + _TOKENS_BESIDE, parts)
    return dict(list(jobs.items())[part[0] - 1 :: part[1]])


def _known(corpus: Corpus) -> tuple[str, int]:
    """Its fingerprint, and how many characters it has to train on."""
    return corpus.fingerprint, sum(len(document) + 2 for document in corpus.split()[0])


def _record_one(job: _Job) -> tuple[_Job, Run]:
    run = record_point(job.point)
    if (run.model_fingerprint, run.corpus_fingerprint) != (job.model_fingerprint, job.corpus_fingerprint):
        raise BadInput(f"model {run.model} or corpus {run.corpus} changed while runs were recorded: start again")
    content = _parquet(to_table([(job.key, run)]))
    file = job.parts / f"{job.key}-{_hash(content)}.parquet"
    write_whole(file, content)
    for spoilt in {*job.parts.glob(f"{job.key}-*.parquet")} - {file}:  # else this run would not have been due
        spoilt.unlink(missing_ok=True)
    gc.collect()  # a Trainer and its model refer to each other
    return job, run


@contextmanager
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start_worker() -> None:
    """A worker leaves Ctrl-C to its parent, starts no threads for arithmetic, and never outlives its parent."""
    from tqdm import tqdm

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    tqdm.set_lock(threading.RLock())  # its own lock is shared among processes, and left behind when a worker is stopped
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _record_all(jobs: list[_Job], processes: int) -> Iterator[tuple[_Job, Run]]:
    """Record the jobs and yield each when it is done. Leaving early ends the workers at once."""
    if processes == 1:
        yield from map(_record_one, jobs)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start_worker)
    try:
        for future in as_completed([pool.submit(_record_one, job) for job in jobs]):
            yield future.result()
    except BaseException as error:
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        if isinstance(error, BrokenProcessPool):
            raise BadInput(
                "a worker process died, killed or out of memory: what was recorded is there, and the same command goes on; "
                "fewer --processes need less memory"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def record(
    grids: Iterable[Grid], table: Path, parts: Path, processes: int = 1, part: tuple[int, int] = (1, 1), log=print, progress=True
) -> int:
    """Train every run of the grids that neither `table` nor `parts` has, and return how many that were.

    Each finished run becomes a file in the folder `parts`. In the end, or when stopped, they are merged into `table`,
    unless this is one of several parts: those merge when all are done. Raises BadInput, and Interrupted after Ctrl-C.
    """
    from tqdm.auto import tqdm

    say = log or (lambda line: None)
    jobs = plan(grids, parts, part)
    done = recorded_keys(table, [parts], say)
    left = [job for key, job in jobs.items() if key not in done]
    of = f"part {part[0]} of {part[1]}: " if part[1] > 1 else ""
    say(f"{of}{len(jobs)} runs, {len(jobs) - len(left)} recorded, {len(left)} to train; one thread each, {processes} at a time")
    again = "the same command goes on"
    with StopSignal().installed(), disk_errors_are_bad_input(parts, again):
        try:
            layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}, left {remaining}{postfix}"
            bar = tqdm(total=sum(job.cost for job in left), bar_format=layout, disable=not (progress and left))
            with bar, closing(_record_all(left, processes)) as finished:
                bar.set_description(f"0 of {len(left)} runs")
                for count, (job, run) in enumerate(finished, 1):
                    bar.set_description(f"{count} of {len(left)} runs", refresh=False)
                    bar.set_postfix_str(f"evaluation loss {run.eval_loss_after:.3f}", refresh=False)
                    bar.update(job.cost)
        finally:
            if part[1] == 1:
                merge(table, [parts], say)
            else:
                say(f"when all {part[1]} parts are done: hpkit record --merge {parts}")
    return len(left)


def _rows_of(folders: Iterable[Path], say) -> Iterator[tuple[str, object]]:
    """(key, one-row table) of each whole part; one that cannot be read is named and passed over."""
    for file in sorted(file for folder in folders for file in folder.glob("*.parquet")):
        key, _, written = file.stem.partition("-")
        try:
            content = file.read_bytes()
            if _hash(content) != written:
                raise ValueError("its content is not what its name says")
            row = _read(content)
            from_table(row)
            yield key, row
        except _UNREADABLE as error:
            say(f"{file} is not a whole recorded run: passed over ({str(error).splitlines()[0]})")


def recorded_keys(table: Path, folders: Iterable[Path], log=print) -> set[str]:
    """The keys of all runs in the table and in folders of parts."""
    return {*(_whole_table(table)[0]["key"].to_pylist() if table.exists() else ()), *(key for key, _ in _rows_of(folders, log))}


def _whole_table(file: Path) -> tuple[object, list[Run]]:
    """The table in the file, and its runs."""
    try:
        table = _read(file.read_bytes())
        return table, from_table(table)
    except _UNREADABLE as error:
        why = str(error).splitlines()[0]
        raise BadInput(f"{file} is not a whole table of recorded runs ({why}): move it away, then `hpkit record --merge`") from None


def merge(table: Path, folders: Iterable[Path], log=print) -> int:
    """Add what the folders of parts hold to the table, a run once, in the order of keys; returns how many runs it has.

    Parts stay where they are: merging again changes nothing, and a table that is lost can be made anew.
    """
    import pyarrow as pa

    say = log or (lambda line: None)
    rows = {}
    if table.exists():
        old, _ = _whole_table(table)
        rows = {key: old.slice(number, 1) for number, key in enumerate(old["key"].to_pylist())}
    before = len(rows)
    for key, row in _rows_of(folders, say):
        rows.setdefault(key, row)
    if len(rows) > before:
        merged = pa.concat_tables([rows[key] for key in sorted(rows)], promote_options="default").combine_chunks()
        with disk_errors_are_bad_input(table, "merge again: hpkit record --merge"):
            write_whole(table, _parquet(merged))
    say(f"{table}: {len(rows)} runs, {len(rows) - before} of them new")
    return len(rows)


def which_part(text: str | None) -> tuple[int, int]:
    """(i, n) from `i/n` or `/n`; what is not said comes from Slurm's job array or Kubernetes' indexed job. Raises BadInput."""
    slurm = {
        name: int(os.environ.get(f"SLURM_ARRAY_TASK_{name}") or default) for name, default in dict(ID=0, MIN=0, STEP=1, COUNT=0).items()
    }
    if os.environ.get("SLURM_ARRAY_TASK_ID"):
        index, count = (slurm["ID"] - slurm["MIN"]) // slurm["STEP"] + 1, slurm["COUNT"]
    elif os.environ.get("JOB_COMPLETION_INDEX"):
        index, count = int(os.environ["JOB_COMPLETION_INDEX"]) + 1, 0
    else:
        index, count = 0, 0
    if text is None and not index:
        return 1, 1
    match = re.fullmatch(r"(\d*)/(\d+)", text or f"/{count}")
    if not match:
        raise BadInput(f"--part: expected i/n, such as 1/4, got {text!r}")
    index, count = int(match[1] or index), int(match[2])
    if not 1 <= index <= count:
        hint = "" if index else "; without i it must come from SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX"
        raise BadInput(f"--part: expected i/n with i from 1 to n, got {index}/{count}{hint}; say --part /n for the number of parts")
    return index, count
