"""What makes a version doubtful: texts that name an older one, and findings that then say so."""

import pytest

from hpkit.check import check_file
from hpkit.check.doubts import _named_in

ALONE = dict(model=None, device=None, processes=1, lengths=None)
SCRIPT = "from transformers import TrainingArguments\nTrainingArguments('o', warmup_ratio=0.1)\n"


@pytest.mark.parametrize(
    "text, version",
    [
        ("transformers==4.44.2", "4.44.2"),
        ("Transformers v4.31", "4.31.0"),
        ("| transformers | 4.37.2 |", "4.37.2"),
        ("![](https://img.shields.io/badge/transformers-4.38-blue)", "4.38.2"),
        ("git+https://github.com/huggingface/transformers.git@v4.40.0", "4.40.2"),
        ('[[package]]\nname = "transformers"\nversion = "4.46.3"\n', "4.46.3"),
        ('"transformers_version": "4.31.0"', "4.31.0"),
        ("transformers[torch]==4.31.0", "4.31.0"),
        ('transformers = "^4.40"', "4.57.6"),
        ("transformers>=4.40,<4.50", "4.49.0"),
        ("transformers<5", "4.57.6"),
        ("  - python=3.8", "4.46.3"),
        ("FROM python:3.9-slim", "4.57.6"),
        ("torch==1.12.1+cu113", "4.47.1"),
        ("torch<2", "4.47.1"),
        ("transformers (version `4.41.2`)", "4.41.2"),
        ("a fork: https://github.com/somebody/transformers.git", "0"),
        ("git+https://github.com/somebody/adapter-transformers@3ee87f5", "0"),
        ("git+https://github.com/huggingface/transformers@7a26307e", "0"),
        ("git clone https://github.com/huggingface/transformers\ngit checkout 7a26307e\n", "0"),
    ],
)
def test_an_older_version_is_named(text, version):
    assert version in [named for package, named, _ in _named_in(text) if package == "transformers"]


@pytest.mark.parametrize(
    "text",
    [
        "transformers>=4.40",
        "transformers 5.23.0",
        "transformers = '>=4.40'",
        "sentence-transformers==2.2",
        "https://github.com/huggingface/transformers",
        "https://github.com/somebody/transformers-tricks",
        "Transformers (3 of them)",
        "Python 3.8+",
        "python >= 3.9",
        "Python 3.8 or higher",
        'requires-python = ">=3.9"',
        "python 3.12",
        "torch>=1.12",
        "torch==2.4.0",
    ],
)
def test_what_lets_in_the_newest_names_none(text):
    assert _named_in(text) == []


@pytest.mark.parametrize(
    "files, words",
    [
        ({"constraints.txt": "transformers==4.44.2\n"}, "constraints.txt names 4.44.2"),
        ({"install/all.sh": "pip install transformers==4.5.0\n"}, "all.sh names 4.5.0"),
        ({"README.md": "# Tuning\n\nWith Python 3.8.\n"}, "README.md names Python 3.8"),
        ({"README.md": "torch==1.13.1\n"}, "README.md names torch 1.13.1"),
        # The new name is not the successor of what that version still takes.
        ({"notes.txt": "transformers==5.20.1\n"}, None),
        ({"other.py": "# transformers==4.44.2\n"}, None),
        ({"deep/requirements.txt": "trl\n", "deep/notes.txt": "transformers==4.44.2\n"}, None),
    ],
)
def test_the_finding_says_what_makes_it_doubtful(files, words, tmp_path):
    (tmp_path / ".git").mkdir()
    for name, text in {"requirements.txt": "transformers\n", "tune.py": SCRIPT, **files}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (finding,) = check_file(str(tmp_path / "tune.py"), None, **ALONE).findings
    assert finding["severity"] == ("warning" if words else "error")
    assert ("unless an older one runs it" in finding["message"]) == bool(words)
    assert not words or finding["message"].endswith(words)
    assert finding["fix"].startswith("where the newest runs it, ") == bool(words)


def test_a_version_that_the_file_forbids_runs_it_not(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "requirements.txt").write_text("transformers==4.44.2\n")
    source = SCRIPT.replace("warmup_ratio=0.1", "group_by_length=True")
    (tmp_path / "tune.py").write_text("# pip install transformers>=4.55\n" + source)
    (finding,) = check_file(str(tmp_path / "tune.py"), None, **ALONE).findings
    assert finding["severity"] == "error"


def test_what_asks_for_a_new_one_leaves_no_doubt(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "constraints.txt").write_text("transformers==4.44.2\n")
    (tmp_path / "tune.py").write_text("# pip install transformers>=5.20\n" + SCRIPT)
    (finding,) = check_file(str(tmp_path / "tune.py"), None, **ALONE).findings
    assert finding["severity"] == "error"
