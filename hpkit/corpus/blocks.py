"""Documents to blocks of tokens, ready for the Trainer.

Tokens are kept in numpy's arrays, four bytes each: a list of Python's numbers takes eight, and each
number an object besides.
"""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hpkit.corpus.answers import NOT_COUNTED, Example, encode_answers
from hpkit.corpus.documents import Corpus
from hpkit.corpus.encoding import Encoded, encode_all, origins_of, with_progress
from hpkit.corpus.marks import first_token_id
from hpkit.errors import BadInput


class TokenBlocks(Sequence):
    """Blocks of one length as the Trainer takes them: each a dict of lists of that length.

    `input_ids`, `position_ids` and `labels`: a label is the token itself where it counts.
    """

    def __init__(self, input_ids: np.ndarray, position_ids: np.ndarray, counted: np.ndarray):
        # All three are blocks x tokens; `counted` is true where the token is its own label.
        self.input_ids = input_ids
        self.position_ids = position_ids
        self.counted = counted

    def taught(self) -> "TokenBlocks":
        """Those of the blocks that have a label: the others teach nothing."""
        which = self.counted.any(axis=1)
        if which.all():
            return self
        return TokenBlocks(self.input_ids[which], self.position_ids[which], self.counted[which])

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, which):
        if isinstance(which, slice):
            return [self[number] for number in range(*which.indices(len(self)))]
        tokens = self.input_ids[which]
        return {
            "input_ids": tokens.tolist(),
            "position_ids": self.position_ids[which].tolist(),
            "labels": np.where(self.counted[which], tokens, NOT_COUNTED).tolist(),
        }


class PaddedBlocks(Sequence):
    """Blocks of one document each, or of a part of one; padded up to the longest when asked for.

    `rows`: the tokens of each, an array, and which of them are their own label.
    """

    def __init__(self, rows: list[tuple[np.ndarray, np.ndarray]], padding: int):
        self.rows = rows
        self.padding = padding
        self.width = max((len(tokens) for tokens, _ in rows), default=0)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which):
        if isinstance(which, slice):
            return [self[number] for number in range(*which.indices(len(self)))]
        tokens, counted = self.rows[which]
        free = self.width - len(tokens)
        return {
            "input_ids": tokens.tolist() + [self.padding] * free,
            "position_ids": list(range(self.width)),
            "labels": np.where(counted, tokens, NOT_COUNTED).tolist() + [NOT_COUNTED] * free,
        }


class Blocks(NamedTuple):
    """Blocks ready for the Trainer, and what became of the documents that are in them.

    `cut_documents`: how many documents are not whole in one block, those in none among them.
    `text_share`: the share, 0 to 1, of all places that no padding fills. `left_over`: tokens that
    are in no block, and `without_block` the documents all of whose tokens are. `without_room`: of
    rows, where those stand that have no room for an answer, and so are in no block. `joined`: how
    many answers begin within a token of their prompt.
    """

    blocks: Sequence[dict]
    cut_documents: int
    text_share: float
    left_over: int
    without_block: int = 0
    without_room: tuple[str, ...] = ()
    joined: int = 0


def blocks_of(
    corpus: Corpus, tokenizer, max_seq_length: int, eval_length: int | None = None
) -> tuple[Sequence[dict], Sequence[dict]]:
    """(train, eval) blocks of `max_seq_length` tokens each, made by `packed`.

    Those to evaluate on are `eval_length` tokens long where it is given. Raises BadInput where the
    corpus is too small, or no answer fits into a block.
    """
    train_documents, eval_documents = corpus.split()
    train = packed(corpus, train_documents, tokenizer, max_seq_length).blocks
    evaluation = packed(corpus, eval_documents, tokenizer, eval_length or max_seq_length).blocks
    refuse_too_few(corpus, train, evaluation)
    return train, evaluation


def packed(
    corpus: Corpus,
    documents: list[str],
    tokenizer,
    max_seq_length: int,
    together: bool = True,
    packing: bool = True,
    progress: bool = False,
) -> Blocks:
    """Some of the corpus' documents in blocks of `max_seq_length` tokens.

    Text and tunes fill every block to the last token (`pack`); rows with answers stay whole
    (`pack_whole`). Without `together` a block holds one document alone, or a part of it, and is as
    long as the longest needs: for models that would carry one document into the next. Without
    `packing` each document has one block, and what is longer is cut off. `progress` shows a bar.
    Raises BadInput where no answer fits into a block.
    """
    padding = first_token_id(tokenizer.pad_token_id, tokenizer.eos_token_id)
    if corpus.kind in ("tunes", "text"):
        encoded = encode_all(documents, origins_of(corpus), tokenizer, progress)
        if together and packing:
            return _pack_text(encoded, max_seq_length)
        return _one_a_block(encoded, max_seq_length, padding, in_parts=packing)
    places = {document: file for document, (file, _) in origins_of(corpus).items()}
    shown = with_progress(documents, progress)
    examples = encode_answers(corpus.kind, shown, tokenizer, places)
    fitting = []
    without_room = []
    for document, example in zip(documents, examples):
        cut_off = _cut_off(example, max_seq_length)
        if cut_off.answered:
            fitting.append(cut_off)
        else:
            without_room.append(places[document])
    if examples and not fitting:
        shortest = min(len(example.input_ids) for example in examples)
        raise BadInput(
            f"max_seq_length: no answer fits into {max_seq_length} tokens; "
            f"prompt and answer of the shortest row take {shortest}"
        )
    kept = sum(len(example.input_ids) for example in fitting)
    if together and packing:
        blocks = pack_whole(fitting, max_seq_length, padding)
        places_in_all = blocks.input_ids.size
    else:
        blocks = PaddedBlocks([_counted(example) for example in fitting], padding)
        places_in_all = len(blocks) * blocks.width
    return Blocks(
        blocks,
        cut_documents=sum(len(example.input_ids) > max_seq_length for example in examples),
        text_share=kept / max(places_in_all, 1),
        left_over=sum(len(example.input_ids) for example in examples) - kept,
        without_block=len(without_room),
        without_room=tuple(without_room),
        joined=sum(example.joined for example in fitting),
    )


def refuse_too_few(corpus: Corpus, train: Sequence[dict], evaluation: Sequence[dict]) -> None:
    """Raise BadInput where there is nothing to train on, or nothing to evaluate on."""
    # A block without a label teaches nothing, and so there is none.
    if len(train) and len(evaluation):
        return
    if corpus.evaluation is None:
        raise BadInput(
            f"corpus {corpus.name} is too small: expected at least two different documents, "
            f"one to train on and one to hold out{_how_text_is_parted(corpus)}"
        )
    small = f"eval_corpus {corpus.evaluation.name}"
    if not len(train):
        small = f"corpus {corpus.name}"
    raise BadInput(f"{small} is too small: expected at least two tokens, for one predicts nothing")


def _how_text_is_parted(corpus: Corpus) -> str:
    """How a text without blank lines becomes more than one document, where it is one."""
    if corpus.kind != "text" or len(corpus.documents) > 1 or "\n" not in corpus.documents[0]:
        return ""
    lines = corpus.documents[0].count("\n") + 1
    return (
        f"; blank lines part the documents of a text, and there is none between its {lines:,} "
        "lines: where each line is a document, put one between them (`sed G old.txt > new.txt`)"
    )


# Text and tunes.


def pack(documents: Sequence[Sequence[int]], max_seq_length: int) -> TokenBlocks:
    """Join the documents and cut the row into blocks of exactly `max_seq_length` tokens.

    Each block has `input_ids`, `position_ids` and `labels`, all of one length, without padding.
    Positions start anew with every document: by that transformers, without a cache as in its
    Trainer, keeps the documents of a block apart: none attends to another. A document's first token
    is no label (-100), since nothing before it belongs to it, nor is a block's. The rest of the row
    is dropped, unless it is all there is; so is a block without any label.
    """
    return _pack_text(_joined_up(documents), max_seq_length).blocks


def _joined_up(documents: Sequence[Sequence[int]]) -> Encoded:
    parts = [np.zeros(0, np.int32), *(np.asarray(document, np.int32) for document in documents)]
    lengths = np.array([len(document) for document in documents], np.int64)
    return Encoded(np.concatenate(parts), lengths)


def _pack_text(encoded: Encoded, max_seq_length: int) -> Blocks:
    tokens, lengths = encoded
    # What does not fill one block is a shorter one.
    width = max(min(max_seq_length, len(tokens)), 1)
    count = len(tokens) // width
    kept = count * width
    ends = np.cumsum(lengths)
    starts = ends - lengths
    positions = np.arange(kept, dtype=np.int32)
    # Of each token in the row: where its document begins, or its block where that is later, for a
    # document that the block's beginning cuts in two starts anew there. In place: each of these
    # arrays is as large as the text.
    beginnings = np.repeat(starts.astype(np.int32), lengths)[:kept]
    np.maximum(beginnings, positions - positions % width, out=beginnings)
    positions -= beginnings
    del beginnings
    positions = positions.reshape(count, width)
    counted = positions > 0
    blocks = TokenBlocks(tokens[:kept].reshape(count, width), positions, counted).taught()
    last = np.maximum(ends - 1, 0)
    cut = (lengths > 0) & ((starts // width != last // width) | (ends > kept))
    return Blocks(
        blocks,
        cut_documents=int(cut.sum()),
        text_share=1.0,
        left_over=len(tokens) - blocks.input_ids.size,
        without_block=int((starts >= kept).sum()),
    )


def _one_a_block(encoded: Encoded, max_seq_length: int, padding: int, in_parts: bool) -> Blocks:
    """Each document in blocks of its own, the rest of the last filled up with `padding`.

    A longer one has several, or, unless `in_parts`, one that is cut off.
    """
    rows = []
    left_over = 0
    without_block = 0
    for document in encoded.documents():
        end = len(document) if in_parts else max_seq_length
        left_over += max(len(document) - end, 0)
        for start in range(0, min(end, len(document)), max_seq_length):
            piece = document[start : start + max_seq_length]
            # A token alone predicts nothing.
            if len(piece) > 1:
                rows.append((piece, np.arange(len(piece)) > 0))
            else:
                left_over += len(piece)
        without_block += len(document) < 2
    blocks = PaddedBlocks(rows, padding)
    kept = len(encoded.tokens) - left_over
    return Blocks(
        blocks,
        cut_documents=int((encoded.lengths > max_seq_length).sum()),
        text_share=kept / max(len(blocks) * blocks.width, 1),
        left_over=left_over,
        without_block=without_block,
    )


# Rows with answers.


def pack_whole(examples: Sequence[Example], max_seq_length: int, padding: int) -> TokenBlocks:
    """Blocks of exactly `max_seq_length` tokens with whole examples: an answer needs its question.

    What is longer than a block is cut off at its end, and left out where no answer remains. What
    stays free is filled with the token `padding`, which is no label and has positions of its own.
    Positions start anew with every example, as in `pack`, and by that no example attends to
    another.
    """
    cut = [_cut_off(example, max_seq_length) for example in examples]
    groups = _grouped([example for example in cut if example.answered], max_seq_length)
    shape = (len(groups), max_seq_length)
    blocks = TokenBlocks(
        np.full(shape, padding, np.int32), np.zeros(shape, np.int32), np.zeros(shape, bool)
    )
    for number, group in enumerate(groups):
        end = 0
        for example in group:
            start = end
            end += len(example.input_ids)
            tokens, counted = _counted(example)
            blocks.input_ids[number, start:end] = tokens
            blocks.position_ids[number, start:end] = range(end - start)
            blocks.counted[number, start:end] = counted
        blocks.position_ids[number, end:] = range(max_seq_length - end)
    return blocks


def _cut_off(example: Example, max_seq_length: int) -> Example:
    return example._replace(
        input_ids=example.input_ids[:max_seq_length], labels=example.labels[:max_seq_length]
    )


def _counted(example: Example) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of an example, and which of them count: nothing predicts the first."""
    counted = example.labels != NOT_COUNTED
    counted[0] = False
    return example.input_ids, counted


def _grouped(examples: list[Example], max_seq_length: int) -> list[list[Example]]:
    """The examples in groups of at most `max_seq_length` tokens: best fit, longest first.

    Each example goes where it leaves the least room.
    """
    groups = []
    room = []  # (tokens that are free, number of the group), ascending
    for example in sorted(examples, key=lambda example: -len(example.input_ids)):
        size = len(example.input_ids)
        # (size,) sorts before every (size, number): this is the fullest group with room for it.
        fullest = bisect.bisect_left(room, (size,))
        if fullest < len(room):
            free, number = room.pop(fullest)
        else:
            free = max_seq_length
            number = len(groups)
            groups.append([])
        groups[number].append(example)
        bisect.insort(room, (free - size, number))
    return groups
