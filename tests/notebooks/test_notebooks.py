"""The notebooks as stored: same head everywhere, outputs that belong to their code, claims and
numbers that a cell produced."""

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

from hpkit.hyperparameters import CARDS, recipe_table
from hpkit.lessons import EXERCISES, ledger_table, load_claims, read_ledger
from hpkit.lessons.claims import MIME

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
sys.path.append(str(ROOT / "notebooks"))
import build  # noqa: E402, the project's own script, in no package


class Stored(NamedTuple):
    """A notebook as it lies in the repository."""

    file: Path
    notebook: nbformat.NotebookNode

    @property
    def code(self) -> list[nbformat.NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def markdown(self) -> list[str]:
        """The prose, a source a cell."""
        return [cell.source for cell in self.notebook.cells if cell.cell_type == "markdown"]

    @property
    def outputs(self) -> list[nbformat.NotebookNode]:
        return [output for cell in self.code for output in cell.outputs]


def read(file: Path) -> Stored:
    return Stored(file, nbformat.read(file, as_version=4))


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def stored(request) -> Stored:
    return read(request.param)


def test_there_are_notebooks_and_their_names_are_those_of_the_cards():
    names = {card.notebook for card in CARDS.values()} | {"00_start_here", "12_your_own_run"}
    assert FILES and {file.stem for file in FILES} <= names


def test_badge_and_set_up_are_the_projects(stored):
    name = stored.file.name
    fresh = nbformat.from_dict(stored.notebook)
    build.stamp(fresh, stored.file.stem)
    for cell, expected in zip(stored.notebook.cells, fresh.cells):
        assert (cell.source, cell.metadata) == (expected.source, expected.metadata), (
            f"{name}, {cell.id}: not that of [project.urls] in pyproject.toml: run `make stamp`"
        )
    assert stored.notebook.cells[1].source.startswith(f"# {name[:2]} · ")


def test_outputs_belong_to_the_code(stored):
    metadata = stored.notebook.metadata
    assert metadata.hpkit.code == build.code_hash(stored.notebook), (
        "the code has changed since it ran: run `make notebooks`"
    )
    counts = [cell.execution_count for cell in stored.code]
    assert counts == list(range(1, len(counts) + 1))
    assert not any(output.output_type == "error" for output in stored.outputs)
    assert any("image/png" in output.get("data", {}) for output in stored.outputs)
    for cell in stored.code:
        if "nbval-check-output" in cell.metadata.get("tags", ()):
            assert cell.outputs, f"nothing to compare in {cell.source[:60]!r}"
    assert "widgets" not in metadata and "widget-view" not in text_of(stored.file)
    assert stored.file.stat().st_size < 1e6
    assert set(metadata.hpkit.versions) == set(build.VERSIONS)


def test_every_tag_makes_a_check_stricter(stored):
    """In nbval's lax mode a cell of `raises-exception` that stops raising passes, and `nbval-skip`
    is silent: neither is used."""
    tags = set()
    for cell in stored.notebook.cells:
        tags.update(cell.metadata.get("tags", ()))
    lax = tags - {"nbval-check-output", "hide-input"}
    assert not lax, (
        f"{lax}: with raises-exception a cell passes when it stops raising, "
        "with nbval-skip anyway: catch the error and print it"
    )


def what_runs(words: str) -> list[str]:
    """Of HTML or Markdown, what would run a script or fetch something as soon as it is looked at; a
    picture's own bytes do not."""
    found = re.findall(
        r"<(?:script|iframe|object|embed|link|meta|form)\b|<[^>]*\son\w+\s*=|javascript:|srcdoc",
        words,
        re.I,
    )
    for source in re.findall(r"""<[^>]*\ssrc\s*=\s*["']?([^"'\s>]*)""", words, re.I):
        if not source.startswith("data:"):
            found.append(source)
    return found


def test_what_is_stored_runs_nothing(stored):
    shown = list(stored.markdown)
    for output in stored.outputs:
        for kind, words in output.get("data", {}).items():
            assert not re.search("javascript|widget|svg|bokeh|jupyterlab", kind)
            if kind in ("text/html", "text/markdown"):
                shown.append(words)
    for words in shown:
        assert what_runs(words) == []


@pytest.mark.parametrize(
    "words",
    [
        "<SCRIPT>1</SCRIPT>",
        "<img alt='' onerror = x>",
        "[here](javascript:x)",
        "<iframe srcdoc=x>",
        "<img src=https://a.b/c.png>",
    ],
)
def test_what_would_run_is_noticed(words):
    assert what_runs(words)


def test_what_only_sounds_is_not_noticed():
    sound = '<audio controls="controls"><source src="data:audio/wav;base64,UklG"></audio>'
    assert not what_runs(sound)


def test_cells_are_short_enough_to_read(stored):
    for cell in stored.code:
        most = 27 if cell.id == "set-up" else 14
        lines = [line for line in cell.source.splitlines() if line]
        assert len(lines) <= most, cell.source
        assert not re.search(r"shell=True|!pip|%pip", cell.source), cell.source


def test_a_changed_cell_is_noticed(stored):
    changed = nbformat.from_dict(stored.notebook)
    changed.cells[-2].cell_type = "code"
    changed.cells[-2].source = "1 + 1"
    assert changed.metadata.hpkit.code != build.code_hash(changed)


def words_of(stored: Stored) -> str:
    """All that the notebook's code says and shows."""
    said = [cell.source for cell in stored.code]
    for output in stored.outputs:
        said.append(str(output.get("text", "")))
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text"):
                said.append(str(value))
    return html.unescape("\n".join(said))


NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w])")


def numbers_in(words: str) -> list[str]:
    return [number.replace(",", "") for number in NUMBER.findall(words)]


def paragraphs_without_a_source(source: str) -> list[str]:
    """Of a cell's prose, what must hold by itself: no solution, and nothing that links to a source;
    without the numbers of lists."""
    open_to_all = re.sub(r"<details>.*?</details>", "", source, flags=re.S)
    unlinked = [part for part in open_to_all.split("\n\n") if "](" not in part]
    return [re.sub(r"^\*\*\d+\.|^\d+\. ", "", part, flags=re.M) for part in unlinked]


def test_prose_states_no_number_that_no_cell_produces(stored):
    """Numbers of two digits or more in the prose: a cell, its output or an exercise has them, or
    their paragraph names a source."""
    known = {float(number) for number in numbers_in(words_of(stored))}
    for exercise in EXERCISES.values():
        if exercise.notebook == stored.file.stem:
            known.update(float(number) for number in numbers_in(exercise.question))
    # The first cell is the badge.
    for source in stored.markdown[1:]:
        for part in paragraphs_without_a_source(source):
            for number in numbers_in(part):
                assert len(number) < 2 or float(number) in known, (
                    f"{number} in {part!r} is in no cell and no output"
                )


def test_links_lead_somewhere(stored):
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(stored.markdown))
    assert links
    for link in links:
        assert link.startswith("https://") or (stored.file.parent / link).exists(), link


def test_sources_are_dated(stored):
    """A paper has its year; a page that changes, the year in which it was read."""
    (cell,) = [source for source in stored.markdown if "**Sources.**" in source]
    _, _, sources = cell.partition("**Sources.**")
    links = re.findall(r"\[([^\]]+)\]\(https://[^)]+\)(.{,12})", sources, re.S)
    assert links
    for words, after in links:
        in_the_words = re.search(r"\b(1[89]|20)\d\d\b", words)
        behind_them = re.match(r"\s*[,(]\s*(1[89]|20)\d\d", after)
        assert in_the_words or behind_them, words


def test_it_ran_on_the_versions_that_are_tested(stored):
    pins = {}
    for line in text_of(ROOT / "requirements.txt").splitlines():
        if "==" in line:
            name, pins[name] = line.split("==")
    for name, version in stored.notebook.metadata.hpkit.versions.items():
        # A build's label, as in 2.13.0+cpu, is another download of the same version.
        assert version.partition("+")[0] == pins[name], (
            f"executed with {name} {version}, tested on {pins[name]}: run `make notebooks`"
        )


# Claims.


def test_every_claim_has_its_check_and_every_check_its_claim():
    claims = load_claims()
    ledger = read_ledger(FILES)
    assert sorted(entry.claim.id for entry in ledger) == sorted(claims), (
        "each claim once: run `make notebooks`"
    )
    for entry in ledger:
        claim = entry.claim
        assert claim == claims[claim.id]
        file = ROOT / "notebooks" / f"{claim.notebook}.ipynb"
        assert file in FILES
        assert f'"{claim.id}"' in text_of(file).replace("\\", "")  # the JSON escapes its marks


PAGES = ("CHEATSHEET", "CLAIMS", "GLOSSARY", "GOING_FURTHER", "RULES")


def test_the_documents_are_as_the_notebooks_and_cards_make_them(tmp_path, monkeypatch):
    readme = text_of(ROOT / "README.md")
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.setattr(build, "FOLDER", tmp_path / "notebooks")
    build.write_documents()
    pages = {file.name for file in (ROOT / "notebooks").glob("*.md")}
    assert pages == {f"{page}.md" for page in PAGES}
    for name in ("README.md", *(f"notebooks/{page}" for page in pages)):
        assert text_of(tmp_path / name) == text_of(ROOT / name), "run `make stamp`"
        assert name == "README.md" or f"({name})" in readme
    assert ledger_table(read_ledger(FILES)) in text_of(ROOT / "notebooks" / "CLAIMS.md")
    assert recipe_table() in text_of(ROOT / "notebooks" / "CHEATSHEET.md")
    for file in FILES:
        assert f"(notebooks/{file.name})" in readme


#: Each hyperparameter of the notes with its own words there, and where they are weighed.
NOTED = {
    "per_device_train_batch_size": "03",
    "gradient_accumulation_steps": "02",
    "warmup_steps": "02",
    "num_train_epochs": "04",
    "learning_rate": "01",
    "lr_scheduler_type": "02",
    "logging_steps": "10",
    "weight_decay": "05",
    "seed": "06",
    "optim": "09",
    "fp16": "08",
    "bf16": "08",
    "max_seq_length": "11",
    "save_strategy": "10",
    "eval_strategy": "10",
    "logging_strategy": "10",
}


def test_every_hyperparameter_of_the_notes_has_a_verdict():
    of_the_notes = [entry.claim.notebook for entry in read_ledger(FILES) if entry.claim.notes]
    for name, number in NOTED.items():
        assert any(notebook.startswith(number) for notebook in of_the_notes), name
        (file,) = [file for file in FILES if file.name.startswith(number)]
        assert f"`{name}`" in text_of(file), name


def test_a_claims_output_is_its_words():
    for file in FILES:
        for output in read(file).outputs:
            kept = output.get("data", {}).get(MIME)
            if kept:
                words = output.data["text/plain"]
                assert kept["verdict"] in words and kept["measured"] in words


def test_the_notebooks_exercises_are_known():
    asked = set()
    for file in FILES:
        asked.update(re.findall(r'check_(?:answer|cure)\(\\"([^\\]+)\\"', text_of(file)))
    names = {file.stem for file in FILES}
    known = {name for name, exercise in EXERCISES.items() if exercise.notebook in names}
    assert asked == known


def test_a_kernel_of_the_layer_has_no_port_that_another_might_take(tmp_path):
    """Two start side by side, and a kernel that finds its port taken dies."""
    shutil.copy(ROOT / "notebooks" / "conftest.py", tmp_path)
    source = (
        "import json\n\nfrom ipykernel import get_connection_info\n\n"
        'assert json.loads(get_connection_info())["transport"] == "ipc"'
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(notebook, tmp_path / "one_cell.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", tmp_path]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0 and "1 passed" in ran.stdout, ran.stdout
