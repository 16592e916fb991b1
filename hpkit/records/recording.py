"""Recording grids: each run trained once, kept as a file of its own, merged into the table."""

import dataclasses
import gc
import json
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.corpus.load import Corpus, load_corpus
from hpkit.errors import BadInput
from hpkit.files import write_whole
from hpkit.finetune.checkpoints import disk_errors_are_bad_input
from hpkit.finetune.run import Run
from hpkit.finetune.stopping import StopSignal
from hpkit.finetune.training import Yardstick, train
from hpkit.model import fingerprint
from hpkit.recipe import Recipe
from hpkit.records.grids import Grid, Point
from hpkit.records.table import (
    UNREADABLE,
    from_table,
    parquet_bytes,
    read_parquet,
    recipe_values,
    short_hash,
    to_table,
    whole_table,
)

#: What every recorded run is measured with: the same 6,144 held-out tokens, whatever the run's sequence length.
YARDSTICK = Yardstick(eval_blocks=24, eval_length=256, sampled_tokens=128)

#: Loading, evaluating and sampling take about as long as training on this many tokens: for the time left alone.
_TOKENS_BESIDE = 25_000


def run_key(recipe: Recipe, model_fingerprint: str, corpus_fingerprint: str) -> str:
    """Sixteen hex digits: two runs with the same key would be the same run, measured in the same way."""
    text = json.dumps(
        [recipe_values(recipe), model_fingerprint, corpus_fingerprint, YARDSTICK], sort_keys=True
    )
    return short_hash(text.encode())


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
        tokens = account(
            point.recipe, max(characters // length, 1), length
        ).tokens  # refuses schedules that cannot run
        key = run_key(point.recipe, model, corpus)
        jobs[key] = _Job(key, point, model, corpus, tokens + _TOKENS_BESIDE, parts)
    return dict(list(jobs.items())[part[0] - 1 :: part[1]])


def _known(corpus: Corpus) -> tuple[str, int]:
    """Its fingerprint, and how many characters it has to train on."""
    return corpus.fingerprint, sum(len(document) + 2 for document in corpus.split()[0])


def _record_one(job: _Job) -> tuple[_Job, Run]:
    run = record_point(job.point)
    if (run.model_fingerprint, run.corpus_fingerprint) != (
        job.model_fingerprint,
        job.corpus_fingerprint,
    ):
        raise BadInput(
            f"model {run.model} or corpus {run.corpus} changed while runs were recorded: start again"
        )
    content = parquet_bytes(to_table([(job.key, run)]))
    file = job.parts / f"{job.key}-{short_hash(content)}.parquet"
    write_whole(file, content)
    for spoilt in {*job.parts.glob(f"{job.key}-*.parquet")} - {
        file
    }:  # else this run would not have been due
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
    tqdm.set_lock(
        threading.RLock()
    )  # its own lock is shared among processes, and left behind when a worker is stopped
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
    grids: Iterable[Grid],
    table: Path,
    parts: Path,
    processes: int = 1,
    part: tuple[int, int] = (1, 1),
    log=print,
    progress=True,
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
    say(
        f"{of}{len(jobs)} runs, {len(jobs) - len(left)} recorded, {len(left)} to train; one thread each, {processes} at a time"
    )
    again = "the same command goes on"
    with StopSignal().installed(), disk_errors_are_bad_input(parts, again):
        try:
            layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}, left {remaining}{postfix}"
            bar = tqdm(
                total=sum(job.cost for job in left),
                bar_format=layout,
                disable=not (progress and left),
            )
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
            if short_hash(content) != written:
                raise ValueError("its content is not what its name says")
            row = read_parquet(content)
            from_table(row)
            yield key, row
        except UNREADABLE as error:
            say(f"{file} is not a whole recorded run: passed over ({str(error).splitlines()[0]})")


def recorded_keys(table: Path, folders: Iterable[Path], log=print) -> set[str]:
    """The keys of all runs in the table and in folders of parts."""
    return {
        *(whole_table(table)[0]["key"].to_pylist() if table.exists() else ()),
        *(key for key, _ in _rows_of(folders, log)),
    }


def merge(table: Path, folders: Iterable[Path], log=print) -> int:
    """Add what the folders of parts hold to the table, a run once, in the order of keys; returns how many runs it has.

    Parts stay where they are: merging again changes nothing, and a table that is lost can be made anew.
    """
    import pyarrow as pa

    say = log or (lambda line: None)
    rows = {}
    if table.exists():
        old, _ = whole_table(table)
        rows = {key: old.slice(number, 1) for number, key in enumerate(old["key"].to_pylist())}
    before = len(rows)
    for key, row in _rows_of(folders, say):
        rows.setdefault(key, row)
    if len(rows) > before:
        merged = pa.concat_tables(
            [rows[key] for key in sorted(rows)], promote_options="default"
        ).combine_chunks()
        with disk_errors_are_bad_input(table, "merge again: hpkit record --merge"):
            write_whole(table, parquet_bytes(merged))
    say(f"{table}: {len(rows)} runs, {len(rows) - before} of them new")
    return len(rows)


def which_part(text: str | None) -> tuple[int, int]:
    """(i, n) from `i/n` or `/n`; what is not said comes from Slurm's job array or Kubernetes' indexed job. Raises BadInput."""
    slurm = {
        name: int(os.environ.get(f"SLURM_ARRAY_TASK_{name}") or default)
        for name, default in dict(ID=0, MIN=0, STEP=1, COUNT=0).items()
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
        hint = (
            ""
            if index
            else "; without i it must come from SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX"
        )
        raise BadInput(
            f"--part: expected i/n with i from 1 to n, got {index}/{count}{hint}; say --part /n for the number of parts"
        )
    return index, count
