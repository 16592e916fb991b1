"""Notebooks as people write them, and what cannot be read at all."""

import pytest

from hpkit.check import read_calls
from hpkit.errors import BadInput

from .examples import CELLS, notebook, write

IMPORT = "from transformers import TrainingArguments\n"


def test_a_notebook_with_magics(tmp_path):
    calls, notes = read_calls(
        notebook(tmp_path, *CELLS, kernelspec={"language": "python", "name": "python3"})
    )
    (call,) = calls
    assert (call.cell, call.line, call.name) == (7, 2, "TrainingArguments")
    told = {
        "output_dir": "out",
        "learning_rate": 2e-4,
        "max_steps": 3,
        "logging_dir": "\n%not magic\n",
        "eval_steps": 3,
        "seed": 1,
    }
    assert call.arguments == told and call.unread == ("a", "b")
    assert (
        call.lines["max_steps"] == 4 and call.lines["seed"] == call.line
    )  # `seed` stands in another cell
    assert notes[0] == "cell 4: %%bash is not Python of this notebook, passed over"
    assert notes[1].startswith("cell 6, line 1: syntax error, passed over: ") and len(notes) == 2


def test_a_passed_over_cell_makes_its_names_unknown(tmp_path):
    calls, notes = read_calls(
        notebook(
            tmp_path, "lr = 1\nseed = 2", "lr = = 3", f"{IMPORT}TrainingArguments(lr=lr, seed=seed)"
        )
    )
    assert calls[0].arguments == {"seed": 2} and calls[0].unread == ("lr",) and len(notes) == 1


@pytest.mark.parametrize(
    "line",
    [
        "%run other.py",
        "%%capture lr",
        "%store -r lr",
        "from x import *",
        "lr = %env LR",
        "lr = !echo 3",
        "%time lr = f()",
    ],
)
def test_lines_that_may_set_a_name(line, tmp_path):
    calls, _ = read_calls(notebook(tmp_path, "lr = 1", line, "TrainingArguments(lr=lr)"))
    assert calls[0].unread == ("lr",)


@pytest.mark.parametrize(
    "line",
    [
        "%pip install x",
        "!echo lr = 3",
        "lr?",
        "?lr",
        "%%time",
        "%%html\n<b>lr</b>",
        "%load_ext autoreload",
        "  %cd x",
    ],
)
def test_lines_that_set_no_name(line, tmp_path):
    calls, notes = read_calls(
        notebook(tmp_path, "lr = 1", line, f"{IMPORT}TrainingArguments(lr=lr)")
    )
    assert calls[0].arguments == {"lr": 1} and calls[0].cell == 3 and notes == []


def test_an_empty_file_and_an_empty_notebook(tmp_path):
    assert (
        read_calls(write(tmp_path, ""))
        == read_calls(write(tmp_path, "\ufeff# %%\n"))
        == read_calls(notebook(tmp_path))
        == ([], [])
    )
    assert read_calls(notebook(tmp_path, "", [], "%%time", "%")) == ([], [])


# What cannot be read at all

CELL = '{"cells": [{"cell_type": "code", "source": %s}]}'


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("train.py", "x = 1\ny = = 2\n", "line 2: expected Python, got a syntax error"),
        ("train.py", b"x = '\xff'", "UTF-8"),
        ("train.py", "x = 1\0", "mend|remove"),
        (
            "train.py",
            "(" * 150 + ")" * 150 + "\n" + "-" * 50_000 + "1",
            "nested too deep|syntax error",
        ),
        ("train.py", "TrainingArguments(x=" + "1 + " * 5_000 + "1)", "nested too deep"),
        ("train.txt", "x = 1", r"\.py"),
        ("train", "x = 1", "no ending"),
        ("train.ipynb", "x = 1", "JSON"),
        ("train.ipynb", "[" * 100_000, "nested too deep|JSON"),
        ("train.ipynb", "[1]", "cells"),
        ("train.ipynb", '{"cells": {}}', "cells"),
        ("train.ipynb", '{"cells": [3]}', "cells"),
        ("train.ipynb", CELL % "3", "cell 1"),
        ("train.ipynb", CELL % "[3]", "cell 1"),
        ("train.ipynb", '{"worksheets": [], "nbformat": 3}', "format 3"),
        ("train.ipynb", '{"cells": [], "metadata": {"kernelspec": {"language": "R"}}}', "in R"),
        (
            "train.ipynb",
            '{"cells": [], "metadata": {"kernelspec": 3, "language_info": {"name": "julia"}}}',
            "in julia",
        ),
    ],
)
def test_bad_input_is_one_line(name, content, words, tmp_path):
    with pytest.raises(BadInput, match=words) as error:
        read_calls(write(tmp_path, content, name))
    assert "\n" not in str(error.value) and name in str(error.value)


def test_missing_files_and_folders(tmp_path):
    (tmp_path / "folder.py").mkdir()
    for path, words in (
        (tmp_path / "no.py", "no such file"),
        (tmp_path / "folder.py", "folder"),
        ("a\0.py", "path"),
    ):
        with pytest.raises(BadInput, match=words):
            read_calls(path)
