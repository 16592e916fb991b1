"""A corpus: its documents, where they came from, and which of them are held out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from hpkit.errors import BadInput

#: One document in this many is held out.
HELD_OUT_ONE_IN = 10


@dataclass(frozen=True)
class Corpus:
    """Documents and how they came about.

    `documents`: normal-form tunes (`kind` "tunes"), passages of text ("text"), or rows with answers
    ("prompts" and "messages", as JSON: see `hpkit.corpus.rows`). No two tunes or passages are the
    same; a row with an answer may come again, for how often it does is part of what it teaches.
    `passed_over`: reason -> how many documents were read and are not among them. `origin`: (file,
    line) of each document, for messages. `evaluation`: the corpus to evaluate on; None: some of the
    documents are held out. `unread`: why files of a folder were not read -> their names.
    `hidden_folders`: how many of its folders were not looked into.
    """

    name: str
    kind: str
    documents: tuple[str, ...]
    passed_over: dict[str, int]
    origin: tuple[tuple[str, int], ...]
    evaluation: "Corpus | None" = None
    unread: dict[str, list[str]] = field(default_factory=dict)
    hidden_folders: int = 0

    @property
    def read(self) -> int:
        """How many documents were read, those passed over among them."""
        return len(self.documents) + sum(self.passed_over.values())

    def split(self) -> tuple[list[str], list[str]]:
        """(train, eval) documents. A document's side follows from its text: it never changes."""
        if self.evaluation is not None:
            return list(self.documents), list(self.evaluation.documents)
        digests = {}
        for document in self.documents:
            digests[document] = hashlib.sha256(document.encode()).digest()
        held_out = set()
        for document, digest in digests.items():
            if int.from_bytes(digest[:4], "big") % HELD_OUT_ONE_IN == 0:
                held_out.add(document)
        # By chance a small corpus may have none, and a run without evaluation says nothing.
        if not held_out and len(self.documents) > 1:
            held_out.add(min(digests, key=digests.get))
        train = [document for document in self.documents if document not in held_out]
        evaluation = [document for document in self.documents if document in held_out]
        return train, evaluation

    def few(self, count: int, hold_out: bool = True, all_books: bool = True) -> "Corpus":
        """`count` documents to train on, from all books alike, and all that are held out.

        So a run on it is evaluated as one on the whole; without `hold_out`, those to train on are
        all. Without `all_books` they are the first ones. Raises BadInput where there are fewer.
        """
        train, held_out = self.split()
        if not 0 < count <= len(train):
            raise BadInput(
                f"corpus {self.name}:{count}: expected 1 to {len(train)} documents to train on"
            )
        kept = set(train[:count])
        if all_books:
            kept = set(spread(train, count))
        if hold_out:
            kept.update(held_out)
        documents = []
        origins = []
        for document, origin in zip(self.documents, self.origin):
            if document in kept:
                documents.append(document)
                origins.append(origin)
        name = f"{self.name}:{count}"
        return Corpus(name, self.kind, tuple(documents), self.passed_over, tuple(origins))

    @property
    def evaluation_name(self) -> str | None:
        """What the corpus to evaluate on is called; None where there is no other."""
        if self.evaluation is None:
            return None
        return self.evaluation.name

    @property
    def trained_and_evaluated(self) -> int:
        """How many documents are trained on and evaluated on as well."""
        train, evaluation = self.split()
        return len({*train} & {*evaluation})

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of the documents' hash: runs with the same ones saw the same text."""
        digest = hashlib.sha256()
        # One after the other: joined, they would be in memory a second time.
        for number, document in enumerate(self.documents):
            if number:
                digest.update(b"\0")
            digest.update(document.encode())
        return digest.hexdigest()[:12]


def spread(items: Sequence, count: int | None) -> list:
    """`count` of the items, as far apart as they can be; all of them for None, or where they are
    no more.

    Documents lie in the order of their books, so each book has its share.
    """
    if count is None or count >= len(items):
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]
