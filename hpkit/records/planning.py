"""Planning: which runs the grids ask for, what each is measured with, the key it is known by."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hpkit.accounting import account
from hpkit.corpus.load import load_corpus
from hpkit.finetune.yardstick import WHOLE, Yardstick
from hpkit.model import fingerprint
from hpkit.recipe import Recipe
from hpkit.records.grids import CHOOSING_SEEDS, Grid, Point
from hpkit.records.parts import short_hash
from hpkit.records.studies import judging_runs
from hpkit.records.table import Runs, canonical_values

#: What every run of the first edition is measured with: the same 6,144 held-out tokens, whatever
#: the run's sequence length.
FIRST_EDITION = Yardstick(eval_blocks=24, eval_length=256, sampled_tokens=128, all_books=False)
#: What the runs of a study that choose are measured with: 4,096 tokens of every other held-out tune
#: of all books, and 1,024 of what the starter was trained on.
CHOOSING = Yardstick(
    eval_blocks=16,
    eval_length=256,
    sampled_tokens=0,
    every=(0, 2),
    old_corpus="oneills1850",
    old_blocks=4,
    update_size=True,
)
#: The runs that judge are measured with the held-out tunes in between.
JUDGING = CHOOSING._replace(every=(1, 2))
#: Where a study asks for samples.
SAMPLED_TOKENS = 128

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


def yardstick_of(grid: Grid, seed: int) -> Yardstick:
    """What a run of the grid with this seed is measured with."""
    if grid.first_edition:
        return FIRST_EDITION
    yardstick = JUDGING
    if grid.scientific and seed in CHOOSING_SEEDS:
        yardstick = CHOOSING
    if grid.samples:
        return yardstick._replace(sampled_tokens=SAMPLED_TOKENS)
    return yardstick


class PlannedRun(NamedTuple):
    """A run to be recorded.

    The fingerprints are what those of model and corpus must still be after the training. `cost`:
    its time, as so many tokens. `parts`: the folder where its file goes.
    """

    key: str
    point: Point
    yardstick: Yardstick
    model_fingerprint: str
    corpus_fingerprint: str
    cost: int
    parts: Path


def run_key(
    recipe: Recipe,
    model_fingerprint: str,
    corpus_fingerprint: str,
    yardstick: Yardstick = FIRST_EDITION,
) -> str:
    """Sixteen hex digits: two runs with the same key would be the same run, measured alike."""
    # Recorded tables are found by these keys: another spelling here would train every run anew. So
    # a hyperparameter that Recipe did not have when the first runs were recorded is spelt only
    # where it is not at its default.
    values = canonical_values(recipe)
    for field in dataclasses.fields(recipe):
        if field.name not in KEYED_FROM_THE_START and values[field.name] == field.default:
            del values[field.name]
    # So with the yardstick; of the first edition's there was no more than three numbers.
    measured_with = {}
    for name, value in yardstick._asdict().items():
        if value != getattr(WHOLE, name):
            measured_with[name] = value
    if yardstick == FIRST_EDITION:
        measured_with = yardstick[:3]
    text = json.dumps(
        [values, model_fingerprint, corpus_fingerprint, measured_with], sort_keys=True
    )
    return short_hash(text.encode())


def plan(
    grids: Iterable[Grid],
    parts: Path,
    part: tuple[int, int] = (1, 1),
    runs: Runs | None = None,
) -> dict[str, PlannedRun]:
    """The runs of the grids by key, each once however many grids share it.

    Which runs judge a study is known once those that choose are among `runs`, the recorded ones.
    Of part (i, n) every n-th from the i-th on. Raises BadInput for a model, corpus or schedule that
    cannot be.
    """
    wanted = []
    for grid in grids:
        points = grid.runs()
        if runs is not None:
            points += judging_runs(grid, runs)
        wanted += [(point, yardstick_of(grid, point.recipe.seed)) for point in points]
    # Hundreds of points share a handful of models and corpora, and reading one takes a while.
    model_fingerprint = functools.cache(fingerprint)
    corpus_to_train_on = functools.cache(_corpus_to_train_on)
    planned = {}
    for point, yardstick in wanted:
        corpus_fingerprint, characters = corpus_to_train_on(point.corpus, yardstick.all_books)
        # A character is a token to the starter's tokenizer, and near enough for the time left.
        length = point.recipe.max_seq_length or 512
        sequences = max(characters // length, 1)
        tokens = account(point.recipe, sequences, length).tokens  # refuses impossible schedules
        measured_with = yardstick
        if yardstick.old_corpus:
            # Not its name: the same key means the same text.
            old_fingerprint, _ = corpus_to_train_on(yardstick.old_corpus, all_books=True)
            measured_with = yardstick._replace(old_corpus=old_fingerprint)
        model = model_fingerprint(point.model)
        key = run_key(point.recipe, model, corpus_fingerprint, measured_with)
        planned[key] = PlannedRun(
            key=key,
            point=point,
            yardstick=yardstick,
            model_fingerprint=model,
            corpus_fingerprint=corpus_fingerprint,
            cost=tokens + _TOKENS_BESIDE,
            parts=parts,
        )
    first, step = part
    return dict(itertools.islice(planned.items(), first - 1, None, step))


def _corpus_to_train_on(name: str, all_books: bool) -> tuple[str, int]:
    """(fingerprint of the corpus, how many characters and marks it has to train on)."""
    corpus = load_corpus(name, all_books=all_books)
    train_documents, _ = corpus.split()
    # Each document has a mark at its beginning and one at its end.
    return corpus.fingerprint, sum(len(document) + 2 for document in train_documents)
