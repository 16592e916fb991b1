"""What a run is measured with: text of all books alike, the same for every setting."""

from collections import Counter
from itertools import pairwise

import pytest

from hpkit.corpus import blocks_of, load_corpus
from hpkit.finetune.yardstick import WHOLE, Yardstick, blocks_by
from hpkit.model import character_tokenizer
from hpkit.records.planning import CHOOSING, FIRST_EDITION, JUDGING


@pytest.fixture(scope="module")
def measured():
    """The blocks of each yardstick on Aird's airs, whose tunes come from six books."""
    corpus = load_corpus("airdsAirs")
    tokenizer = character_tokenizer()

    def blocks(yardstick: Yardstick):
        return blocks_by(yardstick, corpus, tokenizer, 128, 256)

    return {yardstick: blocks(yardstick) for yardstick in (CHOOSING, JUDGING, FIRST_EDITION, WHOLE)}


def text_of(blocks: list[dict]) -> str:
    """The characters of blocks, in which a tune's marks are spaces."""
    tokenizer = character_tokenizer()
    tokens = [token for block in blocks for token in block["input_ids"]]
    characters = tokenizer.convert_ids_to_tokens(tokens)
    return "".join(one if len(one) == 1 else " " for one in characters)


def books_in(blocks: list[dict]) -> Counter:
    """How many tunes of each book are in the blocks, whole or in part."""
    corpus = load_corpus("airdsAirs")
    _, held_out = corpus.split()
    books = dict(zip(corpus.documents, corpus.origin))
    text = text_of(blocks)
    found = Counter()
    for tune in held_out:
        notes = tune.splitlines()[-1]
        pieces = [notes[at : at + 30] for at in range(0, len(notes) - 30, 10)]
        if any(piece in text for piece in pieces):
            found[books[tune][0]] += 1
    return found


def test_every_book_is_in_what_chooses_and_in_what_judges(measured):
    for yardstick in (CHOOSING, JUDGING):
        books = books_in(measured[yardstick].evaluation)
        print(f"tunes in the blocks: {dict(books)}")
        assert len(books) == 6 and max(books.values()) <= 0.3 * books.total()
    first = books_in(measured[FIRST_EDITION].evaluation)
    assert len(first) <= 3, "the first edition's flaw is gone: was its yardstick changed?"


def test_no_tune_both_chooses_and_judges(measured):
    corpus = load_corpus("airdsAirs")
    train, _ = corpus.split()
    texts = [text_of(measured[yardstick].evaluation) for yardstick in (CHOOSING, JUDGING)]
    # A tune is some 170 characters long: of one that did both, a piece of 60 would be in both.
    pieces = [texts[0][at : at + 60] for at in range(0, len(texts[0]) - 60, 60)]
    assert not [piece for piece in pieces if piece in texts[1]]
    trained = " ".join(train)
    assert not [piece for piece in pieces if piece in trained]


def test_how_much_is_evaluated(measured):
    for yardstick in (CHOOSING, JUDGING):
        found = measured[yardstick]
        assert [len(block["input_ids"]) for block in found.evaluation] == [256] * 16
        assert [len(block["input_ids"]) for block in found.old] == [256] * 4
        assert found.old == measured[CHOOSING].old
    assert len(measured[FIRST_EDITION].evaluation) == 24 and measured[FIRST_EDITION].old == []
    # Without a yardstick, all of it, as everybody else packs it.
    corpus = load_corpus("airdsAirs")
    train, evaluation = blocks_of(corpus, character_tokenizer(), 128, 256)
    assert list(measured[WHOLE].evaluation) == list(evaluation)
    assert list(measured[WHOLE].train.blocks) == list(train)


def test_cut_tunes_are_counted():
    """Counted anew: a tune is whole where its text is inside one block."""
    corpus = load_corpus("airdsAirs:30")
    tokenizer = character_tokenizer()
    for length in (64, 256, 512):
        found = blocks_by(WHOLE, corpus, tokenizer, length, 256).train
        texts = [text_of([block]) for block in found.blocks]
        train, _ = corpus.split()
        encoded = tokenizer(train, add_special_tokens=False)["input_ids"]
        whole = 0
        for tokens in encoded:
            tune = "".join(
                one if len(one) == 1 else " " for one in tokenizer.convert_ids_to_tokens(tokens)
            )
            # With its marks, one before it and one behind.
            whole += any(f" {tune} " in text for text in texts)
        assert found.cut_documents == len(train) - whole
        assert found.text_share == 1


def test_old_text_is_as_far_apart_as_it_can_be(measured):
    """Four blocks of O'Neill's held-out tunes, from the first to the last quarter."""
    old = load_corpus("oneills1850")
    _, held_out = old.split()
    row = " ".join(held_out)
    places = []
    for block in measured[CHOOSING].old:
        piece = max(text_of([block]).split("  "), key=len).strip()[:40]
        places.append(row.index(piece) / len(row))
    assert places == sorted(places) and places[-1] > 0.7
    assert all(later - earlier < 0.3 for earlier, later in pairwise(places))
