"""The two pictures of recorded runs that `RunExplorer` moves: their curves, and where they end."""

import math
import statistics
from itertools import zip_longest

from hpkit.figures.base import BLUE, ORANGE, Picture, blank, key, rendered, say
from hpkit.records.comparison import Band

#: What fits beside a sample of the key; the alt text has a longer name whole.
_KEY_LETTERS = 49


def median_and_range(values: list[float]) -> str:
    """`1.17 (1.16 to 1.19)`: the median of the seeds, lowest and highest."""
    return f"{statistics.median(values):.5g} ({min(values):.5g} to {max(values):.5g})"


class CurvesPicture:
    """What was measured over the updates of a run.

    The band of a setting's seeds, the band of another to compare it with, and runs of now. Nothing
    is smoothed: values are joined by straight lines, and a band goes from the lowest seed to the
    highest.
    """

    height = 3.6

    def __init__(self):
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes((0.105, 0.135, 0.865, 0.69))
        # Later ones lie on top: the setting at hand over the one to compare with, runs of now over
        # both, and a line over its own band.
        self.bands = [self._band(BLUE, "", 1.5), self._band(ORANGE, "//", 1)]
        self.medians = [
            self._line(color=BLUE, linestyle="-", linewidth=1.8, marker="o", zorder=2.5),
            self._line(color=ORANGE, linestyle="--", linewidth=1.8, marker="s", zorder=2),
        ]
        self.live = [self._live_line()]
        self.axes.set_xlabel("update")
        self.axes.grid(alpha=0.3)
        self.axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        self.axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        self.empty = self.axes.text(
            0.5, 0.5, "nothing was recorded here", transform=self.axes.transAxes, ha="center"
        )
        self.key = key(self.figure, [*self.medians, self.live[0]])

    def _band(self, colour: str, hatch: str, order: float):
        """An area of any shape, which `draw` gives its own."""
        look = {"facecolor": colour, "edgecolor": colour, "hatch": hatch}
        return self.axes.fill_between([0, 1], 0, 1, alpha=0.3, linewidth=1, zorder=order, **look)

    def _line(self, **look):
        return self.axes.plot([], [], markersize=5, **look)[0]

    def _live_line(self):
        look = {"color": "black", "linestyle": "-.", "marker": "D", "markerfacecolor": "white"}
        return self._line(linewidth=1.5, zorder=3, **look)

    def draw(
        self, what: str, settings: list[tuple[str, Band | None]], live: list[tuple[str, list]]
    ) -> Picture:
        """`what` is measured.

        `settings`: what the setting at hand is called, and its band, None where nothing was
        recorded; then those of the one to compare it with, if it is another. `live`: what each run
        of now is called, and its (step, value) pairs.
        """
        labels = []
        parts = []
        points = []
        rows = zip_longest(self.bands, self.medians, settings)
        for area, median, setting in rows:
            if setting is None:
                _show_band(area, median, None)
                labels.append("against: the same")
                continue
            name, band = setting
            finite = _finite_part(band)
            _show_band(area, median, finite)
            if finite:
                points += [*zip(finite.steps, finite.low), *zip(finite.steps, finite.high)]
                labels.append(_shortened(name))
                parts.append(f"{name}: {_band_in_words(band, finite)}")
            else:
                nothing = "not recorded" if band is None else "no number"
                labels.append(_label_of_nothing(name, nothing))
                parts.append(f"{name}: {nothing}")
        self._draw_live(live)
        for name, values in live:
            if values:
                points += values
                step, value = values[-1]
                parts.append(f"trained now, {name}: {value:.5g} at update {step:,}")
        say(self.key, [*labels, f"trained now: {_live_label(live)}"])
        self.empty.set_visible(not points)
        self._fit(points)
        self.axes.set_ylabel(what)
        title = what[0].upper() + what[1:]
        return rendered(self.figure, f"{title} over the updates; {'; '.join(parts)}.")

    def _draw_live(self, live: list[tuple[str, list]]) -> None:
        # A line more where there is none for a run yet; none is taken away, only emptied.
        while len(self.live) < len(live):
            self.live.append(self._live_line())
        for line in self.live:
            set_points(line, [])
        for line, (_, values) in zip(self.live, live):
            set_points(line, values)

    def _fit(self, points: list[tuple]) -> None:
        """The axes as wide as what is drawn, with a little air."""
        steps, heights = zip(*points or [(1, 0), (1, 1)])
        low = min(heights)
        high = max(heights)
        # Of a level line the tenth of its height, and of zeros 1: limits must differ.
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1
        self.axes.set_ylim(low - margin, high + margin)
        last = max(1, *steps)
        self.axes.set_xlim(-0.02 * last, 1.02 * last)


def set_points(line, points: list[tuple]) -> None:
    """Move a line of matplotlib's to (x, y) pairs, of which there may be none."""
    if points:
        line.set_data(*zip(*points))
    else:
        line.set_data([], [])


def _finite_part(band: Band | None) -> Band | None:
    """The band without the steps at which a seed had no number; None where nothing is left."""
    if band is None:
        return None
    kept = [place for place, high in enumerate(band.high) if math.isfinite(high)]
    if not kept:
        return None
    return Band(*([column[place] for place in kept] for column in band))


def _show_band(area, median, band: Band | None) -> None:
    area.set_visible(band is not None)
    median.set_visible(band is not None)
    if band is not None:
        # Along the lowest seeds there, along the highest back.
        there = list(zip(band.steps, band.low))
        back = list(zip(band.steps, band.high))[::-1]
        area.set_verts([there + back])
        median.set_data(band.steps, band.median)


def _band_in_words(band: Band, finite: Band) -> str:
    first = f"{finite.median[0]:.5g} at update {finite.steps[0]:,}"
    last = f"{finite.median[-1]:.5g} at update {finite.steps[-1]:,}"
    words = f"{first}, {last} ({finite.low[-1]:.5g} to {finite.high[-1]:.5g})"
    if len(finite.steps) < len(band.steps):
        words += ", after that no number"
    return words


def _shortened(name: str) -> str:
    if len(name) <= _KEY_LETTERS:
        return name
    return f"{name[: _KEY_LETTERS - 1]}…"


def _label_of_nothing(name: str, nothing: str) -> str:
    label = f"{name}: {nothing}"
    if len(label) <= _KEY_LETTERS:
        return label
    # Of `against: …` the first word, for that nothing is there must be seen.
    return f"{name.partition(':')[0]}: {nothing}"


def _live_label(live: list[tuple[str, list]]) -> str:
    if len(live) >= 3:
        return f"{len(live)} runs"
    return ", ".join(name for name, _ in live) or "none yet"


class EndsPicture:
    """Where runs end along one hyperparameter.

    A point for every seed at the recorded values, and nothing between them.
    """

    height = 3.6

    def __init__(self):
        from matplotlib.ticker import FuncFormatter

        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes((0.105, 0.135, 0.865, 0.69))
        self.here = self.axes.axvspan(-0.5, 0.5, facecolor="#dddddd")
        self.seeds = self._marks(color=BLUE, marker="o", markersize=6, markerfacecolor="none")
        self.medians = self._marks(color=BLUE, marker="_", markersize=22, markeredgewidth=2.5)
        self.live = self._marks(color="black", marker="D", markersize=7, markerfacecolor="white")
        self.axes.grid(alpha=0.3, axis="y")
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        self.key = key(self.figure, [self.seeds, self.medians, self.here, self.live])
        seeds = "a recorded seed"
        medians = "median of the recorded seeds"
        say(self.key, [seeds, medians, "the setting at hand", "trained now"])

    def _marks(self, **look):
        return self.axes.plot([], [], linestyle="", **look)[0]

    def draw(
        self, what: str, along: str, columns: list[tuple[str, list[float], list[float]]], here: int
    ) -> Picture:
        """`columns`: how each value of `along` is written, what its recorded runs and its runs of
        now ended with. `here` is the column of the setting at hand.

        What is no finite number (inf) is told in words alone.
        """
        seeds = []
        medians = []
        live = []
        for place, (_, recorded, now) in enumerate(columns):
            seeds += [(place, value) for value in recorded if math.isfinite(value)]
            live += [(place, value) for value in now if math.isfinite(value)]
            # One seed without a number, and the setting has no end to speak of.
            if recorded and max(recorded) < math.inf:
                medians.append((place, statistics.median(recorded)))
        for line, points in ((self.seeds, seeds), (self.medians, medians), (self.live, live)):
            set_points(line, points)
        self.here.set_x(here - 0.5)
        labels = [label for label, _, _ in columns]
        self._fit([value for _, value in (*seeds, *live)], labels)
        self.axes.set_xlabel(along)
        self.axes.set_ylabel(what)
        title = what[0].upper() + what[1:]
        parts = "; ".join(_column_in_words(*column) for column in columns)
        return rendered(
            self.figure,
            f"{title} at the end of a run, along {along}; "
            f"the setting at hand: {labels[here]}; {parts}.",
        )

    def _fit(self, heights: list[float], labels: list[str]) -> None:
        """The axes as high as what is drawn, with a little air, and a column for every label."""
        heights = heights or [0, 1]
        low = min(heights)
        high = max(heights)
        margin = 0.06 * (high - low) or 0.1
        self.axes.set_ylim(low - margin, high + margin)
        self.axes.set_xlim(-0.6, len(labels) - 0.4)
        self.axes.set_xticks(range(len(labels)), labels)


def _column_in_words(label: str, recorded: list[float], now: list[float]) -> str:
    words = f"{label}: "
    if not recorded:
        words += "not recorded"
    elif max(recorded) == math.inf:
        words += "no number"
    else:
        words += median_and_range(recorded)
    for value in now:
        words += f", trained now {value:.5g}"
    return words
