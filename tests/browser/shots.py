"""Pictures to be looked at: `pytest tests/browser/shots.py` fills shots/ with every widget, at two
widths in both themes, and with the notebooks as they are stored."""

from pathlib import Path

import nbformat
import pytest

from .test_widgets import CELLS, Shown, all_widgets

SHOTS = Path(__file__).parent / "shots"
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_shots(page, lab, run_notebook, tiny_model, few_tunes, theme):
    SHOTS.mkdir(exist_ok=True)
    lab.set("apputils-extension/themes", theme=f"JupyterLab {theme}")
    run_notebook(all_widgets(tiny_model, few_tunes))
    shown = {name: Shown(page, name) for name in CELLS}
    order = shown["order"]
    runs = shown["runs"]
    if theme == "Light":  # in the dark they come back committed
        order.button("Commit").click()
    order.expect_alt("the answer: cosine")
    runs.button("Train this point now").click()
    runs.cell.get_by_text("trained seed 31 in").wait_for()
    page.locator(".jp-CodeCell").last.focus()
    page.keyboard.press("Control+b")  # the list of files makes way
    for width in (1400, 700):
        page.set_viewport_size({"width": width, "height": 1500})
        page.wait_for_timeout(1000)
        for name, widget in shown.items():
            if widget.cell.locator("img").count():
                widget.cell.screenshot(path=SHOTS / f"{name}_{width}_{theme.lower()}.png")
        page.screenshot(path=SHOTS / f"page_{width}_{theme.lower()}.png")


@pytest.mark.parametrize("file", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda file: file.stem)
def test_notebook_as_stored(page, open_notebook, file):
    """A notebook as it reads before any cell has run, from its first cell to its last, in pieces of
    2,000 pixels."""
    SHOTS.mkdir(exist_ok=True)
    page.set_viewport_size({"width": 1000, "height": 2100})
    open_notebook(nbformat.read(file, as_version=4), file.name)
    page.locator(".jp-Cell").first.click()
    page.keyboard.press("Control+b")
    panel = page.locator(".jp-WindowedPanel-outer").first
    page.wait_for_timeout(1000)
    for number in range(30):
        # Each piece begins with the last 50 pixels of the one before.
        panel.evaluate("(panel, top) => panel.scrollTo(0, top)", 1950 * number)
        page.wait_for_timeout(300)
        panel.screenshot(path=SHOTS / f"{file.stem}_{number:02}.png")
        if panel.evaluate(
            "panel => panel.scrollTop + panel.clientHeight >= panel.scrollHeight - 2"
        ):
            return
    pytest.fail("longer than thirty pieces")
