"""After a fork: the guard sees a badge of another repository, and one command mends badges, set-up
cells and README."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "notebooks"))
import build  # noqa: E402, the project's own script, in no package

HERE, REF = build.address()
THERE = "https://github.com/a-fork/kit"
#: The checks that a fork meets first.
GUARD = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/notebooks/test_notebooks.py"]
GUARD += ["-k", "badge_and_set_up or outputs_belong or the_documents"]


@pytest.fixture
def fork(tmp_path):
    """A copy of the project, its [project.urls] those of another owner, and a way to run Python in
    it."""
    for name in ("hpkit", "data", "notebooks", "tests/notebooks", "tests/colab"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CHEATSHEET.md", "GLOSSARY.md", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    change(tmp_path / "pyproject.toml", HERE, THERE)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def python(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return tmp_path, python


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(before, after), encoding="utf-8")


def outputs_of(file: Path) -> list:
    return [cell.get("outputs") for cell in nbformat.read(file, as_version=4).cells]


@pytest.mark.slow
def test_a_badge_of_another_repository_is_seen_and_mended(fork):
    folder, python = fork
    files = sorted((folder / "notebooks").glob("*.ipynb"))
    kept = list(map(outputs_of, files))

    seen = python(*GUARD).stdout
    for file in files:
        assert (
            f"{file.name}, badge: not that of [project.urls] in pyproject.toml: run `make stamp`"
            in seen
        )

    stamped = python("notebooks/build.py", "--stamp")
    assert (stamped.returncode, stamped.stdout, stamped.stderr) == (0, "", "")
    mended = python(*GUARD)
    assert mended.returncode == 0, mended.stdout
    for file in [*files, folder / "README.md"]:
        text = file.read_text(encoding="utf-8")
        assert f"/github/a-fork/kit/blob/{REF}/notebooks/" in text
        assert HERE.removeprefix("https://") not in text
    assert list(map(outputs_of, files)) == kept


@pytest.mark.slow
def test_half_a_change_is_one_line(fork):
    folder, python = fork
    change(folder / "pyproject.toml", f'Ref = "{THERE}', f'Ref = "{HERE}')
    stamped = python("notebooks/build.py", "--stamp")
    assert stamped.returncode == 2 and stamped.stderr.count("\n") == 1
    assert stamped.stderr.startswith(
        "[project.urls] of pyproject.toml: expected Repository = https://github.com/OWNER/REPO"
    )
    assert stamped.stderr.endswith(f"got {THERE} and {HERE}/tree/{REF}\n")
