"""Recording grids: training what is planned and not yet there, several runs at a time."""

import dataclasses
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.files import disk_errors_are_bad_input
from hpkit.finetune.run import LOGGED, Run
from hpkit.finetune.stopping import StopSignal
from hpkit.finetune.training import train
from hpkit.finetune.yardstick import Yardstick
from hpkit.model import fingerprint
from hpkit.records.grids import Grid, Point
from hpkit.records.parts import merge, recorded_runs, save_part
from hpkit.records.planning import FIRST_EDITION, PlannedRun, plan


def record(
    grids: Iterable[Grid],
    table: Path,
    parts: Path,
    processes: int = 1,
    part: tuple[int, int] = (1, 1),
    log=print,
    progress=True,
) -> int:
    """Train every run of the grids that neither `table` nor `parts` has; returns how many.

    Each finished run becomes a file in the folder `parts`. In the end, or when stopped, they are
    merged into `table`, unless this is one of several parts: those merge when all are done. `log`
    takes each line of what happens; None: nobody does. Raises BadInput, and Interrupted after
    Ctrl-C.
    """
    say = log or (lambda line: None)
    grids = list(grids)
    planned = plan(grids, parts, part)
    recorded = recorded_runs(table, [parts], say)
    with StopSignal().installed(), disk_errors_are_bad_input(parts, "the same command goes on"):
        try:
            trained = _record_due(planned, recorded.keys, processes, part, say, progress)
            if any(grid.nuisance for grid in grids):
                # What judges a study is known once that which chooses is recorded.
                recorded = recorded_runs(table, [parts], None)
                planned = plan(grids, parts, part, recorded.runs)
                trained += _record_due(planned, recorded.keys, processes, part, say, progress)
        finally:
            # Also when stopped, so that what was finished can be looked at. Parts run side by side
            # and would write the table over one another.
            if part[1] == 1:
                merge(table, [parts], say)
            else:
                say(_when_all_parts_are_done(grids, parts, part[1]))
    return trained


def _record_due(
    planned: dict, recorded: frozenset, processes: int, part: tuple, say, progress
) -> int:
    """Train what is planned and not recorded; returns how many runs."""
    due = [run for key, run in planned.items() if key not in recorded]
    words = (
        f"{len(planned)} runs, {len(planned) - len(due)} recorded, {len(due)} to train; "
        f"one thread each, {processes} at a time"
    )
    number, count = part
    if count > 1:
        words = f"part {number} of {count}: {words}"
    say(words)
    _record_with_bar(due, processes, progress)
    return len(due)


def _when_all_parts_are_done(grids: list[Grid], parts: Path, count: int) -> str:
    words = f"when all {count} parts are done: hpkit record --merge {parts}"
    if any(grid.nuisance for grid in grids):
        words += ", then the same commands again for the runs that judge"
    return words


def _record_with_bar(due: list[PlannedRun], processes: int, progress: bool) -> None:
    """Record the runs. The bar counts tokens: the longest run costs thirty times the shortest."""
    from tqdm.auto import tqdm

    bar = tqdm(
        total=sum(run.cost for run in due),
        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, left {remaining}{postfix}",
        disable=not progress or not due,
    )
    # A generator that is left in the middle ends its workers when it is closed, and not before.
    with bar, closing(_record_all(due, processes)) as finished:
        bar.set_description(f"0 of {len(due)} runs")
        for count, (planned, run) in enumerate(finished, 1):
            bar.set_description(f"{count} of {len(due)} runs", refresh=False)
            bar.set_postfix_str(f"evaluation loss {run.eval_loss_after:.3f}", refresh=False)
            bar.update(planned.cost)


def _record_all(due: list[PlannedRun], processes: int) -> Iterator[tuple[PlannedRun, Run]]:
    """Record the runs and yield each when it is done. Leaving early ends the workers at once."""
    if processes == 1:
        yield from map(_record_one, due)
        return
    others = set(multiprocessing.active_children())
    # "spawn": a fork of a process that has used torch's threads may hang in the first one it needs.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start_worker)
    try:
        for future in as_completed([pool.submit(_record_one, planned) for planned in due]):
            yield future.result()
    except BaseException as error:
        # The pool itself would wait for the runs in hand, which may take minutes.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        if isinstance(error, BrokenProcessPool):
            raise BadInput(
                "a worker process died, killed or out of memory: what was recorded is there, "
                "and the same command goes on; fewer processes need less memory"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """A worker leaves Ctrl-C to its parent, computes on one thread, and never outlives it."""
    from tqdm import tqdm

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    # tqdm's own lock is shared among processes, and left behind when a worker is stopped.
    tqdm.set_lock(threading.RLock())
    parent = multiprocessing.parent_process()
    threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent) -> None:
    parent.join()
    # sys.exit would end this thread alone.
    os._exit(1)


def _record_one(planned: PlannedRun) -> tuple[PlannedRun, Run]:
    run = record_point(planned.point, yardstick=planned.yardstick)
    if planned.yardstick != FIRST_EDITION:
        run = dataclasses.replace(run, history=_rounded(run.history))
    expected = (planned.model_fingerprint, planned.corpus_fingerprint)
    if (run.model_fingerprint, run.corpus_fingerprint) != expected:
        raise BadInput(
            f"model {run.model} or corpus {run.corpus} changed while runs were recorded: "
            "start again"
        )
    save_part(planned.parts, planned.key, run)
    gc.collect()  # a Trainer and its model refer to each other
    return planned, run


def _rounded(history: list[dict]) -> list[dict]:
    """What was logged to five significant digits, enough for any picture: a third of the bytes."""
    rounded = []
    for entry in history:
        entry = dict(entry)
        for name in LOGGED:
            if entry.get(name) is not None:
                entry[name] = float(f"{entry[name]:.5g}")
        rounded.append(entry)
    return rounded


def record_point(point: Point, watch=None, yardstick: Yardstick | None = None) -> Run:
    """Train one setting now as it would be recorded, on one thread.

    `watch` is called as in `hpkit.finetune.train`. `yardstick`: what to measure it with; None: as
    in the first edition.
    """
    with _one_thread():
        run = train(point.recipe, point.model, point.corpus, yardstick or FIRST_EDITION, watch)
    return dataclasses.replace(run, model_fingerprint=fingerprint(point.model))


@contextmanager
def _one_thread():
    """One thread for torch's arithmetic, and afterwards as many as before."""
    import torch

    # The number of threads decides in which order sums are made, and so their last digits.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
