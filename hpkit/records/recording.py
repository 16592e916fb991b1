"""Recording grids: what is to be trained, each run once, and training it, several at a time."""

import dataclasses
import functools
import gc
import itertools
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.corpus.load import load_corpus
from hpkit.errors import BadInput
from hpkit.files import disk_errors_are_bad_input
from hpkit.finetune.run import Run, Yardstick
from hpkit.finetune.stopping import StopSignal
from hpkit.finetune.training import train
from hpkit.model import fingerprint
from hpkit.recipe import Recipe
from hpkit.records.grids import Grid, Point
from hpkit.records.parts import merge, recorded_keys, save_part, short_hash
from hpkit.records.table import canonical_values

#: What every recorded run is measured with: the same 6,144 held-out tokens, whatever the run's
#: sequence length.
YARDSTICK = Yardstick(eval_blocks=24, eval_length=256, sampled_tokens=128)

#: Loading, evaluating and sampling take about as long as training on this many tokens: for the time
#: left alone.
_TOKENS_BESIDE = 25_000


#: The hyperparameters of the first recorded runs, whose keys spell all of them.
KEYED_FROM_THE_START = frozenset(
    """per_device_train_batch_size gradient_accumulation_steps max_seq_length num_train_epochs
    max_steps learning_rate warmup_steps lr_scheduler_type lr_scheduler_kwargs weight_decay
    max_grad_norm optim adam_beta1 adam_beta2 adam_epsilon bf16 fp16 dtype seed logging_strategy
    logging_steps eval_strategy eval_steps save_strategy save_steps save_total_limit""".split()
)


class PlannedRun(NamedTuple):
    """A run to be recorded.

    The fingerprints are what those of model and corpus must still be after the training. `cost`:
    its time, as so many tokens. `parts`: the folder where its file goes.
    """

    key: str
    point: Point
    model_fingerprint: str
    corpus_fingerprint: str
    cost: int
    parts: Path


def run_key(recipe: Recipe, model_fingerprint: str, corpus_fingerprint: str) -> str:
    """Sixteen hex digits: two runs with the same key would be the same run, measured alike."""
    # Recorded tables are found by these keys: another spelling here would train every run anew. So
    # a hyperparameter that Recipe did not have when the first runs were recorded is spelt only
    # where it is not at its default.
    values = canonical_values(recipe)
    for field in dataclasses.fields(recipe):
        if field.name not in KEYED_FROM_THE_START and getattr(recipe, field.name) == field.default:
            del values[field.name]
    text = json.dumps([values, model_fingerprint, corpus_fingerprint, YARDSTICK], sort_keys=True)
    return short_hash(text.encode())


def plan(
    grids: Iterable[Grid], parts: Path, part: tuple[int, int] = (1, 1)
) -> dict[str, PlannedRun]:
    """The runs of the grids by key, each once however many grids share it.

    Of part (i, n) every n-th from the i-th on. Raises BadInput for a model, corpus or schedule that
    cannot be.
    """
    points = []
    for grid in grids:
        points += grid.runs()
    # Hundreds of points share a handful of models and corpora, and reading one takes a while.
    model_fingerprint = functools.cache(fingerprint)
    corpus_to_train_on = functools.cache(_corpus_to_train_on)
    planned = {}
    for point in points:
        corpus_fingerprint, characters = corpus_to_train_on(point.corpus)
        # A character is a token to the starter's tokenizer, and near enough for the time left.
        length = point.recipe.max_seq_length or 512
        sequences = max(characters // length, 1)
        tokens = account(point.recipe, sequences, length).tokens  # refuses impossible schedules
        key = run_key(point.recipe, model_fingerprint(point.model), corpus_fingerprint)
        planned[key] = PlannedRun(
            key=key,
            point=point,
            model_fingerprint=model_fingerprint(point.model),
            corpus_fingerprint=corpus_fingerprint,
            cost=tokens + _TOKENS_BESIDE,
            parts=parts,
        )
    first, step = part
    return dict(itertools.islice(planned.items(), first - 1, None, step))


def _corpus_to_train_on(name: str) -> tuple[str, int]:
    """(fingerprint of the corpus, how many characters and marks it has to train on)."""
    corpus = load_corpus(name)
    train_documents, _ = corpus.split()
    # Each document has a mark at its beginning and one at its end.
    return corpus.fingerprint, sum(len(document) + 2 for document in train_documents)


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
    number, count = part
    planned = plan(grids, parts, part)
    done = recorded_keys(table, [parts], say)
    due = [run for key, run in planned.items() if key not in done]
    summary = (
        f"{len(planned)} runs, {len(planned) - len(due)} recorded, {len(due)} to train; "
        f"one thread each, {processes} at a time"
    )
    if count > 1:
        summary = f"part {number} of {count}: {summary}"
    say(summary)
    with StopSignal().installed(), disk_errors_are_bad_input(parts, "the same command goes on"):
        try:
            _record_with_bar(due, processes, progress)
        finally:
            # Also when stopped, so that what was finished can be looked at. Parts run side by side
            # and would write the table over one another.
            if count == 1:
                merge(table, [parts], say)
            else:
                say(f"when all {count} parts are done: hpkit record --merge {parts}")
    return len(due)


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
    run = record_point(planned.point)
    expected = (planned.model_fingerprint, planned.corpus_fingerprint)
    if (run.model_fingerprint, run.corpus_fingerprint) != expected:
        raise BadInput(
            f"model {run.model} or corpus {run.corpus} changed while runs were recorded: "
            "start again"
        )
    save_part(planned.parts, planned.key, run)
    gc.collect()  # a Trainer and its model refer to each other
    return planned, run


def record_point(point: Point, watch=None) -> Run:
    """Train one setting now as it would be recorded, on one thread.

    `watch` is called as in `hpkit.finetune.train`.
    """
    with _one_thread():
        run = train(point.recipe, point.model, point.corpus, YARDSTICK, watch)
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
