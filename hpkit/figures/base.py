"""Figures as PNG bytes, each with a sentence (alt text) made from the same numbers. Nothing here trains or displays.

A function draws once. A class keeps its figure for a widget and moves what is in it, which takes a third of the time;
everything that can differ is set at each drawing, so that the same numbers give the same bytes whatever came before.
"""

import io
import math
from base64 import b64encode
from dataclasses import dataclass

from hpkit.formatting import shown_rate

# Okabe and Ito's colours (2008) stay apart for colour-blind readers; marks and hatches tell them apart without colour.
BLUE, ORANGE, GREY, GREEN, SKY = "#0072B2", "#D55E00", "#666666", "#009E73", "#56B4E9"

#: More points than pixels cost time and show nothing.
MOST_POINTS = 1500


@dataclass(frozen=True)  # of a tuple IPython would show the bytes
class Picture:
    """A picture and what it shows in words. In a notebook it is shown, and its words are what a test compares."""

    png: bytes
    alt: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        return {"image/png": b64encode(self.png).decode(), "text/plain": self.alt}, {
            "image/png": {"alt": self.alt}
        }


def blank(height: float, layout: str | None = "constrained"):
    """An empty figure 700 pixels wide; `height` in inches of 100 pixels."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no window

    return Figure(figsize=(7, height), dpi=100, layout=layout)


def rendered(figure, alt: str) -> Picture:
    """The figure as a picture; the same figure gives the same bytes."""
    png = io.BytesIO()
    # Compressed as little as possible: a redraw takes a tenth less time, and a picture a tenth more space.
    figure.savefig(png, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1})
    return Picture(png.getvalue(), alt)


def _rate(rate: float) -> str:
    return shown_rate(rate) if rate else "0"


def key(figure, marks: list) -> list:
    """A key to the marks in two columns at the top; returns its texts. A matplotlib legend takes a third of a redraw."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    texts, rows, pixel = [], math.ceil(len(marks) / 2), 1 / (100 * figure.get_figheight())
    for number, mark in enumerate(marks):
        column, row = divmod(number, rows)
        x, y = 0.02 + 0.54 * column, 1 - (18 + 21 * row) * pixel
        if isinstance(mark, Rectangle):
            sample = Rectangle((x, y - 5 * pixel), 0.04, 11 * pixel)
            sample.set(
                **{
                    name: getattr(mark, f"get_{name}")()
                    for name in ("facecolor", "edgecolor", "hatch")
                }
            )
        else:
            sample = Line2D([x, x + 0.02, x + 0.04], [y, y, y], markevery=[1])
            names = ("color", "linestyle", "linewidth", "marker", "markersize", "markerfacecolor")
            sample.set(**{name: getattr(mark, f"get_{name}")() for name in names})
        figure.add_artist(sample)
        texts.append(figure.text(x + 0.055, y, "", va="center_baseline"))
    return texts


def say(texts: list, words: list[str]) -> None:
    for text, said in zip(texts, words):
        text.set_text(said)
