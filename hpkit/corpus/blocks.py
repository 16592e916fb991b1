"""Documents to blocks of tokens, ready for the Trainer: encoding and packing."""

from hpkit.corpus.answers import encode_answers, pack_whole
from hpkit.corpus.load import Corpus
from hpkit.errors import BadInput


def blocks_of(
    corpus: Corpus, tokenizer, max_seq_length: int, eval_length: int | None = None
) -> tuple[list[dict], list[dict]]:
    """(train, eval) blocks ready for the Trainer, in tokens; those to evaluate on are `eval_length` long where it is given.

    Text and tunes fill every block to the last token (`pack`); rows with answers stay whole (`hpkit.corpus.answers.pack_whole`).
    Raises BadInput where the corpus is too small, or no answer fits into a block.
    """
    lengths = max_seq_length, eval_length or max_seq_length
    if corpus.kind in ("tunes", "text"):
        blocks = [
            pack(documents, length) for documents, length in zip(encode(corpus, tokenizer), lengths)
        ]
        enough = all(len(side[0]["input_ids"]) > 1 for side in blocks)
    else:
        padding = next(
            (i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0
        )
        sides = [encode_answers(corpus.kind, documents, tokenizer) for documents in corpus.split()]
        blocks = [pack_whole(examples, length, padding) for examples, length in zip(sides, lengths)]
        enough = all(blocks)
        for examples, packed, length in zip(sides, blocks, lengths):
            if examples and not packed:
                shortest = min(len(example["input_ids"]) for example in examples)
                raise BadInput(
                    f"max_seq_length: no answer fits into {length} tokens; prompt and answer of the shortest row take {shortest}"
                )
    if not enough:
        raise BadInput(
            f"corpus {corpus.name} is too small: expected at least two documents, one to train on and one to hold out"
        )
    return tuple(blocks)


def encode(corpus: Corpus, tokenizer) -> tuple[list[list[int]], list[list[int]]]:
    """(train, eval) documents as token ids: beginning mark where the tokenizer has one, text, end mark.

    Raises BadInput, naming file, line and character, where the tokenizer knows a character only as `<unk>`.
    """
    origin = dict(zip(corpus.documents, corpus.origin))
    bos, eos, unknown = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id
    before = [bos] if bos is not None and bos != eos else []
    after = [eos] if eos is not None else []
    sides = []
    for documents in corpus.split():
        ids = (
            tokenizer(documents, add_special_tokens=False, verbose=False)["input_ids"]
            if documents
            else []
        )
        for document, tokens in zip(documents, ids):
            if unknown is not None and unknown in tokens:
                _complain(document, origin[document], tokenizer)
        sides.append([before + list(tokens) + after for tokens in ids])
    return sides[0], sides[1]


def _complain(document: str, origin: tuple[str, int], tokenizer) -> None:
    """Raise for the first character of `document` that becomes the unknown token."""
    file, first = origin
    for offset, character in enumerate(document):
        if tokenizer.unk_token_id in tokenizer(character, add_special_tokens=False)["input_ids"]:
            line = first + document[:offset].count("\n")
            column = offset - (document.rfind("\n", 0, offset))
            raise BadInput(
                f"{file}, line {line}, column {column}: character {character!r} (U+{ord(character):04X}) is outside the model's "
                f"alphabet and would become {tokenizer.unk_token}, which teaches nothing: remove it, or choose a --model that has it"
            )


def pack(documents: list[list[int]], max_seq_length: int) -> list[dict[str, list[int]]]:
    """Join the documents and cut the row into blocks of exactly `max_seq_length` tokens, without padding.

    Each block has `input_ids`, `position_ids` and `labels`, all of one length. Positions start anew with every document:
    by that transformers, without a cache as in its Trainer, keeps the documents of a block apart: none attends to
    another. A document's first token is no label (-100), since nothing before it belongs to it.
    The rest of the row is dropped, unless it is all there is.
    """
    row = [(token, place) for document in documents for place, token in enumerate(document)]
    cuts = range(0, len(row) - max_seq_length + 1, max_seq_length)
    blocks = []
    for piece in [row[cut : cut + max_seq_length] for cut in cuts] or [row]:
        positions = []
        for _, place in piece:
            positions.append(positions[-1] + 1 if place and positions else 0)
        tokens = [token for token, _ in piece]
        labels = [token if position else -100 for token, position in zip(tokens, positions)]
        blocks.append({"input_ids": tokens, "position_ids": positions, "labels": labels})
    return blocks
