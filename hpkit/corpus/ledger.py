"""What became of every document and token of a corpus: the account that a run gives of its text."""

from pathlib import Path
from typing import NamedTuple

from hpkit.corpus.blocks import Blocks
from hpkit.corpus.documents import Corpus
from hpkit.corpus.encoding import special_marks
from hpkit.formatting import plural

#: So many files or rows are named; of more, the number is said.
_NAMED = 3


class Ledger(NamedTuple):
    """Where the documents of a corpus went, as counts.

    `read` of them were read: `passed_over` (reason -> count) and `kept` add up to it. Of those kept
    `without_room` have no room for an answer and are in no block, and `cut` are not whole in one.
    `tokens_left_over` are in no block. `files_unread`: why files were not read -> how many.
    `special_marks`: mark -> documents whose text holds it. `joined`: answers that begin within a
    token of their prompt. `together`: does a block hold several documents?
    """

    read: int
    passed_over: dict[str, int]
    kept: int
    without_room: int
    cut: int
    tokens_left_over: int
    files_unread: dict[str, int]
    hidden_folders: int
    special_marks: dict[str, int]
    joined: int
    together: bool


def ledger_of(corpus: Corpus, parts: list[Blocks], tokenizer, together: bool) -> Ledger:
    """The account of a corpus whose documents are in the blocks of `parts`."""
    return Ledger(
        read=corpus.read,
        passed_over=corpus.passed_over,
        kept=len(corpus.documents),
        without_room=sum(len(part.without_room) for part in parts),
        cut=sum(part.cut_documents for part in parts),
        tokens_left_over=sum(part.left_over for part in parts),
        files_unread={reason: len(names) for reason, names in corpus.unread.items()},
        hidden_folders=corpus.hidden_folders,
        special_marks=special_marks(corpus.documents, tokenizer),
        joined=sum(part.joined for part in parts),
        together=together,
    )


def ledger_lines(ledger: Ledger, corpus: Corpus, parts: list[Blocks]) -> list[str]:
    """The account in words, one subject a line; `corpus` and `parts` name what is counted."""
    lines = [f"{plural(ledger.read, 'document')} read, {ledger.kept:,} kept"]
    for reason, count in sorted(ledger.passed_over.items(), key=lambda item: -item[1]):
        lines.append(f"passed over {count:,}: {reason}")
    for reason, names in corpus.unread.items():
        lines.append(f"not read, {reason}: {_named(names)}")
    if ledger.hidden_folders:
        lines.append(f"not looked into: {plural(ledger.hidden_folders, 'hidden folder')}")
    without_room = [place for part in parts for place in part.without_room]
    if without_room:
        lines.append(
            f"left out for want of room for an answer, {len(without_room):,}: "
            f"{_named(without_room)}; a larger max_seq_length takes them in"
        )
    cut = ledger.cut - ledger.without_room
    if cut and corpus.kind in ("tunes", "text"):
        lines.append(f"cut at the end of a block and going on in the next, apart: {cut:,}")
    elif cut:
        lines.append(f"answers cut off at the end of their block: {cut:,}")
    if ledger.joined:
        lines.append(
            f"prompts whose last character and answer's first share a token: {ledger.joined:,}; "
            "a space between them belongs at the beginning of the completion"
        )
    for mark, count in ledger.special_marks.items():
        lines.append(
            f"{mark} stands in {plural(count, 'document')} and is read as the mark it names"
        )
    if ledger.tokens_left_over:
        lines.append(f"{plural(ledger.tokens_left_over, 'token')} left over, in no block")
    if not ledger.together:
        lines.append(
            "each document in blocks of its own, padded: this model would carry one document "
            "into the next"
        )
    return lines


def _named(names: list[str]) -> str:
    # By a file's name alone: the folder stands in the corpus' own.
    shown = "; ".join(Path(name).name for name in names[:_NAMED])
    if len(names) > _NAMED:
        shown += f" and {len(names) - _NAMED:,} more"
    return shown
