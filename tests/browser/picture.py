"""The README's picture of a slider that is moved, in a real browser: `make picture`.

test_picture.py takes it as well, into a folder of its own: so this command cannot rot unseen.
"""

import io
import re
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import expect

from hpkit.formatting import shown_rate
from hpkit.records import load_grids

from .conftest import notebook_of

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "notebooks" / "slider.gif"
CELLS = ("from hpkit.widgets import RunExplorer", 'RunExplorer("learning_rate")')
#: Every rate that was recorded. Between two of them the slider has one that was not.
RATES = sorted(load_grids()["learning_rate"].axes["learning_rate"])
#: Those of which the sentence tells how they end: the best one, and one that does harm.
TOLD = (3e-4, 1e-2)
SHOWN = 1200  # ms, a frame; the last one longer


class Frame(NamedTuple):
    """The widget in the page at one place of its slider."""

    image: Image.Image
    rate: float
    alt: str
    words: str


def take(page, run_notebook) -> list[Frame]:
    """Show the widget, and move its slider by the keyboard from one recorded rate to the next."""
    run_notebook(notebook_of(*CELLS))
    cell = page.locator(".jp-CodeCell").last
    slider = cell.locator(".widget-slider").filter(
        has=page.get_by_text("learning_rate", exact=True)
    )
    slider.locator(".noUi-handle").focus()
    page.keyboard.press("Home")
    frames = []
    for rate in RATES:
        if frames:
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowRight")
        frames.append(look(cell, rate))
    return frames


def look(cell, rate: float) -> Frame:
    """What the cell shows once the picture is that of this rate."""
    picture = cell.locator("img:visible")
    expect(picture).to_have_attribute(
        "alt", re.compile(rf"this: {re.escape(shown_rate(rate))}[:,]")
    )
    picture.evaluate("picture => picture.decode()")
    # The page's right half is empty, and the cell's own buttons lie there.
    box = picture.bounding_box()
    around = cell.bounding_box()
    left = box["x"] - 50
    clip = {
        "x": left,
        "y": around["y"],
        "width": box["x"] + box["width"] + 10 - left,
        "height": around["height"],
    }
    png = cell.page.screenshot(clip=clip)
    return Frame(
        Image.open(io.BytesIO(png)).convert("RGB"),
        rate,
        picture.get_attribute("alt"),
        "\n".join(cell.locator(".widget-html").all_inner_texts()),
    )


def store(frames: list[Frame], file: Path) -> None:
    """As an animated GIF, which a README can show; the whole of it about 150 KB."""
    width = max(frame.image.width for frame in frames)
    height = max(frame.image.height for frame in frames)
    # One below the other, so that all of them share one palette. It keeps what is white white.
    strip = Image.new("RGB", (width, height * len(frames)), "white")
    for number, frame in enumerate(frames):
        strip.paste(frame.image, (0, height * number))
    palette = strip.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    images = []
    for number in range(len(frames)):
        image = strip.crop((0, height * number, width, height * (number + 1)))
        images.append(image.quantize(palette=palette, dither=Image.Dither.NONE))
    images[0].save(
        file,
        save_all=True,
        append_images=images[1:],
        duration=[SHOWN] * (len(images) - 1) + [2 * SHOWN],
        loop=0,
    )


def sentence(frames: list[Frame]) -> str:
    """The picture's alt text in the README, in the widget's own words."""
    ends = []
    for frame in frames:
        if frame.rate in TOLD:
            (end,) = re.findall(r"evaluation loss at the end [^\n]+", frame.words)
            ends.append(f"At {shown_rate(frame.rate)}: {end}.")
    along = f"from {shown_rate(RATES[0])} to {shown_rate(RATES[-1])}"
    return (
        f"A slider of RunExplorer in JupyterLab moves the learning rate {along}, "
        f"and the curve of the recorded runs follows. {' '.join(ends)}"
    )


def test_take_the_picture(page, run_notebook):
    frames = take(page, run_notebook)
    store(frames, PICTURE)
    print(f"\n{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1e3:.0f} KB. The README says:")
    print(f"![{sentence(frames)}](notebooks/slider.gif)")
