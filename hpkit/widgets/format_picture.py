"""The picture of one number in several formats, which `FormatExplorer` moves."""

import math
from typing import NamedTuple

from hpkit.figures.base import BLUE, GREEN, GREY, ORANGE, Picture, blank, rendered, say
from hpkit.formatting import exact_number
from hpkit.labs.formats import Format, Rounding

#: Where 0 and inf stand on an axis of powers of ten.
_ZERO = -51.0
_INF = 44.0


class Scale(NamedTuple):
    """Ticks along the lower edge of an axes and the texts below them."""

    ticks: object
    texts: list


class FormatPicture:
    """One number in several formats.

    Above, its place in their ranges; below, close up, on rulers of the numbers that they have.
    """

    height = 4.6
    most_marks = 130  # more on a ruler are drawn as a band

    def __init__(self):
        self.figure = blank(self.height, layout=None)
        self.ranges = self.figure.add_axes((0.12, 0.7, 0.86, 0.24))
        self.rulers = self.figure.add_axes((0.12, 0.08, 0.86, 0.5))
        # Texts of our own instead of ticks and titles, whose places matplotlib computes anew:
        # that doubles a redraw.
        self.titles = [self.figure.text(0.12, y, "") for y in (0.955, 0.595)]
        dashed = {"color": "black", "linestyle": "--", "linewidth": 1.2}
        self.asked = [axes.axvline(0, **dashed) for axes in (self.ranges, self.rulers)]
        self.rows = [self._row(colour) for colour in (BLUE, ORANGE, GREEN, GREY)]
        self.scales = [_add_scale(axes, most=10) for axes in (self.ranges, self.rulers)]
        powers = {ten: f"1e{ten}" for ten in range(-40, 40, 10)} | {0: "1"}
        _label_scale(self.scales[0], {_ZERO: "0", **powers, _INF: "inf"})
        self.ranges.set_xlim(_ZERO - 2, _INF + 2)

    def _row(self, colour: str) -> dict:
        """All that can be drawn of one format, by name; `draw` moves it to its row."""
        from matplotlib.collections import LineCollection

        diamond = {
            "color": "black",
            "marker": "D",
            "markersize": 8,
            "markerfacecolor": "white",
            "linestyle": "",
            "clip_on": False,
        }
        hatched = {"facecolor": "white", "edgecolor": colour, "hatch": "////", "linewidth": 1}
        # x as a share of the width, y by rows: names stay at the edge whatever the axis shows.
        at_range = self.ranges.get_yaxis_transform()
        at_ruler = self.rulers.get_yaxis_transform()
        left = {"ha": "right", "va": "center"}
        # White behind the words, which lie over the ruler's marks.
        words = {"va": "center", "fontsize": 9.5}
        words["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        marks = LineCollection([], colors=colour, linewidths=1.6)
        return {
            "normal": self.ranges.barh(0, 1, height=0.5, color=colour)[0],
            "subnormal": self.ranges.barh(0, 1, height=0.5, **hatched)[0],
            "place": self.ranges.plot([], [], **diamond)[0],
            "marks": self.rulers.add_collection(marks),
            "band": self.rulers.barh(0, 1, height=0.36, color=colour, alpha=0.45)[0],
            "result": self.rulers.plot([], [], **diamond)[0],
            "names": self.ranges.text(-0.015, 0, "", transform=at_range, **left),
            "name": self.rulers.text(-0.015, 0, "", transform=at_ruler, **left),
            "words": self.rulers.text(0.004, 0, "", transform=at_ruler, **words),
        }

    def draw(self, roundings: list[Rounding]) -> Picture:
        """`roundings` are those of one number in three or four formats."""
        value = roundings[0].value
        coarsest = max(roundings, key=lambda rounded: rounded.spacing)
        # No close-up of NaN, of inf and of what is far beyond every format.
        close_up = None
        if abs(value) < 2 * max(rounded.format.largest for rounded in roundings):
            close_up = (value - 1.7 * coarsest.spacing, value + 1.7 * coarsest.spacing)
        self._draw_rows(roundings, close_up)
        self._draw_asked(value, close_up is not None)
        self.rulers.set_xlim(*close_up or (0.0, 1.0))
        labels = _ruler_labels(coarsest) if close_up else []
        _label_scale(self.scales[1], {number: exact_number(number) for number in labels})
        say(self.titles, [_range_title(value), _ruler_title(coarsest.format, close_up)])
        words = "; ".join(f"{rounded.format.name} {rounded}" for rounded in roundings)
        return rendered(self.figure, f"{exact_number(value)} in {len(roundings)} formats: {words}.")

    def _draw_rows(self, roundings: list[Rounding], close_up: tuple | None) -> None:
        for row, artists in enumerate(self.rows):
            for artist in artists.values():
                artist.set_visible(row < len(roundings))
        for row, (artists, rounded) in enumerate(zip(self.rows, roundings)):
            for name in ("names", "name"):
                artists[name].set(text=rounded.format.name, y=row)
            self._draw_range(artists, rounded, row)
            self._draw_ruler(artists, rounded, row, close_up)
        # Row 0 on top; the rulers leave room above it for its words.
        self.ranges.set_ylim(len(roundings) - 0.5, -0.5)
        self.rulers.set_ylim(len(roundings) - 0.5, -0.75)

    def _draw_range(self, artists: dict, rounded: Rounding, row: int) -> None:
        lowest = math.log10(rounded.format.smallest_subnormal)
        normal = math.log10(rounded.format.smallest_normal)
        highest = math.log10(rounded.format.largest)
        artists["subnormal"].set(x=lowest, width=normal - lowest, y=row - 0.25)
        artists["normal"].set(x=normal, width=highest - normal, y=row - 0.25)
        if math.isnan(rounded.result):
            artists["place"].set_data([], [])
        else:
            artists["place"].set_data([_place_in_range(rounded.result)], [row])

    def _draw_ruler(
        self, artists: dict, rounded: Rounding, row: int, close_up: tuple | None
    ) -> None:
        artists["words"].set(text=f"becomes {rounded}", y=row - 0.46)
        artists["band"].set_visible(False)
        artists["marks"].set_segments([])
        artists["result"].set_data([], [])
        if close_up is None:
            return
        low, high = close_up
        numbers = _numbers_within(rounded.format, low, high, self.most_marks)
        if numbers is None:
            left = max(low, -rounded.format.largest)
            right = min(high, rounded.format.largest)
            artists["band"].set(x=left, width=right - left, y=row - 0.18, visible=True)
        else:
            segments = [[(number, row - 0.18), (number, row + 0.18)] for number in numbers]
            artists["marks"].set_segments(segments)
        if low <= rounded.result <= high:
            artists["result"].set_data([rounded.result], [row])

    def _draw_asked(self, value: float, known: bool) -> None:
        """The dashed lines through both axes at the number that was asked for."""
        in_range, on_ruler = self.asked
        place = _place_in_range(value)
        in_range.set(xdata=[place, place], visible=not math.isnan(value))
        on_ruler.set(xdata=[value, value], visible=known)


def _range_title(value: float) -> str:
    title = "range"
    if math.copysign(1, value) < 0:  # of -0.0 too, which `< 0` would not see
        title += " of magnitudes"
    title += ", subnormal numbers hatched"
    if not math.isnan(value):
        title += f"; dashed: {exact_number(value)}"
    return title


def _ruler_title(coarsest: Format, close_up: tuple | None) -> str:
    if close_up is None:
        return "close up: no numbers to show"
    return f"close up: the numbers each has; below, those of {coarsest.name}"


def _ruler_labels(coarsest: Rounding) -> list[float]:
    """The numbers below the rulers: those of the coarsest format, near the one asked for."""
    low = coarsest.value - 1.4 * coarsest.spacing
    high = coarsest.value + 1.4 * coarsest.spacing
    numbers = _numbers_within(coarsest.format, low, high, 9)
    # Below a power of two numbers lie twice as close: every other one, or the labels would meet.
    if len(numbers) > 4:
        return numbers[::2]
    return numbers


def _numbers_within(format: Format, low: float, high: float, most: int) -> list[float] | None:
    """The finite numbers from `low` to `high`; None when there are more than `most`."""
    first, last = format.place([low, high]).tolist()
    if last - first > most:
        return None
    # The places are those of the rounded ends, so the first and the last may lie outside.
    numbers = format.at(range(first, last + 1)).tolist()
    return [number for number in numbers if low <= number <= high and math.isfinite(number)]


def _place_in_range(value: float) -> float:
    """log10 of the magnitude; what is beyond every format stands next to 0 or inf."""
    if value == 0:
        return _ZERO
    if not math.isfinite(value):
        return _INF
    return min(max(math.log10(abs(value)), _ZERO + 2), _INF - 2)


def _add_scale(axes, most: int) -> Scale:
    """A line along the lower edge, its ticks, and up to `most` texts below it."""
    axes.set_axis_off()
    axes.plot([0, 1], [0, 0], color="black", linewidth=1, transform=axes.transAxes, clip_on=False)
    along = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    downwards = 3  # matplotlib's number for this marker
    tick = {"color": "black", "linestyle": "", "marker": downwards, "markersize": 4}
    ticks = axes.plot([], [], **tick, **along)[0]
    y = -0.023 / axes.get_position().height  # as far below either axes
    texts = [axes.text(0, y, "", ha="center", va="top", **along) for _ in range(most)]
    return Scale(ticks, texts)


def _label_scale(scale: Scale, words: dict[float, str]) -> None:
    scale.ticks.set_data(list(words), [0] * len(words))
    for text in scale.texts:
        text.set_text("")
    for text, (place, said) in zip(scale.texts, words.items()):
        text.set(text=said, x=place)
