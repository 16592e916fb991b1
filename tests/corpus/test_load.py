"""Corpora: what is read, what is refused, how it is split."""

import importlib.util
import itertools
import json
import re
import runpy
import shutil
from collections import Counter
from pathlib import Path

import pytest

from hpkit.corpus import load_corpus, music, tune_books
from hpkit.errors import BadInput
from hpkit.files import data_folder

ROOT = Path(__file__).parents[2]


def write(folder: Path, name: str, text: str | bytes) -> str:
    if isinstance(text, str):
        text = text.encode()
    file = folder / name
    file.write_bytes(text)
    return str(file)


def test_a_few_documents_are_evaluated_like_all():
    whole = load_corpus("aksak")
    few = load_corpus("aksak:30")
    train, held_out = whole.split()
    assert few.split() == ([train[number * 358 // 30] for number in range(30)], held_out)
    assert load_corpus("aksak:30", all_books=False).split() == (train[:30], held_out)
    assert few.name == "aksak:30" and few.fingerprint != whole.fingerprint
    origins = dict(zip(few.documents, few.origin))
    assert origins.items() <= dict(zip(whole.documents, whole.origin)).items()
    for name in ("aksak:0", "aksak:359"):
        with pytest.raises(BadInput, match="expected 1 to 358 documents to train on"):
            load_corpus(name)
    with pytest.raises(BadInput, match="not found"):
        load_corpus("nowhere.abc:30")


def test_a_few_documents_come_from_all_books_alike():
    whole = load_corpus("airdsAirs")
    books = dict(zip(whole.documents, whole.origin))

    def tunes_by_book(corpus) -> Counter:
        return Counter(books[document][0] for document in corpus.split()[0])

    of_all = tunes_by_book(whole)
    assert len(of_all) == 6
    for count in (30, 300):
        of_few = tunes_by_book(load_corpus(f"airdsAirs:{count}"))
        for book, tunes in of_all.items():
            # A book's share of the corpus, up to one tune.
            assert abs(of_few[book] - count * tunes / of_all.total()) < 1


def test_a_text_of_its_own_to_evaluate_on():
    corpus = load_corpus("airdsAirs:30", "aksak")
    train, evaluation = corpus.split()
    # The same tunes are trained on as without, and nothing is held out of either text.
    assert train == load_corpus("airdsAirs:30").split()[0]
    assert tuple(evaluation) == load_corpus("aksak").documents
    assert (corpus.evaluation_name, corpus.trained_and_evaluated) == ("aksak", 0)
    assert len(load_corpus("aksak", "airdsAirs").documents) == 400
    assert load_corpus("aksak").evaluation_name is None


def test_documents_in_both_texts_are_counted(tmp_path):
    one = write(tmp_path, "one.txt", "a\n\nb\n\nc\n")
    other = write(tmp_path, "other.txt", "b\n\nd\n\na\n\na\n")
    assert load_corpus(one, other).trained_and_evaluated == 2
    assert load_corpus(one).trained_and_evaluated == 0


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("tunes.abc", "X:1\nM:2/4\nK:G\nABcd|\n", "holds tunes, and corpus .* text: .* one kind"),
        ("rows.jsonl", '{"prompt": "a", "completion": "b"}', "holds prompts, and corpus .* text"),
        ("empty.txt", " \n", "^eval_corpus: corpus .*empty.txt is empty"),
    ],
)
def test_what_cannot_be_evaluated_on(name, text, message, tmp_path):
    one = write(tmp_path, "one.txt", "a\n\nb\n")
    with pytest.raises(BadInput, match=message):
        load_corpus(one, write(tmp_path, name, text))
    with pytest.raises(BadInput, match="^eval_corpus: corpus .*not found"):
        load_corpus(one, str(tmp_path / "nowhere.txt"))


@pytest.mark.slow
def test_the_data_card_has_the_counts():
    card = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for name in ("airdsAirs", "oneills1850", "ryansMammoth", "oneills1850+ryansMammoth", "aksak"):
        corpus = load_corpus(name)
        train, held_out = corpus.split()
        characters = sum(map(len, corpus.documents))
        row = (
            f"| `{name}` | {len(corpus.documents):,} | {characters:,} | {len(train):,} "
            f"| {len(held_out):,} | {corpus.fingerprint} |"
        )
        assert row in card
    pretraining = load_corpus("oneills1850+ryansMammoth").documents
    aird = load_corpus("airdsAirs").documents
    together = load_corpus("oneills1850+ryansMammoth+airdsAirs").documents
    assert len(pretraining) + len(aird) - len(together) == 1
    told = "One of Aird's tunes also stands in the pre-training corpus"
    assert told in " ".join(card.split())


@pytest.mark.slow
def test_no_tune_stands_twice_in_another_key():
    documents = load_corpus("oneills1850+ryansMammoth").documents
    melodies = set()
    for text in documents:
        notes = music.melody(music.parse(text))
        steps = []
        for (pitch, _, length), (next_pitch, _, _) in itertools.pairwise(notes):
            steps.append((next_pitch - pitch, length))
        _, start_of_first, _ = notes[0]
        _, _, length_of_last = notes[-1]
        melodies.add((*steps, start_of_first, length_of_last))
    assert len(melodies) >= len(documents) - 5  # the same notes with other rests


@pytest.mark.slow
def test_the_split_is_by_tune_and_does_not_depend_on_the_rest():
    both = load_corpus("airdsAirs+aksak")
    aird = load_corpus("airdsAirs")
    train, held_out = both.split()
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(both.documents)
    assert set(aird.split()[1]) <= set(held_out)
    assert 0.07 < len(held_out) / len(both.documents) < 0.13


@pytest.mark.slow
def test_the_second_reading_comes_from_the_cache(monkeypatch):
    first = load_corpus("airdsAirs")
    monkeypatch.setattr(tune_books, "normalise", lambda *_: pytest.fail("normalised again"))
    assert load_corpus("airdsAirs") == first


@pytest.mark.slow
def test_a_cut_cache_is_made_again(cache):
    first = load_corpus("airdsAirs")
    for file in cache.glob("tunes-*.json"):
        file.write_text(file.read_text()[:1000])
    assert load_corpus("airdsAirs") == first
    for file in cache.glob("tunes-*.json"):
        # What another corpus left stays cut.
        if file.stat().st_size > 1000:
            assert json.loads(file.read_text())


def test_without_music21_one_line_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install music21"):
        load_corpus("airdsAirs")


def test_music21_without_its_corpus(monkeypatch, tmp_path):
    package = tmp_path / "music21"
    package.mkdir()
    (package / "__init__.py").write_text("")
    spec = importlib.util.spec_from_file_location(
        "music21", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(BadInput, match="without its corpus"):
        load_corpus("airdsAirs")


def test_aksak_is_what_its_script_makes(tmp_path):
    shutil.copy(data_folder() / "aksak.py", tmp_path)
    runpy.run_path(str(tmp_path / "aksak.py"), run_name="__main__")
    assert (tmp_path / "aksak.abc").read_bytes() == (data_folder() / "aksak.abc").read_bytes()


@pytest.mark.slow
def test_every_aksak_bar_adds_up_and_says_it_is_synthetic():
    corpus = load_corpus("aksak")
    verdicts = [music.judge(text) for text in corpus.documents]
    assert sum(v.bars for v in verdicts) == sum(v.bars_valid for v in verdicts) > 5000
    titles = re.findall(r"^T:.*", (data_folder() / "aksak.abc").read_text(), re.M)
    assert titles and all("synthetic" in title for title in titles)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("empty.abc", "", "is empty"),
        ("blank.txt", " \n\n", "is empty"),
        ("latin.abc", "X:1\nT:Şarkı".encode("iso-8859-9"), "not UTF-8"),
        ("words.abc", "hello world\n", "no usable tune"),
        ("voices.abc", "X:1\nM:6/8\nK:G\nV:1\nABc|\n", "no usable tune: 1 x more than one voice"),
        (
            "strange.abc",
            "X:1\nT:Şarkı\nM:6/8\nK:G\nABc|AşB|\n",
            r"line 5, column 6: character 'ş' \(U\+015F\)",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, text, message):
    with pytest.raises(BadInput, match=message) as caught:
        load_corpus(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_names_that_are_not_there(tmp_path):
    with pytest.raises(BadInput, match="did you mean airdsAirs"):
        load_corpus("airdAirs")
    with pytest.raises(BadInput, match="expected files that end in .abc.* got none"):
        load_corpus(str(tmp_path))
    with pytest.raises(BadInput, match="no data set of that id"):
        load_corpus("nobody/nothing")


def test_a_folder_of_abc_is_read_as_tunes(tmp_path):
    write(
        tmp_path,
        "a.abc",
        "X:1\nT:One\nM:6/8\nK:G\nABc def|\n\nfree text\n\n"
        "X:2\nM:6/8\nK:A\nBcd gfe|\n\n"
        "X:3\nM:2/4\nL:1/8\nK:D\nfAdf|\n",
    )
    corpus = load_corpus(str(tmp_path))
    assert corpus.kind == "tunes"
    assert corpus.documents == ("M:6/8\nK:G\nABcdef|", "M:6/8\nK:A\nBcdgfe|", "M:2/4\nK:D\nfAdf|")
    assert corpus.origin[1][1] == 9


def test_a_byte_order_mark_is_not_part_of_the_tune(tmp_path):
    corpus = load_corpus(
        write(tmp_path, "bom.abc", b"\xef\xbb\xbfX:1\r\nM:6/8\r\nK:G\r\nABc def|\r\n")
    )
    assert corpus.documents == ("M:6/8\nK:G\nABcdef|",)


def test_normal_form_is_read_as_tunes(tmp_path):
    corpus = load_corpus(write(tmp_path, "n.txt", "M:6/8\nK:G\nABcdef|\n\nM:2/4\nK:D\nfAdf|\n"))
    assert corpus.documents == ("M:6/8\nK:G\nABcdef|", "M:2/4\nK:D\nfAdf|")


def test_other_text_becomes_passages(tmp_path):
    corpus = load_corpus(write(tmp_path, "t.txt", "\n\nOne\ntwo.\n\n\nThree.\n\nOne\ntwo.\n"))
    assert corpus.kind == "text"
    assert corpus.documents == ("One\ntwo.", "Three.")
    assert [line for _, line in corpus.origin] == [3, 7]


def test_a_hub_data_set(monkeypatch):
    """Only the download is replaced: what comes back is a real data set of the datasets library."""
    import datasets

    tunes = datasets.Dataset.from_dict(
        {"id": [1, 2], "text": ["X:1\nM:6/8\nK:G\nABc def|", "X:2\nM:6/8\nK:G\nfed cBA|"]}
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: tunes)
    corpus = load_corpus("someone/tunes")
    assert corpus.kind == "tunes"
    assert corpus.documents == ("M:6/8\nK:G\nABcdef|", "M:6/8\nK:G\nfedcBA|")
    tunes = datasets.Dataset.from_dict({"id": [1, 2]})
    with pytest.raises(BadInput, match="or messages; got id; text_column says which"):
        load_corpus("someone/tunes")
