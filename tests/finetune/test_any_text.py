"""Texts as people have them: read whole, or refused in one line, and every document accounted for.

Each kind of fault has the input of a report and one more. What is fed in is made here; a run is
`hpkit finetune` in this process.
"""

import csv
import gzip
import io
import json
import os
import pickle
import re
import shutil

import pyarrow
import pytest
from pyarrow import parquet

from hpkit.__main__ import main
from hpkit.corpus import encode_answers, load_corpus
from hpkit.errors import BadInput
from hpkit.finetune.run import Run

from .chat_models import CHATML, WITH_TOOLS, WORDS, bpe_tokenizer, passages, save_bpe_model

ROWS = [{"text": text} for text in passages(40)]
TUNES = [f"X:{number}\nM:4/4\nL:1/8\nK:D\n" + "ABcd " * number + "|" for number in range(1, 13)]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "bpe": save_bpe_model(folder / "bpe"),
        "chat": save_bpe_model(folder / "chat", CHATML, eos="<|im_end|>"),
        "tools": save_bpe_model(folder / "tools", WITH_TOOLS, eos="<|im_end|>"),
        "eosmismatch": save_bpe_model(folder / "eosmismatch", CHATML),
        "starter": "starter",
    }


@pytest.fixture
def finetune(models, tmp_path, capsys):
    """Run the command on a model and a corpus; (status, Run or None, what was said, error)."""

    def run(model: str, corpus, *options):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        how = ["--max_steps", 2, "--warmup_steps", 0, "--max_seq_length", 64]
        how += ["--save_strategy", "no", "--logging_steps", 1, "--out", out, *options]
        what = ["finetune", "--model", models[model], "--corpus", corpus, *how]
        status = main([str(word) for word in what])
        said, error = capsys.readouterr()
        lines = [line for line in error.splitlines() if line.startswith("hpkit:")]
        if status == 2:
            assert len(lines) == 1 and not (out / "run.json").exists()
            return status, None, said, lines[0]
        return status, Run.load(out), said, "\n".join(lines)

    return run


def write_lines(file, rows) -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return str(file)


# Prose and tunes.


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("\n\n".join([*passages(40), *TUNES]), 52),
        ("\n\n".join([*TUNES, *passages(3)]), 15),
        ("\n\n".join([*passages(40), "M: the meeting\nK: kept minutes"]), 41),
        ("\n\n".join(["M: What key?\nK: G, I think.", "M: And the meter?\nK: 4/4"]), 2),
        ("\n\n".join(["M: 3 o'clock then?\nK: Fine.", "M: And bring cake.\nK: Done."]), 2),
        ("\n\n".join(["X: 5 of us are coming\nK: Cool", "X: 2 now\nK: Damn"]), 2),
        ("\n\n".join([TUNES[0], "Q: How many are there?", "A: Two, I think."]), 3),
        ("\n\n".join([TUNES[0], "N: this tune I had\nfrom a tinker in Clare.", TUNES[1]]), 3),
    ],
)
def test_prose_stays_prose_and_whole(tmp_path, text, documents):
    file = tmp_path / "t.txt"
    file.write_text(text)
    corpus = load_corpus(str(file))
    assert corpus.kind == "text" and len(corpus.documents) == corpus.read == documents


def test_a_file_of_nothing_but_tunes_is_tunes(tmp_path):
    file = tmp_path / "t.txt"
    file.write_text("%abc-2.1\n% a book\n\n" + "\n\n".join(TUNES))
    corpus = load_corpus(str(file))
    assert corpus.kind == "tunes" and len(corpus.documents) == 12


@pytest.mark.parametrize("mode", ["maj", "major", "min", "minor", "dorian", "mix", "Mixolydian"])
@pytest.mark.parametrize("space", ["", " "])
def test_a_key_may_be_written_in_many_ways(tmp_path, mode, space):
    file = tmp_path / "t.txt"
    file.write_text(f"X:1\nM:4/4\nL:1/8\nK:D{space}{mode}\nABcd efga|\n")
    assert load_corpus(str(file)).kind == "tunes"


def test_words_among_the_notes_are_no_music(tmp_path):
    file = tmp_path / "t.abc"
    file.write_text("\n\n".join([TUNES[0], TUNES[1] + "\nTranscribed by Fred and Dave", TUNES[2]]))
    corpus = load_corpus(str(file))
    assert corpus.passed_over == {"words among the notes": 1} and corpus.read == 3


def test_rows_of_tunes_and_one_empty_row_are_tunes(tmp_path):
    rows = [{"text": tune} for tune in TUNES]
    corpus = load_corpus(write_lines(tmp_path / "r.jsonl", [*rows, {"text": ""}]))
    assert corpus.kind == "tunes" and len(corpus.documents) == 12
    assert corpus.passed_over == {"empty": 1} and corpus.read == 13


def test_tunes_in_a_folder_with_prose_are_refused(tmp_path, finetune):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.abc").write_text("\n\n".join(TUNES))
    (tmp_path / "c" / "README.md").write_text("About these tunes.")
    status, _, _, error = finetune("bpe", tmp_path / "c")
    assert status == 2 and "holds tunes" in error and "README.md" in error


def test_text_between_the_tunes_of_an_abc_file_is_counted(tmp_path):
    file = tmp_path / "t.abc"
    lost = ["Some words.", "T:no number\nM:4/4\nK:D\nABcd|", "W:These are the words", "c:|GABc|"]
    file.write_text("\n\n".join(["% a comment\nO:Clare", lost[0], *TUNES, *lost[1:]]))
    corpus = load_corpus(str(file))
    assert corpus.passed_over == {"text between tunes": 4} and corpus.read == 16


# Repeats.


def test_repeats_of_answers_stay_and_those_of_text_go_and_are_said(tmp_path, finetune):
    rows = [{"prompt": f"Is {word} good?", "completion": " yes"} for word in "abc"] * 200
    rows += [{"prompt": "Is a good?", "completion": " no"}] * 50
    status, run, said, _ = finetune("bpe", write_lines(tmp_path / "r.jsonl", rows))
    assert status == 0 and "650 documents read, 650 kept" in said
    assert run.documents["read"] == run.documents["kept"] == 650
    texts = write_lines(tmp_path / "t.jsonl", [*ROWS, *ROWS[:7], {"text": "  "}])
    corpus = load_corpus(texts)
    assert corpus.passed_over == {"the same as one before": 7, "empty": 1}


def test_repeats_of_text_are_said(tmp_path, finetune):
    file = tmp_path / "t.txt"
    file.write_text("\n\n".join([*passages(40), *passages(40)[:7]]))
    _, run, said, _ = finetune("bpe", file)
    assert "passed over 7: the same as one before" in said
    assert run.documents["passed_over"] == {"the same as one before": 7}
    assert run.documents["read"] == 47 and run.documents["kept"] == 40


def test_a_character_outside_the_alphabet_is_refused_in_rows_too(tmp_path, finetune):
    rows = [{"prompt": "K:G\n", "completion": "ABc"}, {"prompt": "Is a?", "completion": "yes"}]
    status, _, _, error = finetune("starter", write_lines(tmp_path / "r.jsonl", rows))
    assert status == 2 and "r.jsonl, line 2: character 'I'" in error


# Room for an answer.


def test_rows_without_room_for_an_answer_are_named_and_counted(tmp_path, finetune):
    rows = []
    for number, text in enumerate(passages(40)):
        long = text * 9 if number % 2 else "Short?"
        rows.append({"prompt": long, "completion": f" answer {number}"})
    status, run, said, _ = finetune("bpe", write_lines(tmp_path / "r.jsonl", rows))
    assert status == 0 and run.documents["in_no_block"] == 20
    assert "want of room for an answer, 20: r.jsonl, line" in said and "and 17 more" in said
    # What is in no block are all tokens of those rows.
    assert run.documents["tokens_left_over"] > 20 * 64


def test_only_what_is_evaluated_on_has_no_room(tmp_path, finetune):
    short = [{"prompt": "Short?", "completion": f" yes {number}"} for number in range(20)]
    long = [{"prompt": text * 9, "completion": " yes"} for text in passages(3)]
    train = write_lines(tmp_path / "r.jsonl", short)
    held_out = write_lines(tmp_path / "h.jsonl", long)
    status, _, _, error = finetune("bpe", train, "--eval_corpus", held_out)
    assert status == 2 and "what is evaluated on: max_seq_length: no answer fits into 64" in error


def test_documents_that_are_in_no_block_are_counted(tmp_path, finetune):
    """Of 39 passages in blocks of 200 tokens those at the end, which fill no block, are in none."""
    file = tmp_path / "t.txt"
    file.write_text("\n\n".join(f"The {word} and {word}." for word in WORDS[:39]))
    _, run, said, _ = finetune("bpe", file, "--max_seq_length", 200)
    account = run.documents
    in_no_block = 0
    for side in load_corpus(str(file)).split():
        end = 0
        sizes = [len(tokens) + 1 for tokens in bpe_tokenizer()(side)["input_ids"]]
        # Less than a block is a block of its own, and all of it is there.
        filled = sum(sizes) // 200 * 200 or sum(sizes)
        for size in sizes:
            in_no_block += end >= filled
            end += size
    assert account["in_no_block"] == in_no_block > 1
    assert f"among them all of {account['in_no_block']} documents" in said


def test_an_answer_that_is_cut_is_counted(tmp_path, finetune):
    rows = [{"prompt": "Say it.", "completion": text * 9} for text in passages(20)]
    _, run, said, _ = finetune("bpe", write_lines(tmp_path / "r.jsonl", rows))
    assert run.documents["cut"] == 20 and "answers cut off at the end of their block: 20" in said


# Where documents end.


def test_a_text_of_lines_is_told_how_documents_are_parted(tmp_path, finetune):
    file = tmp_path / "t.txt"
    file.write_text("\n".join(passages(40)))
    status, _, _, error = finetune("bpe", file)
    assert status == 2 and "blank lines part" in error and "40 lines" in error
    assert "sed G old.txt > new.txt" in error
    # What it advises works: `sed G` puts a blank line behind each.
    file.write_text("\n\n".join(passages(40)) + "\n\n")
    assert len(load_corpus(str(file)).documents) == 40


@pytest.mark.parametrize("mark", ["<|endoftext|>", "<|im_end|>"])
def test_an_end_mark_in_a_text_is_named(tmp_path, finetune, mark):
    file = tmp_path / "t.txt"
    file.write_text("\n\n".join(f"{text} {mark} {text}" for text in passages(40)))
    _, run, said, _ = finetune("bpe", file)
    assert f"{mark} stands in 40 documents" in said
    assert run.documents["special_marks"] == {mark: 40}


# Files of all sorts.


def write_table(file):
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerows(
            [["id", "text"], *([number, row["text"]] for number, row in enumerate(ROWS))]
        )


def table_bytes() -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


FORMATS = {
    "rows.jsonl": lambda file: write_lines(file, ROWS),
    "upper.JSONL": lambda file: write_lines(file, ROWS),
    "rows.ndjson": lambda file: write_lines(file, ROWS),
    "lines.json": lambda file: write_lines(file, ROWS),
    "named_otherwise.txt": lambda file: write_lines(file, ROWS),
    "array.json": lambda file: file.write_text(json.dumps(ROWS)),
    "indented.json": lambda file: file.write_text(json.dumps(ROWS, indent=1)),
    "table.csv": write_table,
    "rows.parquet": lambda file: parquet.write_table(pyarrow.Table.from_pylist(ROWS), file),
    "rows.parquet.gz": lambda file: file.write_bytes(gzip.compress(table_bytes())),
    "array.txt": lambda file: file.write_text(json.dumps(ROWS)),
    "tabs.tsv": lambda file: file.write_text(
        "\n\ntext\t id, or so\n" + "".join(f"{row['text']}\t7\n" for row in ROWS)
    ),
    "rows.jsonl.gz": lambda file: file.write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode())
    ),
    "text.txt.gz": lambda file: file.write_bytes(
        gzip.compress("\n\n".join(row["text"] for row in ROWS).encode())
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_the_same_documents(tmp_path, name):
    FORMATS[name](tmp_path / name)
    corpus = load_corpus(str(tmp_path / name))
    assert corpus.documents == tuple(row["text"] for row in ROWS)


def test_values_of_a_table_stay_as_they_are_written(tmp_path):
    """pandas, and with it the datasets library, makes a missing value of None and 7.0 of 7."""
    file = tmp_path / "t.csv"
    file.write_text('prompt;completion\nIs it?;None\n"Two;\nlines";NA\nHow many?;7\n')
    documents = map(json.loads, load_corpus(str(file)).documents)
    assert [row["completion"] for row in documents] == ["None", "NA", "7"]


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x1e"])
def test_json_lines_end_at_line_ends_alone(tmp_path, separator):
    rows = [{"text": text.replace(" ", separator, 1)} for text in passages(40)]
    file = tmp_path / "r.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    assert load_corpus(str(file)).documents == tuple(row["text"] for row in rows)


BROKEN = {
    "surrogate.jsonl": (b'{"text": "half \\ud83d"}\n', r"line 1: U\+D83D is half of a character"),
    "answer.jsonl": (
        b'{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "\\udc00"}\n',
        r"line 2: U\+DC00",
    ),
    "deep.jsonl": (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deeply"),
    "deep.json": (b"[" * 100_000, "nested too deeply"),
    "marks.jsonl": (b"\xef\xbb\xbf\xef\xbb\xbf" + b'{"text": "a"}\n', "two byte-order marks"),
    "marks.txt": (b"\xef\xbb\xbf\xef\xbb\xbfOne.\n\nTwo.", "two byte-order marks"),
    "one.json": (b'{"version": 1,\n "data": []}', "a single object with version, data"),
    "texts.json": (b'["one", "two"]', "item 1: expected a JSON object"),
    "open.csv": (b'text\n"never closed\nmore\n', "not CSV"),
    "ragged.csv": (b"prompt,completion\na,b\nc\n", "line 3: expected 2 fields"),
    "cut.gz": (gzip.compress(b"One.\n\nTwo.")[:-9], "cannot be read"),
    "cut.parquet": (b"PAR1 and then nothing", "no Parquet file"),
    "twice.csv": (b"text,text\na,b\n", "two columns are called 'text'"),
    "twice.jsonl": (b'{"text": "a", "text": "b"}\n', "line 1: .*two values are called 'text'"),
    "header.csv": (b'"text";"a,b,c"\n"one"\n', "line 2: expected 2 fields"),
    "utf16.txt": ("One.\n\nTwo.".encode("utf-16"), "not UTF-8"),
    "zeros.txt": (b"One.\0\n\nTwo.", "bytes of zero"),
    "mixed.jsonl": (
        b'{"text": "a"}\n{"prompt": "a", "completion": "b"}\n',
        "line 2: expected text as in the rows before it",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line(tmp_path, finetune, name):
    content, complaint = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    status, _, _, error = finetune("bpe", tmp_path / name)
    assert status == 2 and re.search(complaint, error)


def test_a_refusal_reaches_other_processes(tmp_path):
    """Under torchrun it is sent to them, pickled."""
    (tmp_path / "t.txt").write_bytes(b"One.\0")
    with pytest.raises(BadInput) as caught:
        load_corpus(str(tmp_path / "t.txt"))
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.reason == caught.value.reason


def test_a_date_that_python_has_no_number_for_is_one_line(tmp_path, finetune):
    days = pyarrow.array([3_000_000] * 40, pyarrow.int32()).cast(pyarrow.date32())
    table = pyarrow.Table.from_pylist(ROWS).append_column("when", days)
    parquet.write_table(table, tmp_path / "t.parquet")
    status, _, _, error = finetune("bpe", tmp_path / "t.parquet")
    assert status == 2 and "date value out of range" in error


@pytest.mark.parametrize(
    "name", ["", "~nobodyhere/a.txt", "one " * 300, "a\0b", "t.txt:30", "t.txt+t.txt"]
)
def test_names_that_name_nothing(tmp_path, finetune, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("\n\n".join(passages(20)))
    status, _, _, error = finetune("bpe", name)
    assert status == 2 and ("not found" in error or "go with built-in names alone" in error)
    status, _, _, _ = finetune("bpe", "t.txt", "--eval_corpus", name)
    assert status == 2


# Columns.


def test_columns_of_other_names_are_named_and_can_be_said(tmp_path, finetune):
    rows = [{"question": f"What is {number}?", "answer": " It."} for number in range(40)]
    file = write_lines(tmp_path / "r.jsonl", rows)
    status, _, _, error = finetune("bpe", file)
    assert status == 2 and "got question, answer" in error and "text_column" in error
    columns = "prompt=question,completion=answer"
    status, run, _, _ = finetune("bpe", file, "--text_column", columns)
    assert status == 0 and run.documents["read"] == 40
    assert load_corpus(file, text_column="question").documents[3] == "What is 3?"


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ("body", "asks for 'body', and the row has text"),
        ("prompt=text", "expected the column"),
        ("completion=text,text=", "expected the column"),
        ("nonsense=text", "expected the column"),
        ("messages=text,text=text", "expected the column"),
        ("", "expected the column"),
    ],
)
def test_columns_that_are_not_there(tmp_path, finetune, columns, complaint):
    file = write_lines(tmp_path / "r.jsonl", ROWS)
    status, _, _, error = finetune("bpe", file, "--text_column", columns)
    assert status == 2 and complaint in error


def test_a_hub_data_set_without_known_columns_is_refused_and_can_be_mapped(monkeypatch):
    """Only the download is replaced: what comes back is a real data set of the datasets library."""
    import datasets

    data = datasets.Dataset.from_dict({"label": ["x", "y"], "body": ["One.", "Two."]})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: data)
    with pytest.raises(ValueError, match="got label, body; text_column says"):
        load_corpus("someone/rows")
    assert load_corpus("someone/rows", text_column="body").documents == ("One.", "Two.")


# Folders.


def test_a_folder_is_read_and_what_is_not_is_named(tmp_path, finetune):
    folder = tmp_path / "c"
    (folder / "sub").mkdir(parents=True)
    texts = passages(60)
    (folder / "a.txt").write_text("\n\n".join(texts[:10]))
    (folder / "D.TXT").write_text("\n\n".join(texts[10:20]))
    (folder / "c.md").write_text("\n\n".join(texts[20:30]))
    (folder / "sub" / "b.txt").write_text("\n\n".join(texts[30:40]))
    (folder / "data.json").write_text(json.dumps([{"text": text} for text in texts[40:50]]))
    (folder / "more.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in texts[50:]).encode())
    )
    (folder / "x.jsonl.gz").write_bytes(b"")
    (folder / "img.png").write_bytes(b"\x89PNG")
    (folder / "bin.txt~").write_bytes(b"\xd0\x0e")
    (folder / "latin.txt").write_bytes("Şarkı".encode("iso-8859-9"))
    (folder / "blank.txt").write_text(" \n\n ")
    (folder / "header.csv").write_text("text\n")
    (folder / "cut.txt.gz").write_bytes(gzip.compress(b"One.")[:-9])
    os.mkfifo(folder / "pipe.txt")
    (folder / "gone.txt").symlink_to("/nonexistent")
    (folder / "self.txt").symlink_to("self.txt")
    (folder / "loop").symlink_to("..", target_is_directory=True)
    status, run, said, _ = finetune("bpe", folder)
    assert status == 0 and run.documents["read"] == run.documents["kept"] == 60
    reasons = {
        "empty": "x.jsonl.gz",
        ".png is not a format that hpkit reads": "img.png",
        "a backup": "bin.txt~",
        "no UTF-8 text": "latin.txt",
        "cannot be read": "cut.txt.gz",
        "no regular file": "pipe.txt",
        "a link to a folder": "loop",
        "cannot be opened: No such file or directory": "gone.txt",
    }
    for reason, name in reasons.items():
        assert f"not read, {reason}: {name}\n" in said
    assert "not read, nothing in it: blank.txt; header.csv" in said and "self.txt" in said
    assert sum(run.documents["files_unread"].values()) == 11


@pytest.mark.parametrize("hidden", [".git/msg.txt", ".ipynb_checkpoints/a-checkpoint.txt"])
def test_hidden_folders_are_not_read(tmp_path, finetune, hidden):
    folder = tmp_path / "c"
    (folder / hidden).parent.mkdir(parents=True)
    (folder / hidden).write_text("Not for you.")
    (folder / "a.txt").write_text("\n\n".join(passages(20)))
    _, run, said, _ = finetune("bpe", folder)
    assert run.documents["read"] == 20 and run.documents["hidden_folders"] == 1
    assert "1 hidden folder" in said


@pytest.mark.parametrize(
    "name", ["test.jsonl", "my-validation.jsonl", "test/part.jsonl", "eval-00000-of-00001.jsonl"]
)
def test_files_that_are_held_out_by_name_are_not_trained_on(tmp_path, finetune, name):
    folder = tmp_path / "c"
    (folder / name).parent.mkdir(parents=True)
    write_lines(folder / "train.jsonl", ROWS)
    write_lines(folder / name, [{"text": f"Test: {text}"} for text in passages(10)])
    _, run, said, _ = finetune("bpe", folder)
    assert run.documents["read"] == 40 and "a test set by its name" in said
    # Where there is nothing else, it is what was meant.
    (folder / "train.jsonl").unlink()
    assert len(load_corpus(str(folder)).documents) == 10


# Answers.


def conversations(*turns, count=40) -> list[dict]:
    """`count` rows of these (role, content), numbered so that they differ."""
    rows = []
    for number in range(count):
        messages = [{"role": role, "content": f"{text} {number}"} for role, text in turns]
        rows.append({"messages": messages})
    return rows


def test_a_conversation_may_begin_with_the_assistant(tmp_path, finetune):
    rows = conversations(("assistant", "Hello!"), ("user", "Is it?"), ("assistant", "It is."))
    status, run, said, _ = finetune("chat", write_lines(tmp_path / "r.jsonl", rows))
    assert status == 0 and run.documents["kept"] == 40 and "not learnt: 40" in said
    assert run.documents["unasked"] == 40
    # Nothing but a greeting answers nothing.
    rows = conversations(("assistant", "Hello!"))
    status, _, _, error = finetune("chat", write_lines(tmp_path / "r.jsonl", rows))
    assert status == 2 and "line 1: no turn of the role assistant answers" in error


def with_a_call(rows: list[dict]) -> list[dict]:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    for row in rows:
        answer = {"role": "assistant", "content": None, "tool_calls": [call]}
        row["messages"][1:1] = [answer, {"role": "tool", "content": "42", "name": "f"}]
        row["tools"] = [{"type": "function", "function": {"name": "f"}}]
    return rows


def test_calls_of_tools_reach_the_template_or_are_refused(tmp_path, finetune):
    rows = with_a_call(conversations(("user", "How many?"), ("assistant", "Many.")))
    file = write_lines(tmp_path / "r.jsonl", rows)
    status, _, _, error = finetune("chat", file)
    assert status == 2 and "line 1: the model's chat template leaves out tool_calls" in error
    status, run, _, _ = finetune("tools", file, "--max_seq_length", 128)
    assert status == 0 and run.documents["kept"] == 40
    for row in rows:
        del row["messages"][1:3]
    status, _, _, error = finetune("chat", write_lines(tmp_path / "r.jsonl", rows))
    assert status == 2 and "leaves out tools" in error


def test_an_empty_list_of_calls_is_none(tmp_path, finetune):
    rows = conversations(("user", "How many?"), ("assistant", "Many."))
    for row in rows:
        row["messages"][1]["tool_calls"] = []
    assert finetune("chat", write_lines(tmp_path / "r.jsonl", rows))[0] == 0


def test_a_call_of_old_is_refused_and_a_weight_of_0_is_not_learnt(tmp_path, finetune):
    rows = conversations(("user", "a"), ("assistant", "no"), ("user", "b"), ("assistant", "yes"))
    for row in rows:
        row["messages"][1]["weight"] = 0
    file = write_lines(tmp_path / "r.jsonl", rows)
    (example, *_) = encode_answers("messages", load_corpus(file).documents, bpe_tokenizer(CHATML))
    learnt = example.labels[example.labels != -100]
    assert bpe_tokenizer().decode(learnt) == "yes 0<|im_end|>\n"
    rows[0]["messages"][1]["function_call"] = {"name": "f", "arguments": "{}"}
    status, _, _, error = finetune("chat", write_lines(tmp_path / "r.jsonl", rows))
    assert status == 2 and "line 1: turn 2 has function_call" in error


@pytest.mark.parametrize("trim_offsets", [False, True])
@pytest.mark.parametrize(
    ("prompt", "completion", "learnt"),
    [("Q: ", "yes", "yes"), ("Q:", " yes", " yes"), ("Q: ", "the", " the"), ("", "the", "the")],
)
def test_labels_begin_with_the_answer(prompt, completion, learnt, trim_offsets):
    """Whether or not the tokenizer leaves a space out of where its token begins."""
    from tokenizers import processors

    tokenizer = bpe_tokenizer()
    processor = processors.ByteLevel(trim_offsets=trim_offsets)
    tokenizer.backend_tokenizer.post_processor = processor
    row = json.dumps({"prompt": prompt, "completion": completion})
    (example,) = encode_answers("prompts", [row], tokenizer)
    labels = example.labels[example.labels != -100]
    assert tokenizer.decode(labels) == learnt + "<|endoftext|>"
    assert example.joined == (learnt != completion) and example.labels[0] == -100


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([{"type": "text", "text": "How"}, {"type": "text", "text": " many?"}], None),
        ([{"type": "image", "url": "a.png"}], "line 1: turn 1 holds something besides text"),
        ([{"type": "image", "text": "a dog"}], "line 1: turn 1 holds something besides text"),
        (None, "line 1: expected the content of turn 1 to be text, got null"),
        (7, "line 1: expected the content of turn 1 to be text, got int"),
    ],
)
def test_content_of_other_kinds(tmp_path, finetune, content, complaint):
    rows = conversations(("user", "x"), ("assistant", "Many."))
    for row in rows:
        row["messages"][0]["content"] = content
    status, _, _, error = finetune("chat", write_lines(tmp_path / "r.jsonl", rows))
    if complaint is None:
        assert status == 0
    else:
        assert status == 2 and complaint in error


def test_a_template_that_stumbles_is_one_line(tmp_path, models, finetune):
    rows = conversations(("user", "x"), ("assistant", "y"))
    file = write_lines(tmp_path / "r.jsonl", rows)
    template = "{{ messages[0]['content'] + messages[5]['content'] }}"
    models["stumbles"] = save_bpe_model(tmp_path / "stumbles", template)
    status, _, _, error = finetune("stumbles", file)
    assert status == 2 and "r.jsonl, line" in error and "chat template refuses" in error


@pytest.mark.slow
def test_generation_stops_where_the_template_ends_a_turn(tmp_path, finetune):
    """The tokenizer ends a text by another mark than the template ends a turn."""
    rows = []
    for number in range(60):
        turns = [{"role": "user", "content": f"Q {number}"}]
        rows.append({"messages": [*turns, {"role": "assistant", "content": "It is the one."}]})
    file = write_lines(tmp_path / "r.jsonl", rows)
    how = ["--max_steps", 150, "--learning_rate", "2e-2", "--optim", "adamw_torch"]
    status, _, _, _ = finetune("eosmismatch", file, *how)
    after = (tmp_path / "out" / "after.txt").read_text()
    assert status == 0 and after.count("[It is the one.]") == 2
    # So does the saved model, in plain transformers.
    settings = json.loads((tmp_path / "out" / "model" / "generation_config.json").read_text())
    assert len(settings["eos_token_id"]) == 2


def test_a_template_that_wants_a_system_turn_is_no_obstacle(tmp_path, models, finetune):
    rows = conversations(("system", "Be brief."), ("user", "x"), ("assistant", "y"))
    demand = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('system') }}{% endif %}"
    models["strict"] = save_bpe_model(tmp_path / "strict", demand + CHATML)
    assert finetune("strict", write_lines(tmp_path / "r.jsonl", rows))[0] == 0
