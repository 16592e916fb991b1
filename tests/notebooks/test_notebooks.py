"""The notebooks as stored: same head everywhere, outputs that belong to their code, claims and numbers that a cell produced."""

import html
import re
import sys
from pathlib import Path

import nbformat
import pytest

from hpkit.hyperparameters import CARDS
from hpkit.lessons import EXERCISES, ledger_table, load_claims, read_ledger
from hpkit.lessons.claims import MIME

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
sys.path.append(str(ROOT / "notebooks"))
import build  # noqa: E402, the project's own script, in no package


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def stored(request):
    return request.param, nbformat.read(request.param, as_version=4)


def sources(notebook, kind: str) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_there_are_notebooks_and_their_names_are_those_of_the_cards():
    assert FILES and {file.stem for file in FILES} <= {card.notebook for card in CARDS.values()} | {
        "00_start_here",
        "12_your_own_run",
    }


def test_badge_and_set_up_are_the_projects(stored):
    file, notebook = stored
    fresh = nbformat.from_dict(notebook)
    build.stamp(fresh, file.stem)
    for cell, expected in zip(notebook.cells, fresh.cells):
        assert cell.source == expected.source, (
            f"{file.name}, {cell.id}: not that of [project.urls] in pyproject.toml: run `make stamp`"
        )
    assert notebook.cells[1].source.startswith(f"# {file.stem[:2]} · ")


def test_outputs_belong_to_the_code(stored):
    file, notebook = stored
    assert notebook.metadata.hpkit.code == build.code_hash(notebook), (
        "the code has changed since it ran: run `make notebooks`"
    )
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    for cell in cells:
        if "nbval-check-output" in cell.metadata.get("tags", ()):
            assert cell.outputs, f"nothing to compare in {cell.source[:60]!r}"
    assert "widgets" not in notebook.metadata and "widget-view" not in file.read_text(
        encoding="utf-8"
    )
    assert file.stat().st_size < 1e6 and set(notebook.metadata.hpkit.versions) == set(
        build.VERSIONS
    )


def test_every_tag_makes_a_check_stricter(stored):
    """In nbval's lax mode a cell of `raises-exception` that stops raising passes, and `nbval-skip` is silent: neither is used."""
    lax = {tag for cell in stored[1].cells for tag in cell.metadata.get("tags", ())} - {
        "nbval-check-output"
    }
    assert not lax, (
        f"{lax}: with raises-exception a cell passes when it stops raising, with nbval-skip anyway: catch the error and print it"
    )


def what_runs(words: str) -> list[str]:
    """Of HTML or Markdown, what would run a script or fetch something as soon as it is looked at; a picture's own bytes do not."""
    found = re.findall(
        r"<(?:script|iframe|object|embed|link|meta|form)\b|<[^>]*\son\w+\s*=|javascript:|srcdoc",
        words,
        re.I,
    )
    return found + [
        source
        for source in re.findall(r"""<[^>]*\ssrc\s*=\s*["']?([^"'\s>]*)""", words, re.I)
        if not source.startswith("data:")
    ]


def test_what_is_stored_runs_nothing(stored):
    for cell in stored[1].cells:
        shown = [cell.source] * (cell.cell_type == "markdown")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            assert not [
                kind for kind in data if re.search("javascript|widget|svg|bokeh|jupyterlab", kind)
            ]
            shown += [
                words for kind, words in data.items() if kind in ("text/html", "text/markdown")
            ]
        assert [found for words in shown for found in what_runs(words)] == []


def test_what_would_run_is_noticed():
    hostile = [
        "<SCRIPT>1</SCRIPT>",
        "<img alt='' onerror = x>",
        "[here](javascript:x)",
        "<iframe srcdoc=x>",
        "<img src=https://a.b/c.png>",
    ]
    assert all(map(what_runs, hostile)) and not what_runs(
        '<audio controls="controls"><source src="data:audio/wav;base64,UklG"></audio>'
    )


def test_cells_are_short_enough_to_read(stored):
    for cell in (cell for cell in stored[1].cells if cell.cell_type == "code"):
        most = 21 if cell.id == "set-up" else 14
        assert sum(map(bool, cell.source.splitlines())) <= most and not re.search(
            r"shell=True|!pip|%pip", cell.source
        ), cell.source


def test_a_changed_cell_is_noticed(stored):
    notebook = nbformat.from_dict(stored[1])
    notebook.cells[-2].cell_type, notebook.cells[-2].source = "code", "1 + 1"
    assert notebook.metadata.hpkit.code != build.code_hash(notebook)


def words_of(notebook) -> str:
    """All that the notebook's code says and shows."""
    said = sources(notebook, "code")
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        said += [
            str(output.get("text", "")),
            *(
                str(value)
                for kind, value in output.get("data", {}).items()
                if kind.startswith("text")
            ),
        ]
    return html.unescape("\n".join(said))


NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w])")


def test_prose_states_no_number_that_no_cell_produces(stored):
    """Numbers of two digits or more in the prose: a cell, its output or an exercise has them, or their paragraph names a source."""
    file, notebook = stored
    asked = [exercise.question for exercise in EXERCISES.values() if exercise.notebook == file.stem]
    known = {
        float(number.replace(",", ""))
        for number in NUMBER.findall("\n".join([words_of(notebook), *asked]))
    }
    for source in sources(notebook, "markdown")[1:]:
        for part in re.sub(r"<details>.*?</details>", "", source, flags=re.S).split("\n\n"):
            if "](" in part:
                continue
            for number in NUMBER.findall(re.sub(r"^\*\*\d+\.|^\d+\. ", "", part, flags=re.M)):
                plain = number.replace(",", "")
                assert len(plain) < 2 or float(plain) in known, (
                    f"{number} in {part!r} is in no cell and no output"
                )


def test_links_lead_somewhere(stored):
    file, notebook = stored
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(sources(notebook, "markdown")))
    assert links
    for link in links:
        assert link.startswith("https://") or (file.parent / link).exists(), link


def test_sources_are_dated(stored):
    """A paper has its year; a page that changes, the year in which it was read."""
    (sources_cell,) = [
        cell.source
        for cell in stored[1].cells
        if cell.cell_type == "markdown" and "**Sources.**" in cell.source
    ]
    links = re.findall(
        r"\[([^\]]+)\]\(https://[^)]+\)(.{,12})", sources_cell.partition("**Sources.**")[2], re.S
    )
    assert links
    for words, after in links:
        assert re.search(r"\b(1[89]|20)\d\d\b", words) or re.match(
            r"\s*[,(]\s*(1[89]|20)\d\d", after
        ), words


def test_it_ran_on_the_versions_that_are_tested(stored):
    pins = dict(
        line.split("==")
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    for name, version in stored[1].metadata.hpkit.versions.items():
        assert version.partition("+")[0] == pins[name], (
            f"executed with {name} {version}, tested on {pins[name]}: run `make notebooks`"
        )


# Claims.


def test_every_claim_has_its_check_and_every_check_its_claim():
    claims, ledger = load_claims(), read_ledger(FILES)
    assert sorted(entry.claim.id for entry in ledger) == sorted(claims), (
        "each claim once: run `make notebooks`"
    )
    for entry in ledger:
        assert entry.claim == claims[entry.claim.id]
        file = ROOT / "notebooks" / f"{entry.claim.notebook}.ipynb"
        assert file in FILES and f'"{entry.claim.id}"' in file.read_text(encoding="utf-8").replace(
            "\\", ""
        )


def test_the_documents_are_as_the_notebooks_and_cards_make_them(tmp_path, monkeypatch):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.setattr(build, "FOLDER", tmp_path / "notebooks")
    build.write_documents()
    for name in ("README.md", "CHEATSHEET.md", "GLOSSARY.md"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (ROOT / name).read_text(
            encoding="utf-8"
        ), "run `make notebooks`"
        assert name == "README.md" or f"({name})" in readme
    assert ledger_table(read_ledger(FILES)) in readme and all(
        f"(notebooks/{file.name})" in readme for file in FILES
    )


#: Each hyperparameter of the notes with its own words there, and where they are weighed.
NOTED = """per_device_train_batch_size 03, gradient_accumulation_steps 02, warmup_steps 02, num_train_epochs 04, learning_rate 01,
lr_scheduler_type 02, logging_steps 10, weight_decay 05, seed 06, optim 09, fp16 08, bf16 08, max_seq_length 11, save_strategy 10,
eval_strategy 10, logging_strategy 10"""


def test_every_hyperparameter_of_the_notes_has_a_verdict():
    ledger = read_ledger(FILES)
    for name, number in (entry.split() for entry in NOTED.split(",")):
        claims = [
            entry
            for entry in ledger
            if entry.claim.notebook.startswith(number) and entry.claim.notes
        ]
        source = next(file for file in FILES if file.name.startswith(number)).read_text(
            encoding="utf-8"
        )
        assert claims and f"`{name}`" in source, name


def test_a_claims_output_is_its_words():
    for file in FILES:
        for cell in nbformat.read(file, as_version=4).cells:
            for output in cell.get("outputs", ()):
                if kept := output.get("data", {}).get(MIME):
                    assert (
                        kept["verdict"] in output.data["text/plain"]
                        and kept["measured"] in output.data["text/plain"]
                    )


def test_the_notebooks_exercises_are_known():
    asked = {
        name
        for file in FILES
        for name in re.findall(
            r'check_(?:answer|cure)\(\\"([^\\]+)\\"', file.read_text(encoding="utf-8")
        )
    }
    assert asked == {
        name
        for name, exercise in EXERCISES.items()
        if exercise.notebook in {file.stem for file in FILES}
    }
