"""What all pictures share: size and colours, the PNG bytes, the key, the sentence (alt text).

A picture's sentence is made from the same numbers as its drawing. Nothing here trains or displays.

A function draws once. A class keeps its figure for a widget and moves what is in it, which takes
a third of the time; everything that can differ is set at each drawing, so that the same numbers
give the same bytes whatever came before.
"""

import io
import math
from base64 import b64encode
from dataclasses import dataclass

# Okabe and Ito's colours (2008) stay apart for colour-blind readers; marks and hatches tell them
# apart without colour.
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREY = "#666666"
GREEN = "#009E73"
SKY = "#56B4E9"

#: More points than pixels cost time and show nothing.
MOST_POINTS = 1500


@dataclass(frozen=True)  # of a tuple IPython would show the bytes
class Picture:
    """A picture and what it shows in words.

    In a notebook it is shown, and its words are what a test compares.
    """

    png: bytes
    alt: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data = {"image/png": b64encode(self.png).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def blank(height: float, layout: str | None = "constrained"):
    """An empty figure 700 pixels wide; `height` in inches of 100 pixels."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no window

    return Figure(figsize=(7, height), dpi=100, layout=layout)


def rendered(figure, alt: str) -> Picture:
    """The figure as a picture; the same figure gives the same bytes."""
    png = io.BytesIO()
    # matplotlib writes its version as the software: without it another version gives the same
    # bytes. Compressed as little as possible: a redraw takes a tenth less time, and a picture
    # a tenth more space.
    figure.savefig(png, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1})
    return Picture(png.getvalue(), alt)


def key(figure, marks: list) -> list:
    """A key to the marks (lines and rectangles) in two columns at the top; returns its texts.

    The texts are empty until `say` fills them. A matplotlib legend takes a third of a redraw.
    """
    rows = math.ceil(len(marks) / 2)
    pixel = 1 / (100 * figure.get_figheight())
    texts = []
    for number, mark in enumerate(marks):
        column, row = divmod(number, rows)
        x = 0.02 + 0.54 * column
        y = 1 - (18 + 21 * row) * pixel
        figure.add_artist(_sample(mark, x, y, pixel))
        texts.append(figure.text(x + 0.055, y, "", va="center_baseline"))
    return texts


def _sample(mark, x: float, y: float, pixel: float):
    """A small line or rectangle that looks as `mark` does; all in shares of the figure."""
    from matplotlib.artist import getp
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    # Not matplotlib's own `update_from`: it copies the transform as well, and the sample would
    # stand in the coordinates of the axes.
    if isinstance(mark, Rectangle):
        sample = Rectangle((x, y - 5 * pixel), 0.04, 11 * pixel)
        look = ("facecolor", "edgecolor", "hatch")
    else:
        # Of three points the middle one alone has the marker.
        sample = Line2D([x, x + 0.02, x + 0.04], [y, y, y], markevery=[1])
        look = ("color", "linestyle", "linewidth", "marker", "markersize", "markerfacecolor")
    sample.set(**{name: getp(mark, name) for name in look})
    return sample


def say(texts: list, words: list[str]) -> None:
    """Fill the texts of a key, in its order; what there are no words for stays as it is."""
    for text, said in zip(texts, words):
        text.set_text(said)
