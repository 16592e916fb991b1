"""Every notebook as a learner goes through it: opened, run from top to bottom, its widgets moved,
its questions answered.

Trainings end after a few updates here, see SHORT_KERNEL: what they find is the matter of the
notebooks' own tests.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

from hpkit.lessons import EXERCISES

from .conftest import SHORT_KERNEL, run_cell

FILES = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
#: By what a widget of each kind is known in the page: a label or a button that no other kind has.
HALLMARKS = {
    "CadenceExplorer": "save_total_limit (0: none)",
    "FormatExplorer": "format of the bits",
    "MemoryExplorer": "precision",
    "Prediction": "Commit",
    "QuantizationExplorer": "code book",
    "RunExplorer": "Train this point now",
    "ScheduleExplorer": "lr_scheduler_kwargs",
}
ANSWER = re.compile("the answer: (?!not yet shown)")
#: Of each code cell, the labels and buttons in its output.
SEEN = """() => [...document.querySelectorAll(".jp-CodeCell")].map(cell =>
    [...cell.querySelectorAll(".jp-OutputArea :is(.widget-label, button)")]
        .map(one => one.textContent.trim()))"""


class Ran:
    """A notebook that has run in the page: as it is stored and as it was saved then, code cells
    alone."""

    def __init__(self, page, stored, saved):
        self.page = page
        self.stored = code_of(stored)
        self.saved = code_of(saved)

    def cell(self, number: int):
        return self.page.locator(".jp-CodeCell").nth(number)

    def picture(self, number: int):
        return self.cell(number).locator(".jp-OutputArea img:visible")

    def widgets(self) -> list[tuple[int, str]]:
        """The number of the cell and the kind of every widget that the code shows, which is every
        widget that it makes."""
        made = 0
        shown = []
        kinds = {}  # of the names that stand for a widget
        for number, cell in enumerate(self.stored):
            tree = ast.parse(cell.source)
            for part in ast.walk(tree):
                if kind_of(part):
                    made += 1
                if isinstance(part, ast.Assign) and kind_of(part.value):
                    kinds[part.targets[0].id] = kind_of(part.value)
            last = tree.body[-1]
            if isinstance(last, ast.Expr):  # whose value the notebook shows
                kind = kind_of(last.value) or kinds.get(getattr(last.value, "id", None))
                if kind:
                    shown.append((number, kind))
        assert made == len(shown), f"of {made} widgets that the code makes it shows {len(shown)}"
        return shown


def code_of(notebook) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kind_of(call) -> str | None:
    """`Prediction` for the expression `Prediction(...)`; None for what makes no widget."""
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in HALLMARKS:
        return call.func.id
    return None


@pytest.fixture(scope="module", params=FILES, ids=lambda file: file.stem)
def ran(request, page, run_notebook):
    stored = nbformat.read(request.param, as_version=4)
    copy = nbformat.from_dict(stored)
    copy.metadata.kernelspec.name = SHORT_KERNEL
    return Ran(page, stored, run_notebook(copy, request.param.name))


def kinds_of_output(cell) -> Counter:
    kinds = Counter()
    for output in cell.outputs:
        kinds.update(output.get("data", {}).keys())
    return kinds


def test_it_runs_and_shows_what_is_stored(ran):
    """The same kinds of output from every cell, and nothing on stderr."""
    for cell in ran.saved:
        for output in cell.outputs:
            assert output.get("name") != "stderr", (cell.source[:60], output.text)
    for stored, saved in zip(ran.stored, ran.saved, strict=True):
        kinds = kinds_of_output(saved)
        # The live widget: what is stored has its words alone.
        del kinds["application/vnd.jupyter.widget-view+json"]
        assert kinds_of_output(stored) == kinds, stored.source


def test_every_widget_is_there(ran):
    made = ran.widgets()
    seen = []
    for number, labels in enumerate(ran.page.evaluate(SEEN)):
        for kind, mark in HALLMARKS.items():
            seen += [(number, kind)] * labels.count(mark)
    assert seen == made
    for number, kind in made:
        expect(ran.picture(number)).to_have_count(1)
        assert ran.picture(number).get_attribute("alt"), kind
        assert ran.picture(number).evaluate("picture => picture.naturalWidth") == 700, kind


def press_a_key(page, cell) -> None:
    """One that moves the widget of this cell: of a slider, of the bits of a number, of a menu."""
    sliders = cell.locator(".widget-slider:visible")
    sliders = sliders.filter(has_not_text="seed of a run now")  # that one draws nothing yet
    handles = sliders.locator(".noUi-handle")
    bits = cell.locator("button.widget-toggle-button:visible")
    if handles.count():
        handle = handles.first
        at = handle.get_attribute("aria-valuenow")
        at_the_end = at == handle.get_attribute("aria-valuemax")
        handle.focus()
        page.keyboard.press("ArrowLeft" if at_the_end else "ArrowRight")
    elif bits.count():
        bits.last.focus()
        page.keyboard.press("Space")
    else:
        cell.locator("select").first.focus()
        for pressed in ("Space", "ArrowDown", "Enter"):
            page.keyboard.press(pressed)


def test_every_widget_follows_a_key(ran, page):
    for number, _ in ran.widgets():
        picture = ran.picture(number)
        alt = picture.get_attribute("alt")
        src = picture.get_attribute("src")
        press_a_key(page, ran.cell(number))
        expect(picture).not_to_have_attribute("alt", alt)
        expect(picture).not_to_have_attribute("src", src)


def test_every_prediction_is_committed_and_scored(ran, page):
    for number, kind in ran.widgets():
        if kind != "Prediction":
            continue
        cell = ran.cell(number)
        expect(ran.picture(number)).not_to_have_attribute("alt", ANSWER)
        cell.get_by_role("button", name="Commit").focus()
        page.keyboard.press("Enter")
        expect(ran.picture(number)).to_have_attribute("alt", ANSWER)
        expect(cell.get_by_text(re.compile("within the tolerance"))).to_be_visible()


def test_every_exercise_is_answered_wrongly_and_rightly(ran, page):
    asked = []
    for number, cell in enumerate(ran.stored):
        for call, name in re.findall(r'(check_answer\("([^"]+)", )\.\.\.\)', cell.source):
            asked.append((number, call, name))
    assert asked
    for number, call, name in asked:
        exercise = EXERCISES[name]
        wrong, reveals = next(iter(exercise.wrong().items()))
        replies = [
            (wrong, f"✗ Not yet. {reveals}"),
            (exercise.answer(), f"✓ Right. {exercise.why}"),
        ]
        for answer, reply in replies:
            source = ran.stored[number].source.replace(f"{call}...", f"{call}{answer!r}")
            assert run_cell(page, ran.cell(number), source) == reply
