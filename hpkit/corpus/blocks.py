"""Documents to blocks of tokens, ready for the Trainer: encoding and packing."""

import bisect
from typing import NamedTuple

from hpkit.corpus.answers import NOT_COUNTED, boundary_marks, encode_answers, first_token_id
from hpkit.corpus.load import Corpus
from hpkit.errors import BadInput


class Blocks(NamedTuple):
    """Blocks ready for the Trainer, and what became of the documents that are in them.

    `blocks`: dicts of equally long lists of token ids. `cut_documents`: how many documents are not
    whole in one block. `text_share`: the share, 0 to 1, of all places that no padding fills.
    """

    blocks: list[dict]
    cut_documents: int
    text_share: float


def blocks_of(
    corpus: Corpus, tokenizer, max_seq_length: int, eval_length: int | None = None
) -> tuple[list[dict], list[dict]]:
    """(train, eval) blocks of `max_seq_length` tokens each, made by `packed`.

    Those to evaluate on are `eval_length` tokens long where it is given. Raises BadInput where the
    corpus is too small, or no answer fits into a block.
    """
    train_documents, eval_documents = corpus.split()
    train = packed(corpus, train_documents, tokenizer, max_seq_length).blocks
    evaluation = packed(corpus, eval_documents, tokenizer, eval_length or max_seq_length).blocks
    refuse_too_few(corpus, train, evaluation)
    return train, evaluation


def packed(corpus: Corpus, documents: list[str], tokenizer, max_seq_length: int) -> Blocks:
    """Some of the corpus' documents in blocks of `max_seq_length` tokens.

    Text and tunes fill every block to the last token (`pack`); rows with answers stay whole
    (`pack_whole`). Raises BadInput where no answer fits into a block.
    """
    if corpus.kind in ("tunes", "text"):
        rows = _encode_all(documents, _origins(corpus), tokenizer)
        return Blocks(
            pack(rows, max_seq_length), _cut_documents(rows, max_seq_length), text_share=1.0
        )
    examples = encode_answers(corpus.kind, documents, tokenizer)
    padding = first_token_id(tokenizer.pad_token_id, tokenizer.eos_token_id)
    blocks = _pack_answers(examples, max_seq_length, padding)
    cut = sum(len(example["input_ids"]) > max_seq_length for example in examples)
    kept = sum(len(example["input_ids"]) for example in _fitting(examples, max_seq_length))
    places = len(blocks) * max_seq_length
    return Blocks(blocks, cut, text_share=kept / max(places, 1))


def _cut_documents(rows: list[list[int]], max_seq_length: int) -> int:
    """How many rows `pack` cuts in two, or drops in part or whole at the end."""
    places = sum(map(len, rows))
    if places >= max_seq_length:
        places -= places % max_seq_length
    cut = 0
    end = 0
    for row in rows:
        start = end
        end += len(row)
        last = end - 1
        if start // max_seq_length != last // max_seq_length or end > places:
            cut += 1
    return cut


def refuse_too_few(corpus: Corpus, train: list[dict], evaluation: list[dict]) -> None:
    """Raise BadInput where there is nothing to train on, or nothing to evaluate on."""
    # `pack` makes one empty block of no documents; and one token alone predicts nothing.
    enough = [bool(blocks) and len(blocks[0]["input_ids"]) > 1 for blocks in (train, evaluation)]
    if all(enough):
        return
    if corpus.evaluation is None:
        raise BadInput(
            f"corpus {corpus.name} is too small: expected at least two documents, "
            "one to train on and one to hold out"
        )
    small = f"eval_corpus {corpus.evaluation.name}"
    if not enough[0]:
        small = f"corpus {corpus.name}"
    raise BadInput(f"{small} is too small: expected at least two tokens, for one predicts nothing")


def _pack_answers(examples: list[dict], max_seq_length: int, padding: int) -> list[dict]:
    """Whole examples in blocks. Raises BadInput where there are some and none has room."""
    blocks = pack_whole(examples, max_seq_length, padding)
    if examples and not blocks:
        shortest = min(len(example["input_ids"]) for example in examples)
        raise BadInput(
            f"max_seq_length: no answer fits into {max_seq_length} tokens; "
            f"prompt and answer of the shortest row take {shortest}"
        )
    return blocks


def encode(corpus: Corpus, tokenizer) -> tuple[list[list[int]], list[list[int]]]:
    """(train, eval) documents as token ids: beginning mark where there is one, text, end mark.

    Raises BadInput, naming file, line and character, where the tokenizer knows a character only as
    `<unk>`.
    """
    origins = _origins(corpus)
    train, held_out = corpus.split()
    return _encode_all(train, origins, tokenizer), _encode_all(held_out, origins, tokenizer)


def _origins(corpus: Corpus) -> dict[str, tuple[str, int]]:
    """Of each document, its file and line."""
    origins = dict(zip(corpus.documents, corpus.origin))
    if corpus.evaluation is not None:
        origins |= dict(zip(corpus.evaluation.documents, corpus.evaluation.origin))
    return origins


def _encode_all(documents: list[str], origins: dict, tokenizer) -> list[list[int]]:
    if not documents:  # a tokenizer takes no empty list
        return []
    before, after = boundary_marks(tokenizer)
    unknown = tokenizer.unk_token_id
    encoded = tokenizer(documents, add_special_tokens=False, verbose=False)["input_ids"]
    rows = []
    for document, tokens in zip(documents, encoded):
        if unknown is not None and unknown in tokens:
            _refuse_unknown_character(document, origins[document], tokenizer)
        rows.append([*before, *tokens, *after])
    return rows


def _refuse_unknown_character(document: str, origin: tuple[str, int], tokenizer) -> None:
    """Raise for the first character of `document` that becomes the unknown token."""
    file, first_line = origin
    for offset, character in enumerate(document):
        if tokenizer.unk_token_id in tokenizer(character, add_special_tokens=False)["input_ids"]:
            line = first_line + document[:offset].count("\n")
            # In the first line rfind gives -1, which is where a line's end before it would be.
            column = offset - document.rfind("\n", 0, offset)
            raise BadInput(
                f"{file}, line {line}, column {column}: character {character!r} "
                f"(U+{ord(character):04X}) is outside the model's alphabet and would become "
                f"{tokenizer.unk_token}, which teaches nothing: remove it, "
                "or choose a --model that has it"
            )


def pack(documents: list[list[int]], max_seq_length: int) -> list[dict[str, list[int]]]:
    """Join the documents and cut the row into blocks of exactly `max_seq_length` tokens.

    Each block has `input_ids`, `position_ids` and `labels`, all of one length, without padding.
    Positions start anew with every document: by that transformers, without a cache as in its
    Trainer, keeps the documents of a block apart: none attends to another. A document's first token
    is no label (-100), since nothing before it belongs to it, nor is a block's. The rest of the row
    is dropped, unless it is all there is.
    """
    tokens = []
    places = []  # of each token in its own document
    for document in documents:
        tokens += document
        places += range(len(document))
    starts = range(0, len(tokens) - max_seq_length + 1, max_seq_length)
    if len(tokens) < max_seq_length:
        starts = [0]
    blocks = []
    for start in starts:
        end = start + max_seq_length
        blocks.append(_block(tokens[start:end], places[start:end]))
    return blocks


def _block(tokens: list[int], places: list[int]) -> dict[str, list[int]]:
    # A document that the block's beginning cuts in two starts anew there, too.
    rest = len(places)
    if 0 in places:
        rest = places.index(0)
    positions = [*range(rest), *places[rest:]]
    labels = [token if position else NOT_COUNTED for token, position in zip(tokens, positions)]
    return {"input_ids": tokens, "position_ids": positions, "labels": labels}


def pack_whole(
    examples: list[dict[str, list[int]]], max_seq_length: int, padding: int
) -> list[dict[str, list[int]]]:
    """Blocks of exactly `max_seq_length` tokens with whole examples: an answer needs its question.

    What is longer than a block is cut off at its end, and left out where no answer remains. What
    stays free is filled with the token `padding`, which is no label and has positions of its own.
    Positions start anew with every example, as in `pack`, and by that no example attends to
    another.
    """
    groups = _grouped(_fitting(examples, max_seq_length), max_seq_length)
    return [_joined(group, max_seq_length, padding) for group in groups]


def _fitting(examples: list[dict], max_seq_length: int) -> list[dict]:
    """The examples cut off at `max_seq_length` tokens, without those that have no answer left."""
    fitting = []
    for example in examples:
        cut = {name: values[:max_seq_length] for name, values in example.items()}
        if set(cut["labels"]) - {NOT_COUNTED}:
            fitting.append(cut)
    return fitting


def _grouped(examples: list[dict], max_seq_length: int) -> list[list[dict]]:
    """The examples in groups of at most `max_seq_length` tokens: best fit, longest first.

    Each example goes where it leaves the least room.
    """
    groups = []
    room = []  # (tokens that are free, number of the group), ascending
    for example in sorted(examples, key=lambda example: -len(example["input_ids"])):
        size = len(example["input_ids"])
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


def _joined(group: list[dict], max_seq_length: int, padding: int) -> dict[str, list[int]]:
    """The examples of a group as one block."""
    block = {"input_ids": [], "position_ids": [], "labels": []}
    for example in group:
        block["input_ids"] += example["input_ids"]
        block["position_ids"] += range(len(example["input_ids"]))
        # Nothing before an example's first token belongs to it.
        block["labels"] += [NOT_COUNTED, *example["labels"][1:]]
    free = max_seq_length - len(block["input_ids"])
    block["input_ids"] += [padding] * free
    block["position_ids"] += range(free)
    block["labels"] += [NOT_COUNTED] * free
    return block
