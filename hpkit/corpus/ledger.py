"""What became of every document and token of a corpus: the account that a run gives of its text."""

from pathlib import Path
from typing import NamedTuple

from hpkit.corpus.blocks import Blocks
from hpkit.corpus.documents import Corpus
from hpkit.corpus.encoding import special_marks
from hpkit.corpus.rows import messages_of
from hpkit.formatting import plural

#: So many files or rows are named; of more, the number is said.
_NAMED = 3


class Ledger(NamedTuple):
    """Where the documents of a corpus went, as counts.

    `read` of them were read: `passed_over` (reason -> count) and `kept` add up to it. Of those kept
    `in_no_block` are in none, rows that have no room for an answer and what is left over at the
    end, and `cut` are in part, or in several. `tokens_left_over` are in no block. `files_unread`:
    why files were not read -> how many. `special_marks`: mark -> documents whose text holds it.
    `joined`: answers that begin within a token of their prompt. `unasked`: conversations that the
    assistant opens, by a turn that is read and not learnt. `together`: does a block hold
    several documents? `padding`: the share, 0 to 1, of all places to train on that hold no token.
    `packing`: are documents parted among blocks, and not cut off?
    """

    read: int
    passed_over: dict[str, int]
    kept: int
    in_no_block: int
    cut: int
    tokens_left_over: int
    files_unread: dict[str, int]
    hidden_folders: int
    special_marks: dict[str, int]
    joined: int
    unasked: int
    together: bool
    padding: float
    packing: bool = True


def ledger_of(
    corpus: Corpus, parts: list[Blocks], tokenizer, together: bool, packing: bool = True
) -> Ledger:
    """The account of a corpus whose documents are in the blocks of `parts`."""
    return Ledger(
        read=corpus.read,
        passed_over=corpus.passed_over,
        kept=len(corpus.documents),
        in_no_block=sum(part.without_block for part in parts),
        cut=sum(part.cut_documents - part.without_block for part in parts),
        tokens_left_over=sum(part.left_over for part in parts),
        files_unread={reason: len(names) for reason, names in corpus.unread.items()},
        hidden_folders=corpus.hidden_folders,
        special_marks=special_marks(corpus.documents, tokenizer),
        joined=sum(part.joined for part in parts),
        unasked=_unasked(corpus),
        together=together,
        padding=1 - parts[0].text_share,
        packing=packing,
    )


def _unasked(corpus: Corpus) -> int:
    """How many conversations the assistant opens: that turn answers nothing and is not learnt."""
    if corpus.kind != "messages":
        return 0
    first_turns = [messages_of(document)[0][0] for document in corpus.documents]
    return sum(turn["role"] == "assistant" for turn in first_turns)


def ledger_lines(ledger: Ledger, corpus: Corpus, parts: list[Blocks]) -> list[str]:
    """The account in words, one subject a line; `corpus` and `parts` name what is counted."""
    lines = [f"{plural(ledger.read, 'document')} read, {ledger.kept:,} kept"]
    for reason, count in sorted(ledger.passed_over.items(), key=lambda item: -item[1]):
        lines.append(f"passed over {count:,}: {reason}")
    for reason, names in corpus.unread.items():
        lines.append(f"not read, {reason}: {_named(names)}")
    if ledger.hidden_folders:
        lines.append(f"skipped: {plural(ledger.hidden_folders, 'hidden folder')}")
    without_room = [place for part in parts for place in part.without_room]
    if without_room:
        names = [Path(place).name for place in without_room]
        lines.append(
            f"left out for want of room for an answer, {len(without_room):,}: {_named(names)}; "
            "a larger max_seq_length takes them in"
        )
    if ledger.cut and not ledger.packing:
        lines.append(f"longer than their block, and cut off at its end: {ledger.cut:,}")
    elif ledger.cut and corpus.kind in ("tunes", "text"):
        lines.append(f"parted by the end of a block, and not seen as one: {ledger.cut:,}")
    elif ledger.cut:
        lines.append(f"answers cut off at the end of their block: {ledger.cut:,}")
    if ledger.joined:
        lines.append(
            f"prompts whose last character and answer's first share a token: {ledger.joined:,}; "
            "a space between them belongs at the beginning of the completion"
        )
    if ledger.unasked:
        lines.append(
            "first turns of the assistant, which answer nothing and are not learnt: "
            f"{ledger.unasked:,}"
        )
    for mark, count in ledger.special_marks.items():
        lines.append(
            f"{mark} stands in {plural(count, 'document')} and is read as the mark it names"
        )
    if ledger.tokens_left_over:
        words = f"{plural(ledger.tokens_left_over, 'token')} in no block"
        if ledger.in_no_block:
            words += f", among them all of {plural(ledger.in_no_block, 'document')}"
        lines.append(words)
    if not ledger.together:
        lines.append(
            "each document in blocks of its own, for this model would carry one document into the "
            f"next; {ledger.padding:.0%} of the places are padding"
        )
    elif not ledger.packing:
        lines.append(
            "each document in a block of its own, for packing is false; "
            f"{ledger.padding:.0%} of the places are padding"
        )
    return lines


def _named(names: list[str]) -> str:
    shown = "; ".join(names[:_NAMED])
    if len(names) > _NAMED:
        shown += f" and {len(names) - _NAMED:,} more"
    return shown
