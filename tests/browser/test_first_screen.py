"""What a learner sees of a notebook before scrolling: its question, and what it begins with."""

from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

FILES = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module", autouse=True)
def laptop(page):
    page.set_viewport_size({"width": 1366, "height": 768})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_first_heading_is_on_the_first_screen(page, lab, file):
    """As stored, before any cell has run, with the list of files beside it, as JupyterLab opens."""
    notebook = nbformat.read(file, as_version=4)
    lab.end_kernels()
    nbformat.write(notebook, lab.folder / file.name)
    # No waiting for the kernel: it moves nothing in the page.
    page.goto(f"{lab.url}/lab/tree/{file.name}?token={lab.token}&reset")
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    expect(page.locator(".jp-MarkdownCell .jp-RenderedMarkdown")).to_have_count(len(prose))
    expect(page.locator(".jp-DirListing")).to_be_visible()
    panel = page.locator(".jp-WindowedPanel-outer").bounding_box()
    heading = page.locator(".jp-RenderedMarkdown h2").first.bounding_box()
    assert panel["y"] + panel["height"] <= 768
    assert panel["y"] < heading["y"]
    assert heading["y"] + heading["height"] < panel["y"] + panel["height"]
    # Above it the set-up cell: its code folded, its words not.
    set_up = page.locator(".jp-CodeCell").first
    expect(set_up.locator(".jp-InputPlaceholder")).to_contain_text("Set-up")
    expect(set_up.locator(".cm-content:visible")).to_have_count(0)
    expect(set_up.locator(".jp-OutputArea-output")).to_contain_text("Computing takes")
    assert set_up.bounding_box()["y"] < heading["y"]
