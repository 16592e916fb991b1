"""Rows of text, of prompts and answers, of conversations: what is read, and what is refused."""

import pytest

from hpkit.__main__ import main
from hpkit.corpus import load_corpus
from hpkit.errors import BadInput

from .conftest import say, write_rows


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            ['{"prompt": "A", "completion"'],
            r"rows\.jsonl, line 1: expected one JSON object a line, got something that is not JSON",
        ),
        ([{"text": "A"}, "", "[1]"], r"line 3: expected a JSON object.*got list"),
        (
            [{"question": "A", "answer": "b"}],
            r"line 1: expected text, or prompt and completion, or messages; got question, answer",
        ),
        (
            [{"prompt": "A", "completion": "b"}, {"prompt": "A"}],
            "line 2: expected prompt and completion as in the rows before it, got prompt",
        ),
        ([{"prompt": "A", "completion": " "}], "line 1: the completion is empty"),
        ([{"prompt": "A", "completion": 3}], "line 1: expected completion to be text, got int"),
        ([{"messages": "hello"}], "line 1: expected messages as a list of"),
        ([{"messages": ["hi"]}], r"line 1: expected turn 1 as \{\"role\": \"user\""),
        ([{"messages": [{"role": "user"}]}], "line 1: expected the content of turn 1 .* got null"),
        (
            [{"messages": say("only a question")}],
            "line 1: no turn of the role assistant answers anything",
        ),
        ([{"text": ""}], "is empty"),
        ([], "is empty"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, lines, complaint):
    with pytest.raises(BadInput, match=complaint):
        load_corpus(write_rows(tmp_path, *lines))


def test_a_bad_row_ends_the_command_with_status_2(tmp_path, capsys):
    file = write_rows(tmp_path, {"prompt": "A", "completion": "b"}, '{"prompt": ')
    assert main(["finetune", "--corpus", file, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"hpkit: {file}, line 2: expected one JSON object")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_rows_of_text_are_documents_and_rows_of_tunes_are_tunes(tmp_path):
    texts = ({"text": "One\n\ntwo.", "id": 7}, {"text": "Three."}, {"text": "Three."})
    corpus = load_corpus(write_rows(tmp_path, *texts))
    assert corpus.kind == "text" and corpus.documents == ("One\n\ntwo.", "Three.")
    corpus = load_corpus(write_rows(tmp_path, {"text": "X:1\nM:6/8\nK:G\nABc def|"}))
    assert corpus.kind == "tunes" and corpus.documents == ("M:6/8\nK:G\nABcdef|",)


def test_a_folder_holds_rows_or_texts(tmp_path):
    write_rows(tmp_path, {"prompt": "A", "completion": "b"})
    write_rows(tmp_path, {"prompt": "C", "completion": "d"}, name="more.jsonl")
    assert len(load_corpus(str(tmp_path)).documents) == 2
    (tmp_path / "notes.txt").write_text("Some text.")
    with pytest.raises(BadInput, match="holds rows with answers .* and plain text .*notes.txt"):
        load_corpus(str(tmp_path))


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"prompt": ["A", "C"], "completion": ["b", "d"]}, "prompts"),
        ({"messages": [say("A", "b"), say("C", "d")]}, "messages"),
    ],
)
def test_a_hub_data_set_of_answers(monkeypatch, columns, kind):
    """Only the download is replaced: what comes back is a real data set of the datasets library."""
    import datasets

    data = datasets.Dataset.from_dict(columns | {"id": [1, 2]})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: data)
    corpus = load_corpus("someone/answers")
    assert corpus.kind == kind and len(corpus.documents) == 2
    assert "id" not in corpus.documents[0]
