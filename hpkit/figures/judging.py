"""The picture of how often verdicts err, and of what they see."""

from collections.abc import Mapping, Sequence

from hpkit.figures.base import GREY, Picture, blank, rendered
from hpkit.figures.charts import styles

#: A series of (place on the x axis, share from 0 to 1).
Shares = Sequence[tuple[float, float]]


def verdicts_picture(false_alarms: Mapping[str, Shares], power: Mapping[str, Shares]) -> Picture:
    """Two panels: false alarms over the number of seeds, and power over the size of a difference.

    Up to six series each, by name. Sizes in standard deviations of the paired differences.
    """
    figure = blank(4.4)
    left, right = figure.subplots(1, 2)
    parts = []
    panels = (
        (left, false_alarms, "seeds of each setting", "false alarms (%)"),
        (right, power, "true difference (sd of the paired ones)", "differences seen (%)"),
    )
    for axes, series, x, y in panels:
        for (name, points), style in zip(series.items(), styles(series)):
            places, shares = zip(*points)
            percent = [100 * share for share in shares]
            look = {"color": style.colour, "linestyle": style.line, "marker": style.marker}
            axes.plot(places, percent, markersize=4, label=name, **look)
            first = f"{percent[0]:.3g} % at {places[0]:g}"
            parts.append(f"{name}: {first}, {percent[-1]:.3g} % at {places[-1]:g}")
        axes.set_xlabel(x)
        axes.set_title(y, loc="left", fontsize=10)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        # Below, where neither a curve nor the other panel's legend is.
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), frameon=False, fontsize=9)
    left.axhline(5, color=GREY, linewidth=1, linestyle=(0, (3, 2)))
    left.text(left.get_xlim()[1], 5, "5 % ", ha="right", va="bottom", fontsize=9)
    right.axhline(80, color=GREY, linewidth=1, linestyle=(0, (3, 2)))
    right.text(0, 80, " 80 %", va="bottom", fontsize=9)
    words = "; ".join(parts)
    return rendered(figure, f"Verdicts, false alarms over seeds and power over size. {words}.")
