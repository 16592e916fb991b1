"""The guards of this layer, each seen to notice what it is there for."""

import time

import pytest

from . import test_notebooks
from .conftest import HOW_FAR, check_all_is_well, notebook_of

BROKEN = """
import ipywidgets
from hpkit.figures.base import blank, rendered
from hpkit.widgets import Interactive
from hpkit.widgets.base import slider

class Broken(Interactive):
    def __init__(self):
        self.numbers = [10, 20]
        super().__init__({"place": slider("place", range(5))})

    def _draw(self):
        words = f"place {self.place}: {self.numbers[self.place]}"
        return rendered(blank(2), words), ""

Broken()"""
BROKEN_BUTTON = """
button = ipywidgets.Button(description="press")
button.on_click(lambda _: {}["missing"])
button"""


def noticed(page, words: str) -> str:
    """What the check says when it notices this, within ten seconds; before, it may notice something
    else."""
    for _ in range(100):
        try:
            check_all_is_well(page)
        except AssertionError as found:
            if words in str(found):
                return str(found)
        page.wait_for_timeout(100)
    pytest.fail(f"nobody noticed: {words}")


def test_a_kernel_that_dies_is_noticed_at_once(run_notebook, page):
    began = time.monotonic()
    said = r"while test\.ipynb ran, JupyterLab said: Kernel Restarting"
    with pytest.raises(AssertionError, match=said) as caught:
        run_notebook(notebook_of("1 + 1", "import os\nos._exit(1)", "2 + 2"))
    print(f"{caught.value}, {time.monotonic() - began:.0f} s")
    assert time.monotonic() - began < 60
    noticed(page, "Kernel Restarting")  # after a test too, where none runs a cell
    page.goto("about:blank")


def test_a_dialog_is_read_once_it_has_its_title(page):
    """JupyterLab may draw the body first; once a busy machine read it then, and the words that
    matter were missing."""
    page.set_content(
        '<div class="jp-Dialog"><div class="jp-Dialog-header"></div>'
        "<div>it appears to have died</div></div>"
    )
    assert page.evaluate(HOW_FAR) == ""
    page.evaluate("document.querySelector('.jp-Dialog-header').innerText = 'Kernel Restarting'")
    assert page.evaluate(HOW_FAR).split() == "Kernel Restarting it appears to have died".split()
    page.goto("about:blank")


def test_a_cell_that_does_not_end_is_noticed(run_notebook):
    with pytest.raises(AssertionError, match=r"(?s)after 2 s test\.ipynb still runs: .*while True"):
        run_notebook(notebook_of("1 + 1", "while True:\n    pass"), seconds=2)


def test_an_error_in_a_cell_is_noticed(run_notebook):
    with pytest.raises(AssertionError, match="NameError: name 'nowhere' is not defined"):
        run_notebook(notebook_of("1 + 1", "nowhere", "2 + 2"))


def test_a_broken_callback_is_noticed(run_notebook, page):
    run_notebook(notebook_of(BROKEN, BROKEN_BUTTON))
    page.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("img", name="place 1: 20", exact=True).wait_for()
    check_all_is_well(page)
    page.keyboard.press("ArrowRight")
    page.get_by_role("alert").wait_for()
    print(noticed(page, "in a callback:"))
    # The reader is told, and it stays.
    print(noticed(page, "a widget says: Not possible: IndexError: list index out of range"))
    page.keyboard.press("ArrowLeft")
    page.get_by_role("img", name="place 1: 20", exact=True).wait_for()
    check_all_is_well(page)
    # Of this one JupyterLab shows nothing at all.
    page.get_by_role("button", name="press").click()
    print(noticed(page, "KeyError: 'missing'"))


def test_a_widget_that_is_not_there_is_noticed(run_notebook, page):
    forgotten = notebook_of(
        "from hpkit.widgets import CadenceExplorer", "explorer = CadenceExplorer()", "1 + 1"
    )
    saved = run_notebook(forgotten)
    with pytest.raises(AssertionError, match="of 1 widgets that the code makes it shows 0"):
        test_notebooks.Ran(page, forgotten, saved).widgets()
    forgotten.cells[1].source = "CadenceExplorer()"
    with pytest.raises(AssertionError, match="CadenceExplorer"):
        test_notebooks.test_every_widget_is_there(test_notebooks.Ran(page, forgotten, saved))


def test_an_error_on_the_console_is_noticed(page):
    page.evaluate("console.error('out of order')")
    noticed(page, "out of order")
    page.evaluate("setTimeout(() => nowhere.found, 0)")
    noticed(page, "nowhere is not defined")
