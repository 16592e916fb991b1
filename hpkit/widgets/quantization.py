"""The widget of block-wise 8-bit quantization, over the averages of a real optimizer.

`QuantizationPicture` draws a tensor that went through 8 bits; `QuantizationExplorer` is the widget
around it, with block size, code book, rounding and an outlier to move.
"""

import math

import ipywidgets

from hpkit.errors import BadInput
from hpkit.figures.base import (
    BLUE,
    GREY,
    MOST_POINTS,
    ORANGE,
    SKY,
    Picture,
    blank,
    key,
    rendered,
    say,
)
from hpkit.formatting import plural
from hpkit.labs.blockwise import (
    BLOCK_SIZES,
    CODE_BOOKS,
    ROUNDINGS,
    Quantized,
    harm,
    quantize,
    with_outlier,
)
from hpkit.widgets.base import Interactive, decades, paragraphs, slider

WHOLE = "whole tensor"

_HATCHED = {"facecolor": "white", "edgecolor": ORANGE, "hatch": "////"}


class QuantizationPicture:
    """A tensor in 8 bits, in three rows.

    Where its values lie among the code points, how wrong each size comes back, and each block.
    """

    height = 5.2
    #: Exponents of ten of a value's share of its block's scale, from `low` to 0, in tenths; what is
    #: smaller counts in the first.
    low = -9
    bins = 90

    def __init__(self):
        self.figure = blank(self.height, layout=None)
        self.values = self.figure.add_axes((0.115, 0.595, 0.865, 0.2))
        self.sizes = self.figure.add_axes((0.115, 0.37, 0.865, 0.2))
        self.places = self.figure.add_axes((0.115, 0.09, 0.865, 0.17))
        for axes in (self.values, self.sizes, self.places):
            axes.grid(alpha=0.3)
        self._add_values()
        self._add_sizes()
        self._add_places()
        self._add_key()
        self.title = self.values.set_title("", fontsize=10, loc="left")

    def _add_values(self) -> None:
        """The histogram, with what comes back as zero below, and a mark for each code point."""
        from matplotlib.ticker import MaxNLocator

        edges = [self.low + tenth / 10 for tenth in range(self.bins + 1)]
        flat = [0] * self.bins
        self.kept = self.values.stairs(flat, edges, fill=True, facecolor=SKY)
        # The hatch has the colour of the edge, which itself is not to be seen.
        self.zero = self.values.stairs(
            flat, edges, baseline=flat, fill=True, linewidth=0, **_HATCHED
        )
        marks = {"color": "black", "marker": "|", "markersize": 9, "linestyle": ""}
        self.points = self.values.plot([], [], markeredgewidth=0.8, **marks)[0]
        self.values.set_xlim(self.low, 0.05)
        self.values.set_xticks(self._exponents(), [])
        self.values.set_ylabel("values (%)")
        self.values.yaxis.set_label_coords(-0.1, 0.5)
        self.values.yaxis.set_major_locator(MaxNLocator(2, integer=True))

    def _add_sizes(self) -> None:
        """The error by a value's size, below the histogram and on the same scale."""
        self.by_size = self.sizes.plot([], [], color=BLUE, marker=".", linewidth=1.2)[0]
        exponents = self._exponents()
        labels = [f"1e{power}" if power else "1" for power in exponents]
        self.sizes.set_xlim(self.low, 0.05)
        self.sizes.set_xticks(exponents, labels)
        self.sizes.set_xlabel("|value| / largest of its block")
        self._label_error(self.sizes)

    def _exponents(self) -> range:
        return range(self.low + 1, 1, 2)

    def _add_places(self) -> None:
        """The error by the place in the tensor, block by block."""
        from matplotlib.ticker import MaxNLocator

        blocks = {"drawstyle": "steps-post"}
        self.by_place = self.places.plot([], [], color=BLUE, linewidth=1.2, **blocks)[0]
        dashed = {"color": GREY, "linewidth": 1, "linestyle": "--"}
        self.without = self.places.plot([], [], **dashed, **blocks)[0]
        mark = {"color": ORANGE, "marker": "v", "markersize": 9, "linestyle": ""}
        self.outlier = self.places.plot([], [], clip_on=False, **mark)[0]
        self.places.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        self.places.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        self._label_error(self.places)

    @staticmethod
    def _label_error(axes) -> None:
        axes.set_ylabel("relative error")
        # A place of its own: else it would follow the width of the ticks' labels.
        axes.yaxis.set_label_coords(-0.1, 0.5)

    def _add_key(self) -> None:
        from matplotlib.patches import Rectangle

        # The two histograms are outlines of many steps; rectangles stand for them.
        kept = Rectangle((0, 0), 1, 1, facecolor=SKY)
        zero = Rectangle((0, 0), 1, 1, **_HATCHED)
        lines = [self.points, self.by_size, self.without, self.outlier]
        self.key = key(self.figure, [kept, zero, *lines])

    def draw(
        self,
        quantized: Quantized,
        title: str,
        without: Quantized | None = None,
        outlier: int | None = None,
    ) -> Picture:
        """`title` says whose values these are.

        `without` is the same tensor before a value was put at the place `outlier`.
        """
        import numpy

        shares = quantized.normalized
        with numpy.errstate(divide="ignore"):  # of a zero, which counts in the first bin
            tenths = (numpy.log10(shares) - self.low) * 10
        bins = numpy.clip(tenths, 0, self.bins - 1).astype(int)
        code_points = self._draw_values(quantized, bins)
        self._draw_sizes(bins, quantized.relative_error)
        self._draw_places(quantized, without)
        self._draw_outlier(outlier)
        blocks = plural(len(quantized.scales), "block")
        texts = [
            f"values, in {blocks} of {quantized.block_size:,}",
            f"come back as zero: {_percent(quantized.became_zero)}",
            f"{code_points} code points above zero",
            f"mean relative error: {_percent(quantized.mean_relative_error)}",
            *_about_outlier(quantized, without, outlier),
        ]
        self.title.set_text(title)
        say(self.key, texts)
        half = float(numpy.median(shares))
        alt = (
            f"{title}: {'; '.join(texts)}; "
            f"half of the values lie under {half:.2g} of their block's largest."
        )
        return rendered(self.figure, alt)

    def _draw_values(self, quantized: Quantized, bins) -> int:
        """The histogram over the code points; returns how many of those are drawn."""
        import numpy

        lost = (quantized.after == 0) & (quantized.normalized > 0)
        percent = 100 / len(bins)
        counts = numpy.bincount(bins, minlength=self.bins) * percent
        zeros = numpy.bincount(bins[lost], minlength=self.bins) * percent
        self.kept.set_data(counts, baseline=zeros)
        self.zero.set_data(zeros, baseline=0)
        top = 1.12 * counts.max()
        self.values.set_ylim(-0.2 * top, top)
        drawn = numpy.log10(quantized.book[quantized.book > 10.0**self.low])
        self.points.set_data(drawn, numpy.full(len(drawn), -0.1 * top))
        return len(drawn)

    def _draw_sizes(self, bins, wrong) -> None:
        import numpy

        known = ~numpy.isnan(wrong)
        counts = numpy.bincount(bins[known], minlength=self.bins)
        sums = numpy.bincount(bins[known], wrong[known], minlength=self.bins)
        middles = self.low + (numpy.arange(self.bins) + 0.5) / 10
        # 0 / 0 in an empty bin is NaN, and the logarithm of no error -inf: neither is drawn.
        with numpy.errstate(divide="ignore", invalid="ignore"):
            self.by_size.set_data(middles, numpy.log10(sums / counts))
        _fit_decades(self.sizes, self.by_size.get_ydata())

    def _draw_places(self, quantized: Quantized, without: Quantized | None) -> None:
        import numpy

        # Where there are more blocks than pixels, several together are one step.
        group = math.ceil(len(quantized.scales) / MOST_POINTS)
        width = group * quantized.block_size
        self.by_place.set_data(*_error_by_place(quantized, width))
        if without is None:
            self.without.set_data([], [])
        else:
            self.without.set_data(*_error_by_place(without, width))
        self.places.set_xlim(0, len(quantized.before))
        drawn = numpy.concatenate([self.by_place.get_ydata(), self.without.get_ydata()])
        _fit_decades(self.places, drawn)
        label = "place in the tensor"
        if group > 1:
            label += f" (mean of {group} blocks each)"
        self.places.set_xlabel(label)

    def _draw_outlier(self, outlier: int | None) -> None:
        """At the upper edge, whose place `_draw_places` sets."""
        if outlier is None:
            self.outlier.set_data([], [])
        else:
            self.outlier.set_data([outlier], [self.places.get_ylim()[1]])


def _error_by_place(quantized: Quantized, width: int) -> tuple[list, list]:
    """Where every stretch of `width` values starts, and log10 of its mean relative error.

    The end of the tensor comes last, with the error of the last stretch once more: a line of steps
    has no width after its last point.
    """
    import numpy

    count = len(quantized.before)
    starts = numpy.arange(0, count, width)
    wrong = quantized.relative_error
    known = ~numpy.isnan(wrong)
    sums = numpy.add.reduceat(numpy.where(known, wrong, 0), starts)
    counts = numpy.add.reduceat(known.astype(int), starts)
    with numpy.errstate(divide="ignore", invalid="ignore"):  # a stretch of zeros has no error
        means = numpy.log10(sums / counts)
    return [*starts, count], [*means, means[-1]]


def _fit_decades(axes, exponents) -> None:
    """Whole powers of ten around what is drawn, three of them named at most, in percent."""
    import numpy

    drawn = [float(value) for value in exponents if numpy.isfinite(value)]
    if not drawn:
        drawn = [-2.0]  # one percent, for want of anything
    low = math.floor(min(drawn))
    high = max(math.ceil(max(drawn)), low + 1)
    axes.set_ylim(low, high)
    ticks = range(low, high + 1, math.ceil((high - low) / 2))
    axes.set_yticks(ticks, [_power_in_percent(tick) for tick in ticks])


def _power_in_percent(exponent: int) -> str:
    """10^exponent in percent: `0.1 %`, and `1e5 %` from there on, where zeros would be counted."""
    if exponent < 2:
        return f"{10.0 ** (exponent + 2):g} %"
    return f"1e{exponent + 2} %"


def _about_outlier(
    quantized: Quantized, without: Quantized | None, outlier: int | None
) -> tuple[str, str]:
    """What the key says of the tensor without the outlier, and of the outlier."""
    if without is None or outlier is None:
        return "without an outlier: the same", "no outlier"
    error = _percent(without.mean_relative_error)
    value = quantized.before[outlier]
    return f"without the outlier: {error}", f"outlier put at {outlier:,}: {value:.3g}"


def _percent(share: float) -> str:
    """Of a share, in three digits."""
    if share == 0:
        return "none"
    if share < 10:
        return f"{100 * share:,.3g} %"
    return f"{100 * share:,.0f} %"


class QuantizationExplorer(Interactive):
    """One average of an optimizer in 8 bits: what comes back wrong.

    `averages` maps names of parameters to `{"exp_avg": tensor, "exp_avg_sq": tensor}`, as
    blockwise.averages reads them off a live Trainer. Attributes to set: `parameter`, `average`,
    `block_size` (a string of digits or `whole tensor`; a number will do), `code_book`, `rounding`,
    and `outlier`, in times the largest value, 0 for none. `quantized`, `without` (None while there
    is no outlier) and `harm` follow from them. Raises BadInput.
    """

    quantized = None
    without = None
    harm = None

    def __init__(self, averages: dict[str, dict]):
        if not averages:
            raise BadInput(
                "averages: expected those of at least one parameter, got none; "
                "take them off a Trainer with blockwise.averages"
            )
        self._averages = averages
        self._figure = QuantizationPicture()
        largest = max(averages, key=lambda name: averages[name]["exp_avg"].numel())
        sizes = (*map(str, BLOCK_SIZES), WHOLE)
        controls = {
            "parameter": ipywidgets.Dropdown(options=tuple(averages), description="parameter"),
            "average": ipywidgets.Dropdown(
                options=("exp_avg", "exp_avg_sq"), description="average"
            ),
            "block_size": ipywidgets.SelectionSlider(
                options=sizes, value="256", description="block_size"
            ),
            "code_book": ipywidgets.Dropdown(options=CODE_BOOKS, description="code book"),
            "rounding": ipywidgets.Dropdown(options=ROUNDINGS, description="rounding"),
            "outlier": slider("outlier (times the largest)", [0, *decades(0, 6, int)]),
        }
        super().__init__(controls, {"parameter": largest})

    def _put(self, name: str, value) -> None:
        # The base takes a SelectionSlider for numbers between which others may lie; here one of the
        # options is a text, and no other number will do.
        if name != "block_size":
            return super()._put(name, value)
        options = self.controls[name].options
        if str(value) not in options:
            raise BadInput(f"block_size: expected one of {', '.join(options)}, got {value!r}")
        self.controls[name].value = str(value)

    def _quantize(self, tensor) -> Quantized:
        size = None if self.block_size == WHOLE else int(self.block_size)
        # The first average has both signs; the second, of squares, is never negative.
        signed = self.average == "exp_avg"
        return quantize(tensor, size, self.code_book, signed=signed, rounding=self.rounding)

    def _draw(self):
        tensor = self._averages[self.parameter][self.average]
        place = None
        without = None
        done = None
        quantized = self._quantize(tensor)
        if self.outlier:
            spoilt, place = with_outlier(tensor, self.outlier)
            without = quantized
            quantized = self._quantize(spoilt)
            done = harm(without, quantized, place)
        # All three at once: where quantizing fails, those of the setting before stay together.
        self.quantized = quantized
        self.without = without
        self.harm = done
        title = f"{self.parameter}, {self.average}"
        picture = self._figure.draw(self.quantized, title, self.without, place)
        return picture, paragraphs(self._lines())

    def _lines(self) -> list[str]:
        one = self.quantized
        count = len(one.before)
        lines = [
            f"{count:,} values in {plural(len(one.scales), 'block')}: "
            f"{one.codes.nbytes:,} bytes of codes and {one.scales.nbytes:,} of scales, "
            f"{one.bytes / count:.4g} bytes a value instead of 4",
            f"Mean relative error {one.mean_relative_error:.2%}; "
            f"{one.became_zero:.2%} of the values come back as zero, "
            f"{one.half_wrong:.2%} wrong by half or more",
            self._rounding_in_words(),
        ]
        if self.harm:
            block = "the others of its block" if len(one.scales) > 1 else "them all"
            lines.append(
                f"The outlier, {self.outlier:g} times the largest value, was put there by this "
                f"widget. Of {count - 1:,} other values {self.harm.changed:,} come back otherwise "
                f"than without it; the mean relative error of {block} goes from "
                f"{self.harm.error_before:.2%} to {self.harm.error_after:.2%}"
            )
        return lines

    def _rounding_in_words(self) -> str:
        import torch

        if self.rounding != "cpu":
            return "Rounded to the nearest code point, as the code book is meant"
        # What becomes of a zero is measured here: the code books differ in it.
        zero_and_largest = torch.tensor([0.0, 1.0])
        signed = self.average == "exp_avg"
        floor = quantize(zero_and_largest, None, self.code_book, signed, "cpu").after[0]
        back = f"as {floor:.2g} of its block's largest" if floor else "as zero"
        return (
            "Rounded as bitsandbytes rounds on a CPU, through a table of 65,536 equal steps: "
            f"a zero comes back {back}"
        )
