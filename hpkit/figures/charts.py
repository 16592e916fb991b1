"""Still pictures of the notebooks: curves, bars and histograms of any measurements, each with alt text from its numbers."""

import math
from collections.abc import Mapping, Sequence

from hpkit.errors import BadInput
from hpkit.figures.base import BLUE, GREEN, GREY, ORANGE, SKY, Picture, blank, rendered
from hpkit.formatting import exact_number

#: What tells one series from the next, in colour and without: colour, line, marker, hatch.
STYLES = (
    (BLUE, "-", "o", ""),
    (ORANGE, "--", "s", "//"),
    (GREEN, "-.", "^", ".."),
    ("black", ":", "D", "xx"),
    (SKY, (0, (5, 1)), "v", "\\\\"),
    (GREY, (0, (1, 1)), "P", "oo"),
)


def axis_number(value: float) -> str:
    return (
        f"{value:.4g}"
        if 1e-3 <= abs(value) < 1e5 or value == 0
        else exact_number(float(f"{value:.3g}"))
    )


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

    A curve is a list of (x, y), or of (x, low, y, high), whose band is shaded. What is no finite number is left out. `marks`:
    places on the x axis with a word for each, as vertical lines.
    """
    figure = blank(3.6)
    axes, parts = figure.subplots(), []
    for (name, curve), (colour, line, marker, _) in zip(
        curves.items(), styles(curves), strict=True
    ):
        points = [point if len(point) == 4 else (point[0], *point[1:] * 3) for point in curve]
        points = [point for point in points if all(map(math.isfinite, point))]
        if not points:
            parts.append(f"{name}: no finite number")
            continue
        places, low, middle, high = zip(*points)
        every = max(1, len(points) // 25)
        axes.plot(
            places,
            middle,
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=4,
            label=name,
            markevery=every,
        )
        if low != high:
            axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
        least, place = min(zip(middle, places))
        ends = f"{axis_number(middle[0])} at {axis_number(places[0])}, {axis_number(middle[-1])} at {axis_number(places[-1])}"
        parts.append(f"{name}: {ends}, lowest {axis_number(least)} at {axis_number(place)}")
    mark([axes], marks, parts)
    axes.set(
        xlabel=x, ylabel=y, xscale="log" if log_x else "linear", yscale="log" if log_y else "linear"
    )
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return rendered(figure, f"{y} over {x}. {'; '.join(parts)}.")


def bars_picture(
    bars: Mapping[str, float | tuple[float, float, float]], x: str, *, log_x: bool = False
) -> Picture:
    """A lying bar for each name; `x` names the quantity and its unit. (low, value, high) has a whisker from low to high."""
    figure = blank(0.9 + 0.38 * len(bars))
    axes, parts = figure.subplots(), []
    values = [
        value if isinstance(value, tuple) else (value, value, value) for value in bars.values()
    ]
    for row, (name, (low, value, high)) in enumerate(zip(bars, values)):
        axes.barh(row, value, color=BLUE, height=0.7)
        if low != high:
            axes.plot([low, high], [row, row], color="black", marker="|", markersize=8)
        words = axis_number(value) + (
            f" ({axis_number(low)} to {axis_number(high)})" if low != high else ""
        )
        axes.annotate(
            words,
            (max(value, high, 0), row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
        parts.append(f"{name}: {words}")
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.set_xscale("log" if log_x else "linear")
    axes.set_xlabel(x)
    axes.margins(x=0.3)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3, axis="x")
    return rendered(figure, f"{x}. {'; '.join(parts)}.")


def histogram_picture(
    values: Mapping[str, Sequence[float]],
    x: str,
    *,
    log_x: bool = False,
    bins: int = 60,
    marks: Mapping[str, float] = {},
) -> Picture:
    """Up to six histograms, one below the other, each in percent of its own values; `marks` as in `curves_picture`.

    On a logarithmic axis zeros have no place: they count in the percentages and are not drawn.
    """
    import numpy as np

    arrays = {name: np.asarray(sample, dtype=float) for name, sample in values.items()}
    drawn = {name: array[array > 0] if log_x else array for name, array in arrays.items()}
    low, high = (
        min(array.min() for array in drawn.values()),
        max(array.max() for array in drawn.values()),
    )
    edges = np.geomspace(low, high, bins + 1) if log_x else np.linspace(low, high, bins + 1)
    figure, parts = blank(0.8 + 1.4 * len(values)), []
    panels = list(figure.subplots(len(values), sharex=True, squeeze=False).flat)
    for axes, (name, array), (colour, _, _, hatch) in zip(
        panels, drawn.items(), styles(values), strict=True
    ):
        weights = np.full(len(array), 100 / len(arrays[name]))
        axes.hist(
            array,
            edges,
            weights=weights,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.3,
        )
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xscale("log" if log_x else "linear")
        axes.grid(alpha=0.3)
        least, middle, most = map(axis_number, np.quantile(arrays[name], [0.05, 0.5, 0.95]))
        parts.append(
            f"{name}: n = {len(arrays[name]):,}, median {middle}, nine in ten from {least} to {most}"
        )
    mark(panels, marks, parts)
    panels[-1].set_xlabel(x)
    figure.supylabel("share (%)", fontsize=10)
    return rendered(figure, f"Histogram of {x}. {'; '.join(parts)}.")


def styles(series: Mapping) -> tuple:
    if len(series) > len(STYLES):
        raise BadInput(
            f"expected at most {len(STYLES)} series in one picture, got {len(series)}: no more can be told apart"
        )
    return STYLES[: len(series)]


def mark(panels: list, marks: Mapping[str, float], parts: list[str]) -> None:
    for word, place in marks.items():
        for axes in panels:
            axes.axvline(place, color="black", linewidth=1, linestyle=(0, (3, 2)))
        panels[0].text(
            place, 0.98, f" {word}", transform=panels[0].get_xaxis_transform(), va="top", fontsize=9
        )
        parts.append(f"{word} at {axis_number(place)}")


def schedules_picture(schedules: dict[str, tuple[float, ...]]) -> Picture:
    """The learning rates of several schedules side by side: a name, and the rate after 0, 1, 2, ... updates."""
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
        peak = max(range(len(rates)), key=rates.__getitem__)
        parts.append(
            f"{name} begins at {axis_number(rates[0])}, is highest at {axis_number(rates[peak])} after update {peak}, ends at {axis_number(rates[-1])}"
        )
    figure.supxlabel("updates done", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    return rendered(
        figure, f"{len(schedules)} schedules over {len(rates) - 1} updates: {'; '.join(parts)}."
    )
