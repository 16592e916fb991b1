"""Documents as tokens, each between the marks of its beginning and its end."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hpkit.corpus.answers import first_unknown, outside_the_alphabet
from hpkit.corpus.documents import Corpus
from hpkit.corpus.marks import boundary_marks
from hpkit.errors import BadInput

#: About so many characters are encoded at once: what the tokenizer knows of each token takes a
#: hundred bytes, and is let go before the next.
_CHARACTERS_AT_ONCE = 500_000


class Encoded(NamedTuple):
    """Documents as one row of tokens, int32, and how many of them each document has."""

    tokens: np.ndarray
    lengths: np.ndarray

    def documents(self) -> list[np.ndarray]:
        """The tokens of each document."""
        if not len(self.lengths):  # numpy splits nothing into one part
            return []
        return np.split(self.tokens, np.cumsum(self.lengths)[:-1])


def encode(corpus: Corpus, tokenizer) -> tuple[list[list[int]], list[list[int]]]:
    """(train, eval) documents as token ids: beginning mark where there is one, text, end mark.

    Raises BadInput, naming file, line and character, where the tokenizer knows a character only as
    `<unk>`.
    """
    origins = origins_of(corpus)
    sides = []
    for documents in corpus.split():
        encoded = encode_all(documents, origins, tokenizer)
        sides.append([tokens.tolist() for tokens in encoded.documents()])
    return tuple(sides)


def origins_of(corpus: Corpus) -> dict[str, tuple[str, int]]:
    """Of each document, its file and line, the first where it stands in several."""
    origins = {}
    for each in (corpus, corpus.evaluation):
        if each is not None:
            for document, origin in zip(each.documents, each.origin):
                origins.setdefault(document, origin)
    return origins


def with_progress(documents: Sequence[str], shown: bool) -> Iterable[str]:
    """The documents, one by one, with a bar of their characters where that takes seconds."""
    from tqdm.auto import tqdm

    total = sum(map(len, documents))
    words = dict(desc="reading", unit="character", unit_scale=True, leave=False)
    # Of a text that is read at once nothing is shown.
    with tqdm(total=total, delay=2, disable=not shown, **words) as bar:
        for document in documents:
            yield document
            bar.update(len(document))


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """The documents in lists of about _CHARACTERS_AT_ONCE characters each."""
    batch = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document)
        if characters >= _CHARACTERS_AT_ONCE:
            yield batch
            batch = []
            characters = 0
    if batch:
        yield batch


def encode_all(documents: list[str], origins: dict, tokenizer, progress: bool = False) -> Encoded:
    """The documents as tokens, each between its marks; `origins` as of `origins_of`.

    Raises BadInput, naming file, line and character, for one that the tokenizer does not know.
    """
    before, after = boundary_marks(tokenizer)
    lengths = []
    parts = [np.zeros(0, np.int32)]
    for batch in _batches(with_progress(documents, progress)):
        row = []
        encoded = tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]
        for document, tokens in zip(batch, encoded):
            _refuse_unknown_in_text(tokens, document, origins, tokenizer)
            length_before = len(row)
            row += before
            row += tokens
            row += after
            lengths.append(len(row) - length_before)
        parts.append(np.array(row, np.int32))
    return Encoded(np.concatenate(parts), np.array(lengths, np.int64))


def _refuse_unknown_in_text(tokens: list[int], document: str, origins: dict, tokenizer) -> None:
    """Raise BadInput for the first character that the tokenizer does not know, with its place."""
    offset = first_unknown(tokens, document, tokenizer)
    if offset is None:
        return
    file, first_line = origins[document]
    line = first_line + document[:offset].count("\n")
    # In the first line rfind gives -1, which is where a line's end before it would be.
    column = offset - document.rfind("\n", 0, offset)
    words = outside_the_alphabet(document[offset], tokenizer)
    raise BadInput(f"{file}, line {line}, column {column}: {words}")


def special_marks(documents: Iterable[str], tokenizer) -> dict[str, int]:
    """Special tokens that stand in the documents as text -> in how many of them.

    They are read as the marks that they name: so it must be where somebody has put a chat
    template's marks into the text, and a surprise where an end mark is only spoken of.
    """
    special = [
        re.escape(token.content)
        for token in tokenizer.added_tokens_decoder.values()
        if token.special
    ]
    if not special:
        return {}
    # The longest first: one mark may begin as another does.
    pattern = re.compile("|".join(sorted(special, key=len, reverse=True)))
    counts = Counter()
    for document in documents:
        counts.update(set(pattern.findall(document)))
    return dict(counts)
