"""One click on a badge: the set-up cell and every notebook in an environment with Colab's versions,
without the repository.

The tests that need an environment without hpkit come first; pytest keeps a file's order.
"""

import re
from pathlib import Path
from typing import NamedTuple

import build
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from .conftest import ROOT, run, stamped

NAMES = [file.stem for file in sorted((ROOT / "notebooks").glob("*.ipynb"))]
SHIPPED = ("torch", "numpy", "transformers", "ipywidgets", "matplotlib")


def set_up_of(name: str, *first: str):
    """A notebook of the set-up cell of another, unchanged, after cells of the sources `first`."""
    (cell,) = (cell for cell in stamped(name).cells if cell.id == "set-up")
    return nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, first), cell])


def printed(notebook) -> str:
    return "".join(output.get("text", "") for output in notebook.cells[-1].outputs)


def refused(colab, mirror: Path, folder: Path) -> str:
    """Run the set-up cell where it cannot install: the text of its error, after a look that nothing
    has changed."""
    before = colab.freeze()
    assert "hpkit" not in before, (
        "hpkit is there already: this test must come before those that install it"
    )
    with pytest.raises(CellExecutionError) as error:
        colab.execute(set_up_of(NAMES[0]), mirror, folder)
    assert colab.freeze() == before
    print(error.value.evalue)
    return error.value.evalue


def test_a_pin_that_would_change_colabs_numpy_is_refused(colab, make_mirror, tmp_path):
    def pin(folder: Path):
        file = folder / "pyproject.toml"
        text = file.read_text(encoding="utf-8")
        text, pinned = re.subn(r'"numpy>=[^"]*"', '"numpy==2.2.*"', text)
        assert pinned == 1
        file.write_text(text, encoding="utf-8")

    words = refused(colab, make_mirror(pin), tmp_path)
    assert re.search(r"hpkit .* depends on numpy==2\.2\.\*\n.*constraint\) numpy==2\.1\.3", words)
    assert "versions in conflict? Nothing was changed; choose another runtime version" in words


def test_a_repository_that_is_not_there_is_said(colab, tmp_path):
    words = refused(colab, tmp_path / "nowhere", tmp_path)
    repository, ref = build.address()
    assert "does not exist" in words or "not appear to be a git repository" in words
    assert f"needs the internet, and {repository}/tree/{ref} must open in a browser" in words
    assert words.endswith("run this cell again.")


# From here on hpkit is installed.


class Installed(NamedTuple):
    """What was there before the set-up cell ran and after it, and what it printed."""

    before: dict[str, str]
    after: dict[str, str]
    printed: str


@pytest.fixture(scope="session")
def installed(colab, make_mirror, tmp_path_factory):
    folder = tmp_path_factory.mktemp("content")
    (folder / "hpkit").mkdir()  # as after a `git clone`: no package, though Python could import it
    before = colab.freeze()
    ran = colab.execute(set_up_of(NAMES[0]), make_mirror(), folder)
    return Installed(before, colab.freeze(), printed(ran))


def test_set_up_installs_what_is_missing_and_changes_nothing_else(colab, installed):
    before = installed.before
    after = installed.after
    assert set(SHIPPED) <= before.keys()
    assert not {"hpkit", "bitsandbytes", "music21"} & before.keys()
    assert {name: after.get(name) for name in before} == before
    added = after.keys() - before.keys()
    print("added:", ", ".join(sorted(f"{name} {after[name]}" for name in added)))
    assert after["hpkit"].startswith(f"git+{build.address()[0]}@")
    assert {"hpkit", "bitsandbytes", "music21"} <= added
    pip = [colab.python, "-m", "pip", "--disable-pip-version-check"]
    unneeded = run(*pip, "list", "--not-required", "--format=freeze").splitlines()
    # All else is there because hpkit needs it.
    assert added & {line.partition("==")[0] for line in unneeded} == {"hpkit"}
    run(*pip, "check")


def test_set_up_says_what_the_machine_can_do_and_how_long_it_takes(installed):
    assert re.fullmatch(
        r"This machine: .+ \((CPU, \d+ threads?|GPU|Apple GPU), \d+ GB free\), "
        r"bf16 (in hardware|only emulated)\.\n"
        r"Computing takes .+ on two CPU cores\.\n",
        installed.printed,
    )


def test_set_up_does_nothing_where_hpkit_is_installed(colab, installed, tmp_path):
    notebook = set_up_of(NAMES[-1], "import subprocess\n\nsubprocess.run = None")
    ran = colab.execute(notebook, tmp_path / "nowhere", tmp_path)
    assert printed(ran).startswith("This machine: ")
    assert colab.freeze() == installed.after


@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs(name, colab, installed, tmp_path):
    """In an empty folder, as on Colab: the repository's other files are not there. hpkit is the one
    that was installed."""
    notebook = stamped(name)
    notebook.cells.append(nbformat.v4.new_code_cell("import hpkit\n\nprint(hpkit.__file__)"))
    ran = colab.execute(notebook, tmp_path / "nowhere", tmp_path)
    assert Path(printed(ran).strip()).is_relative_to(colab.folder / "venv")
    for cell in ran.cells:
        kinds = {output.output_type for output in cell.get("outputs", ())}
        assert "error" not in kinds, cell.source


def test_notebooks_have_changed_no_version(colab, installed):
    assert colab.freeze() == installed.after
