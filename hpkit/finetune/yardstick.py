"""What a run is measured with: which held-out text, how much of it, and which text of old."""

from collections.abc import Sequence
from typing import NamedTuple

from hpkit.corpus.blocks import Blocks, packed, refuse_too_few
from hpkit.corpus.documents import Corpus, spread
from hpkit.corpus.load import load_corpus
from hpkit.errors import BadInput


class Yardstick(NamedTuple):
    """What a run is measured with.

    Of the held-out text, `eval_blocks` blocks of `eval_length` tokens, as far apart as they can be;
    None: all of it, in blocks of the recipe's length. A sampled tune is cut off after
    `sampled_tokens`; 0: no tune is sampled.

    `every`: (first, step), of the held-out documents every `step`-th from the `first`-th on, so
    that two yardsticks may share a corpus and no document. `old_corpus`: text that the model knew
    before; `old_blocks` blocks of what is held out of it are evaluated on as well, which shows how
    much is forgotten. `update_size`: is the size of every update measured? `all_books`: False in
    the first edition, whose blocks, and whose small training sets such as `airdsAirs:30`, were the
    first ones.
    """

    eval_blocks: int | None = None
    eval_length: int | None = None
    sampled_tokens: int = 400
    every: tuple[int, int] = (0, 1)
    old_corpus: str | None = None
    old_blocks: int | None = None
    update_size: bool = False
    all_books: bool = True

    def documents(self, held_out: list[str]) -> list[str]:
        """Those of the held-out documents that are measured on."""
        first, step = self.every
        return held_out[first::step]

    def blocks(self, blocks: Sequence) -> Sequence:
        """Those of the blocks of these documents that are measured on."""
        if self.eval_blocks is None:
            return blocks
        if self.all_books:
            return spread(blocks, self.eval_blocks)
        return list(blocks[: self.eval_blocks])


WHOLE = Yardstick()


class Measured(NamedTuple):
    """The blocks of a run: to train on, to evaluate on, and of the text of old, maybe none.

    `held_out`: those of all documents that may be evaluated on.
    """

    train: Blocks
    held_out: Blocks
    evaluation: Sequence[dict]
    old: Sequence[dict]


def blocks_by(
    yardstick: Yardstick,
    corpus: Corpus,
    tokenizer,
    max_seq_length: int,
    eval_length: int,
    packing: bool = True,
    **how,
) -> Measured:
    """The blocks to train on, of `max_seq_length` tokens, and those that the yardstick asks for.

    `eval_length`: tokens of a block to evaluate on. `packing`, of what is trained on, and `how` go
    to `packed`. Raises BadInput where the corpus is too small.
    """
    train_documents, held_out = corpus.split()
    train = packed(corpus, train_documents, tokenizer, max_seq_length, packing=packing, **how)
    try:
        measured = packed(corpus, yardstick.documents(held_out), tokenizer, eval_length, **how)
    except BadInput as error:
        raise BadInput(f"what is evaluated on: {error}") from None
    refuse_too_few(corpus, train.blocks, measured.blocks)
    old = []
    if yardstick.old_corpus:
        old_corpus = load_corpus(yardstick.old_corpus)
        _, known = old_corpus.split()
        known_blocks = packed(old_corpus, known, tokenizer, eval_length, **how).blocks
        old = spread(known_blocks, yardstick.old_blocks)
    return Measured(train, measured, yardstick.blocks(measured.blocks), old)
