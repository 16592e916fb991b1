"""Still pictures of the notebooks: curves, bars and histograms of any measurements.

Each has an alt text that is made from its numbers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hpkit.errors import BadInput
from hpkit.figures.base import BLUE, GREEN, GREY, ORANGE, SKY, Picture, blank, rendered
from hpkit.formatting import exact_number


class Style(NamedTuple):
    """What tells one series from the next, in colour and without."""

    colour: str
    line: str | tuple
    marker: str
    hatch: str


STYLES = (
    Style(BLUE, "-", "o", ""),
    Style(ORANGE, "--", "s", "//"),
    Style(GREEN, "-.", "^", ".."),
    Style("black", ":", "D", "xx"),
    # matplotlib names four kinds of lines; more are given as (offset, (drawn, left out, ...)).
    Style(SKY, (0, (5, 1)), "v", "\\\\"),
    Style(GREY, (0, (1, 1)), "P", "oo"),
)


def styles(series: Mapping) -> tuple[Style, ...]:
    """One style for each series, in order. Raises BadInput for more than can be told apart."""
    if len(series) > len(STYLES):
        raise BadInput(
            f"expected at most {len(STYLES)} series in one picture, got {len(series)}: "
            "no more can be told apart"
        )
    return STYLES[: len(series)]


def axis_number(value: float) -> str:
    """A number as an axis or an alt text has room for it: `0.001235`, `99999`, `1.23e+09`."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    # By way of float, so that zeros at the end go: 5e-07, not 5.00e-07.
    return exact_number(float(f"{value:.3g}"))


def mark(panels: list, marks: Mapping[str, float]) -> list[str]:
    """A vertical line through all panels for each word of `marks`; returns what the alt text says.

    The word itself stands in the first panel alone.
    """
    parts = []
    for word, place in marks.items():
        for axes in panels:
            axes.axvline(place, color="black", linewidth=1, linestyle=(0, (3, 2)))
        # x in the axis' own units, y as a share of its height: the word stays at the top.
        across = panels[0].get_xaxis_transform()
        panels[0].text(place, 0.98, f" {word}", transform=across, va="top", fontsize=9)
        parts.append(f"{word} at {axis_number(place)}")
    return parts


def _axis_scale(logarithmic: bool) -> str:
    """matplotlib's name of the scale."""
    return "log" if logarithmic else "linear"


def curves_picture(
    curves: Mapping[str, Sequence[tuple]],
    x: str,
    y: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    marks: Mapping[str, float] = {},
) -> Picture:
    """Up to six curves on one pair of axes, whose labels are `x` and `y`, units included.

    A curve is a list of (x, y), or of (x, low, y, high), whose band is shaded. What is no finite
    number is left out. `marks`: places on the x axis with a word for each, as vertical lines.
    Raises BadInput for more than six.
    """
    figure = blank(3.6)
    axes = figure.subplots()
    parts = []
    for (name, curve), style in zip(curves.items(), styles(curves), strict=True):
        points = _finite_points(curve)
        if points:
            _draw_curve(axes, name, points, style)
            parts.append(f"{name}: {_curve_in_words(points)}")
        else:
            parts.append(f"{name}: no finite number")
    parts += mark([axes], marks)
    axes.set(xlabel=x, ylabel=y, xscale=_axis_scale(log_x), yscale=_axis_scale(log_y))
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return rendered(figure, f"{y} over {x}. {'; '.join(parts)}.")


def _finite_points(curve: Sequence[tuple]) -> list[tuple]:
    """The points of a curve as (x, low, y, high), without those that have no finite place."""
    points = []
    for point in curve:
        if len(point) == 2:
            place, value = point
            point = (place, value, value, value)
        if all(map(math.isfinite, point)):
            points.append(point)
    return points


def _draw_curve(axes, name: str, points: list[tuple], style: Style) -> None:
    places, low, middle, high = zip(*points)
    axes.plot(
        places,
        middle,
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markersize=4,
        label=name,
        # About 25 markers whatever the length: more would hide the line.
        markevery=max(1, len(points) // 25),
    )
    if low != high:
        axes.fill_between(places, low, high, color=style.colour, alpha=0.2, linewidth=0)


def _curve_in_words(points: list[tuple]) -> str:
    places, _, middle, _ = zip(*points)
    least, least_at = min(zip(middle, places))
    first = f"{axis_number(middle[0])} at {axis_number(places[0])}"
    last = f"{axis_number(middle[-1])} at {axis_number(places[-1])}"
    return f"{first}, {last}, lowest {axis_number(least)} at {axis_number(least_at)}"


def bars_picture(
    bars: Mapping[str, float | tuple[float, float, float]], x: str, *, log_x: bool = False
) -> Picture:
    """A lying bar for each name; `x` names the quantity and its unit.

    (low, value, high) has a whisker from low to high.
    """
    figure = blank(0.9 + 0.38 * len(bars))
    axes = figure.subplots()
    parts = []
    for row, (name, bar) in enumerate(bars.items()):
        parts.append(f"{name}: {_draw_bar(axes, row, bar)}")
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.set_xscale(_axis_scale(log_x))
    axes.set_xlabel(x)
    axes.margins(x=0.3)  # room for the numbers beside the bars
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3, axis="x")
    return rendered(figure, f"{x}. {'; '.join(parts)}.")


def _draw_bar(axes, row: int, bar: float | tuple[float, float, float]) -> str:
    """Draw one bar with its number; returns the number as it is written there."""
    low, value, high = bar if isinstance(bar, tuple) else (bar, bar, bar)
    axes.barh(row, value, color=BLUE, height=0.7)
    words = axis_number(value)
    if low != high:
        axes.plot([low, high], [row, row], color="black", marker="|", markersize=8)
        words += f" ({axis_number(low)} to {axis_number(high)})"
    # Five points to the right of the bar and its whisker; of a negative bar, of its foot.
    axes.annotate(
        words,
        (max(value, high, 0), row),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
    )
    return words


def histogram_picture(
    values: Mapping[str, Sequence[float]],
    x: str,
    *,
    log_x: bool = False,
    bins: int = 60,
    marks: Mapping[str, float] = {},
) -> Picture:
    """Up to six histograms, one below the other, each in percent of its own values.

    `marks` as in `curves_picture`. On a logarithmic axis zeros have no place: they count in the
    percentages and are not drawn. Raises BadInput for more than six.
    """
    import numpy as np

    samples = {name: np.asarray(sample, dtype=float) for name, sample in values.items()}
    drawn = samples
    if log_x:
        drawn = {name: sample[sample > 0] for name, sample in samples.items()}
    edges = _shared_edges(list(drawn.values()), bins, log_x)
    figure = blank(0.8 + 1.4 * len(values))
    panels = list(figure.subplots(len(values), sharex=True, squeeze=False).flat)
    parts = []
    for axes, style, (name, sample) in zip(panels, styles(values), samples.items(), strict=True):
        # A share of all values, also of those that a logarithmic axis leaves out.
        weights = np.full(len(drawn[name]), 100 / len(sample))
        look = {"color": style.colour, "hatch": style.hatch, "edgecolor": "white", "linewidth": 0.3}
        axes.hist(drawn[name], edges, weights=weights, **look)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xscale(_axis_scale(log_x))
        axes.grid(alpha=0.3)
        low, median, high = map(axis_number, np.quantile(sample, [0.05, 0.5, 0.95]))
        spread = f"median {median}, nine in ten from {low} to {high}"
        parts.append(f"{name}: n = {len(sample):,}, {spread}")
    parts += mark(panels, marks)
    panels[-1].set_xlabel(x)
    figure.supylabel("share (%)", fontsize=10)
    return rendered(figure, f"Histogram of {x}. {'; '.join(parts)}.")


def _shared_edges(samples: list, bins: int, logarithmic: bool):
    """The edges of `bins` bins that hold all samples, as wide as one another on the axis."""
    import numpy as np

    low = min(sample.min() for sample in samples)
    high = max(sample.max() for sample in samples)
    if logarithmic:
        return np.geomspace(low, high, bins + 1)
    return np.linspace(low, high, bins + 1)


def schedules_picture(schedules: dict[str, tuple[float, ...]]) -> Picture:
    """The learning rates of several schedules side by side, three in a row.

    `schedules`: a name, and the rate after 0, 1, 2, ... updates, as many for each.
    """
    rows = math.ceil(len(schedules) / 3)
    figure = blank(0.3 + 1.35 * rows)
    panels = figure.subplots(rows, 3, sharex=True, sharey=True, squeeze=False).flat
    highest = max(map(max, schedules.values()))
    parts = []
    for axes, (name, rates) in zip(panels, schedules.items()):
        axes.plot(rates, color=BLUE)
        axes.set_title(name, fontsize=9)
        axes.set_ylim(-0.05 * highest, 1.1 * highest)
        axes.set_yticks([0, highest], ["0", axis_number(highest)])
        axes.grid(alpha=0.3)
        updates = len(rates) - 1
        peak = max(rates)
        parts.append(
            f"{name} begins at {axis_number(rates[0])}, is highest at {axis_number(peak)} "
            f"after update {rates.index(peak)}, ends at {axis_number(rates[-1])}"
        )
    figure.supxlabel("updates done", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    count = len(schedules)
    return rendered(figure, f"{count} schedules over {updates} updates: {'; '.join(parts)}.")
