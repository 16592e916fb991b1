"""Corpora: what is read, what is refused, how it is split and packed."""

import importlib.util
import itertools
import json
import re
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from hpkit.corpus import encode, load_corpus, music, pack
from hpkit.corpus import load as corpus_module
from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.model import character_tokenizer

ROOT = Path(__file__).parents[2]


def write(folder: Path, name: str, text: str | bytes) -> str:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


def test_a_few_documents_are_evaluated_like_all():
    whole, few = load_corpus("aksak"), load_corpus("aksak:30")
    assert few.split() == (whole.split()[0][:30], whole.split()[1])
    assert few.name == "aksak:30" and few.fingerprint != whole.fingerprint
    assert (
        dict(zip(few.documents, few.origin)).items()
        <= dict(zip(whole.documents, whole.origin)).items()
    )
    for name in ("aksak:0", "aksak:359"):
        with pytest.raises(BadInput, match="expected 1 to 358 documents to train on"):
            load_corpus(name)
    with pytest.raises(BadInput, match="not found"):
        load_corpus("nowhere.abc:30")


@pytest.mark.slow
def test_the_data_card_has_the_counts():
    card = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for name in ("airdsAirs", "oneills1850", "ryansMammoth", "oneills1850+ryansMammoth", "aksak"):
        corpus = load_corpus(name)
        train, held_out = corpus.split()
        characters = sum(map(len, corpus.documents))
        row = f"| `{name}` | {len(corpus.documents):,} | {characters:,} | {len(train):,} | {len(held_out):,} | {corpus.fingerprint} |"
        assert row in card
    both, aird = load_corpus("oneills1850+ryansMammoth+airdsAirs"), load_corpus("airdsAirs")
    shared = (
        len(load_corpus("oneills1850+ryansMammoth").documents)
        + len(aird.documents)
        - len(both.documents)
    )
    assert shared == 1 and "One of Aird's tunes also stands in the pre-training corpus" in " ".join(
        card.split()
    )


@pytest.mark.slow
def test_no_tune_stands_twice_in_another_key():
    intervals = set()
    for text in load_corpus("oneills1850+ryansMammoth").documents:
        notes = music.melody(music.parse(text))
        intervals.add(
            (
                *tuple((b[0] - a[0], a[2]) for a, b in itertools.pairwise(notes)),
                notes[0][1],
                notes[-1][2],
            )
        )
    assert (
        len(intervals) >= len(load_corpus("oneills1850+ryansMammoth").documents) - 5
    )  # the same notes with other rests


@pytest.mark.slow
def test_the_split_is_by_tune_and_does_not_depend_on_the_rest():
    both, aird = load_corpus("airdsAirs+aksak"), load_corpus("airdsAirs")
    train, held_out = both.split()
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(both.documents)
    assert set(aird.split()[1]) <= set(held_out)
    assert 0.07 < len(held_out) / len(both.documents) < 0.13


@pytest.mark.slow
def test_the_second_reading_comes_from_the_cache(monkeypatch):
    first = load_corpus("airdsAirs")
    monkeypatch.setattr(corpus_module, "normalise", lambda *_: pytest.fail("normalised again"))
    assert load_corpus("airdsAirs") == first


@pytest.mark.slow
def test_a_cut_cache_is_made_again(cache):
    first = load_corpus("airdsAirs")
    for file in cache.glob("tunes-*.json"):
        file.write_text(file.read_text()[:1000])
    assert load_corpus("airdsAirs") == first
    assert all(
        json.loads(file.read_text())
        for file in cache.glob("tunes-*.json")
        if file.stat().st_size > 1000
    )


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
    with pytest.raises(BadInput, match=r"holds no \.abc, \.txt or \.jsonl"):
        load_corpus(str(tmp_path))
    with pytest.raises(BadInput, match="no data set of that id"):
        load_corpus("nobody/nothing")


def test_a_folder_of_abc_is_read_as_tunes(tmp_path):
    write(
        tmp_path,
        "a.abc",
        "X:1\nT:One\nM:6/8\nK:G\nABc def|\n\nfree text\n\nX:2\nM:6/8\nK:A\nBcd gfe|\n\nX:3\nM:2/4\nL:1/8\nK:D\nfAdf|\n",
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


def test_a_character_outside_the_alphabet_is_named_with_its_place(tmp_path):
    corpus = load_corpus(write(tmp_path, "t.txt", "ABC\n\nabc\nab qc\n"))
    with pytest.raises(
        BadInput, match=r"t\.txt, line 4, column 3: character ' ' \(U\+0020\).*would become <unk>"
    ):
        encode(corpus, character_tokenizer())


def test_packing_loses_no_token_but_the_rest():
    documents = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    first, second = pack(documents, 4)
    assert first == {
        "input_ids": [1, 2, 3, 4],
        "position_ids": [0, 1, 2, 0],
        "labels": [-100, 2, 3, -100],
    }
    assert second == {
        "input_ids": [5, 6, 7, 8],
        "position_ids": [0, 0, 1, 2],
        "labels": [-100, -100, 7, 8],
    }
    (only,) = pack(documents, 20)
    assert only["input_ids"] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_documents_in_one_block_do_not_see_each_other(tiny_model, attention):
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model, attn_implementation=attention, use_cache=False
    ).eval()
    documents = [[1, 8, 9, 10, 2], [1, 20, 21, 22, 23, 24, 2], [1, 30, 31, 2]]
    (block,) = pack(documents, 16)
    with torch.no_grad():
        packed = model(
            input_ids=torch.tensor([block["input_ids"]]),
            position_ids=torch.tensor([block["position_ids"]]),
        )
        alone = torch.cat(
            [model(input_ids=torch.tensor([document])).logits[0] for document in documents]
        )
    torch.testing.assert_close(packed.logits[0], alone, rtol=1e-5, atol=1e-5)


def test_encoding_marks_both_ends():
    corpus, tokenizer = load_corpus("aksak"), character_tokenizer()
    train, held_out = encode(corpus, tokenizer)
    assert len(train) + len(held_out) == len(corpus.documents)
    first = train[0]
    assert (first[0], first[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(first, skip_special_tokens=True) == corpus.split()[0][0]


def test_a_hub_data_set(monkeypatch):
    """Only the download is replaced: what comes back is a real data set of the datasets library."""
    import datasets

    tunes = datasets.Dataset.from_dict(
        {"id": [1, 2], "text": ["X:1\nM:6/8\nK:G\nABc def|", "X:2\nM:6/8\nK:G\nfed cBA|"]}
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: tunes)
    corpus = load_corpus("someone/tunes")
    assert corpus.kind == "tunes" and corpus.documents == (
        "M:6/8\nK:G\nABcdef|",
        "M:6/8\nK:G\nfedcBA|",
    )
    tunes = datasets.Dataset.from_dict({"id": [1, 2]})
    with pytest.raises(BadInput, match="no column of text, only id"):
        load_corpus("someone/tunes")
