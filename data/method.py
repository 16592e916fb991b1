"""The picture and the table of data/METHOD.md: `python data/method.py` draws the one into
data/verdicts.png and prints the other."""

from collections import Counter
from pathlib import Path

from hpkit.corpus import load_corpus
from hpkit.figures import verdicts_picture
from hpkit.labs.judging import false_alarms, false_alarms_by_spread, power, power_by_spread
from hpkit.records import load_grids, load_runs
from hpkit.records.planning import CHOOSING, FIRST_EDITION, JUDGING

SEEDS = (2, 3, 4, 5, 6, 8, 10, 15, 20)
SIZES = (0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6)


def recorded_losses() -> list[float]:
    """The evaluation losses of one recipe with twenty seeds."""
    grid = load_grids()["seeds"]
    return [run.eval_loss_after for run in load_runs().at(*grid.points[0], seeds=grid.seeds)]


def picture():
    """How often the rule errs and what it sees, beside the first edition's rule."""
    noise = recorded_losses()
    alarms = {
        "paired interval, normal noise": [(seeds, false_alarms(seeds)) for seeds in SEEDS],
        f"paired interval, noise of {len(noise)} recorded seeds": [
            (seeds, false_alarms(seeds, noise)) for seeds in SEEDS
        ],
        "first edition: larger than the spread": [
            (seeds, false_alarms_by_spread(seeds)) for seeds in SEEDS
        ],
    }
    seen = {}
    for seeds in (3, 5, 8, 20):
        seen[f"paired interval, {seeds} seeds"] = [(size, power(seeds, size)) for size in SIZES]
    for seeds in (3, 8):
        seen[f"first edition, {seeds} seeds"] = [
            (size, power_by_spread(seeds, size)) for size in SIZES
        ]
    return verdicts_picture(alarms, seen)


def table() -> str:
    """By book: tunes of the training sets, and characters that are evaluated on."""
    whole = load_corpus("airdsAirs")
    train, _ = whole.split()
    columns = {"to train on": _tunes_by_book(whole, train)}
    for all_books in (True, False):
        for count in (30, 300):
            corpus = load_corpus(f"airdsAirs:{count}", all_books=all_books)
            name = f":{count}" if all_books else f":{count}, first edition"
            columns[name] = _tunes_by_book(whole, corpus.split()[0])
    columns["choosing"] = _evaluated_by_book(whole, CHOOSING)
    columns["judging"] = _evaluated_by_book(whole, JUDGING)
    columns["both, first edition"] = _evaluated_by_book(whole, FIRST_EDITION)
    lines = [f"| book | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for book in sorted(columns["to train on"]):
        counts = [f"{column[book]:,}" for column in columns.values()]
        lines.append(f"| {book.removesuffix('.abc')} | {' | '.join(counts)} |")
    totals = [f"{column.total():,}" for column in columns.values()]
    lines.append(f"| all | {' | '.join(totals)} |")
    return "\n".join(lines)


def _tunes_by_book(corpus, documents: list[str]) -> Counter:
    books = dict(zip(corpus.documents, corpus.origin))
    return Counter(books[document][0] for document in documents)


def _evaluated_by_book(corpus, yardstick) -> Counter:
    """Of each book the tokens in the yardstick's blocks; one is a character, or a tune's mark."""
    books = dict(zip(corpus.documents, corpus.origin))
    _, held_out = corpus.split()
    row = []  # the book of each token, in the order in which documents are packed
    for document in yardstick.documents(held_out):
        row += [books[document][0]] * (len(document) + 2)
    length = yardstick.eval_length
    counted = Counter()
    for block in yardstick.blocks(range(len(row) // length)):
        counted.update(row[block * length : (block + 1) * length])
    return counted


if __name__ == "__main__":
    drawn = picture()
    Path(__file__).with_name("verdicts.png").write_bytes(drawn.png)
    print(drawn.alt)
    print(table())
