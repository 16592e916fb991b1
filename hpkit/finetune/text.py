"""The text of a run: its blocks, as this model can read them, and the account of its documents."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from hpkit.corpus.documents import Corpus
from hpkit.corpus.ledger import Ledger, ledger_of
from hpkit.errors import BadInput
from hpkit.finetune.yardstick import Measured, Yardstick, blocks_by
from hpkit.leaks import keeps_documents_apart
from hpkit.model import context_length
from hpkit.recipe import Recipe


class Text(NamedTuple):
    """`blocks` to train and to evaluate on; `ledger` of the corpus, and of one to evaluate on."""

    blocks: Measured
    ledger: Ledger
    eval_ledger: Ledger | None


def text_for(
    model, tokenizer, recipe: Recipe, corpus: Corpus, yardstick: Yardstick, progress: bool = False
) -> Text:
    """The corpus in blocks for `model`; `progress` shows a bar where that takes long.

    Several documents share a block, unless the model would carry one into the next. Raises
    BadInput.
    """
    length = _sequence_length(recipe, model)
    eval_length = min(yardstick.eval_length or length, context_length(model) or math.inf)
    together = keeps_documents_apart(model)
    blocks = blocks_by(
        yardstick,
        corpus,
        tokenizer,
        length,
        eval_length,
        packing=recipe.packing,
        together=together,
        progress=progress,
    )
    if corpus.evaluation is None:
        parts = [blocks.train, blocks.held_out]
        ledger = ledger_of(corpus, parts, tokenizer, together, recipe.packing)
        return Text(blocks, ledger, None)
    ledger = ledger_of(corpus, [blocks.train], tokenizer, together, recipe.packing)
    eval_ledger = ledger_of(corpus.evaluation, [blocks.held_out], tokenizer, together)
    return Text(blocks, ledger, eval_ledger)


def _sequence_length(recipe: Recipe, model) -> int:
    """Tokens of a block: the recipe's, or the model's context where the recipe says nothing."""
    context = context_length(model)
    if recipe.max_seq_length is None and context is None:
        raise BadInput(
            "max_seq_length: the model's config does not say how long its sequences may be; "
            "give a number"
        )
    if context is not None and (recipe.max_seq_length or 0) > context:
        raise BadInput(
            f"max_seq_length: expected at most {context} tokens, the model's context, "
            f"got {recipe.max_seq_length}"
        )
    return recipe.max_seq_length or context


def fingerprint_of(blocks: Sequence[dict]) -> str:
    """Twelve hex digits of the tokens and labels of blocks; the same ones have the same."""
    digest = hashlib.sha256(b"[")
    # As JSON of all of them together would be, without ever holding it whole.
    for number, block in enumerate(blocks):
        before = ", " if number else ""
        digest.update(f"{before}{json.dumps([block['input_ids'], block['labels']])}".encode())
    digest.update(b"]")
    return digest.hexdigest()[:12]
