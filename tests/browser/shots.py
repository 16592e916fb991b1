"""Pictures of every widget to be looked at, at two widths in both themes: `pytest tests/browser/shots.py` fills shots/."""

from pathlib import Path

import pytest

from .test_widgets import CELLS, Shown, notebook_of

SHOTS = Path(__file__).parent / "shots"


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_shots(page, lab, run_notebook, tiny_model, few_tunes, theme):
    SHOTS.mkdir(exist_ok=True)
    lab.set("apputils-extension/themes", theme=f"JupyterLab {theme}")
    run_notebook(*notebook_of(tiny_model, few_tunes))
    shown = {name: Shown(page, name) for name in CELLS}
    order, runs = shown["order"], shown["runs"]
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
