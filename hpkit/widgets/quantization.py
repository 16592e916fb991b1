"""The widget of block-wise 8-bit quantization, over the averages of a real optimizer."""

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


class QuantizationExplorer(Interactive):
    """One average of an optimizer in 8 bits: block size, code book and an outlier, and what comes back wrong.

    `averages` maps names of parameters to `{"exp_avg": tensor, "exp_avg_sq": tensor}`, as blockwise.averages reads them
    off a live Trainer. Attributes to set: `parameter`, `average`, `block_size` (a string of digits or `whole tensor`; a
    number will do), `code_book`, `rounding`, and `outlier`, in times the largest value, 0 for none. `quantized`,
    `without` (None while there is no outlier) and `harm` follow from them.
    """

    quantized, without, harm = None, None, None

    def __init__(self, averages: dict[str, dict]):
        if not averages:
            raise BadInput(
                "averages: expected those of at least one parameter, got none; take them off a Trainer with blockwise.averages"
            )
        self._averages, self._figure = averages, QuantizationPicture()
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
        if name != "block_size":
            return super()._put(name, value)
        options = self.controls[name].options
        if str(value) not in options:
            raise BadInput(f"block_size: expected one of {', '.join(options)}, got {value!r}")
        self.controls[name].value = str(value)

    def _quantize(self, tensor):
        size = None if self.block_size == WHOLE else int(self.block_size)
        return quantize(
            tensor, size, self.code_book, signed=self.average == "exp_avg", rounding=self.rounding
        )

    def _draw(self):
        tensor, place = self._averages[self.parameter][self.average], None
        self.quantized, self.without, self.harm = self._quantize(tensor), None, None
        if self.outlier:
            spoilt, place = with_outlier(tensor, self.outlier)
            self.without, self.quantized = self.quantized, self._quantize(spoilt)
            self.harm = harm(self.without, self.quantized, place)
        return self._figure.draw(
            self.quantized, f"{self.parameter}, {self.average}", self.without, place
        ), paragraphs(self._lines())

    def _lines(self) -> list[str]:
        import torch

        one = self.quantized
        count, blocks = len(one.before), len(one.scales)
        lines = [
            f"{count:,} values in {blocks:,} block{'s' * (blocks > 1)}: {one.codes.nbytes:,} bytes of codes and {one.scales.nbytes:,} of "
            f"scales, {one.bytes / count:.4g} bytes a value instead of 4",
            f"Mean relative error {one.mean_relative_error:.2%}; {one.became_zero:.2%} of the values come back as zero, "
            f"{one.half_wrong:.2%} wrong by half or more",
        ]
        if self.rounding == "cpu":
            floor = quantize(
                torch.tensor([0.0, 1.0]), None, self.code_book, self.average == "exp_avg", "cpu"
            ).after[0]
            back = f"as {floor:.2g} of its block's largest" if floor else "as zero"
            lines.append(
                f"Rounded as bitsandbytes rounds on a CPU, through a table of 65,536 equal steps: a zero comes back {back}"
            )
        else:
            lines.append("Rounded to the nearest code point, as the code book is meant")
        if self.harm:
            block = "the others of its block" if blocks > 1 else "them all"
            lines.append(
                f"The outlier, {self.outlier:g} times the largest value, was put there by this widget. Of {count - 1:,} other values "
                f"{self.harm.changed:,} come back otherwise than without it; the mean relative error of {block} goes from "
                f"{self.harm.error_before:.2%} to {self.harm.error_after:.2%}"
            )
        return lines


class QuantizationPicture:
    """A tensor in 8 bits: where its values lie among the code points, how wrong each size comes back, and each block."""

    height = 5.2
    #: Exponents of ten of a value's share of its block's scale, in tenths; what is smaller counts in the first.
    low, bins = -9, 90

    def __init__(self):
        from matplotlib.patches import Rectangle
        from matplotlib.ticker import MaxNLocator

        self.figure = blank(self.height, layout=None)
        self.values = self.figure.add_axes((0.115, 0.595, 0.865, 0.2))
        self.sizes = self.figure.add_axes((0.115, 0.37, 0.865, 0.2))
        self.places = self.figure.add_axes((0.115, 0.09, 0.865, 0.17))
        edges = [self.low + k / 10 for k in range(self.bins + 1)]
        flat = [0] * self.bins
        self.kept = self.values.stairs(flat, edges, fill=True, facecolor=SKY)
        self.zero = self.values.stairs(
            flat,
            edges,
            baseline=flat,
            fill=True,
            facecolor="white",
            edgecolor=ORANGE,
            hatch="////",
            linewidth=0,
        )
        self.points = self.values.plot(
            [], [], color="black", marker="|", markersize=9, linestyle="", markeredgewidth=0.8
        )[0]
        self.by_size = self.sizes.plot([], [], color=BLUE, marker=".", linewidth=1.2)[0]
        self.by_place = self.places.plot([], [], color=BLUE, linewidth=1.2, drawstyle="steps-post")[
            0
        ]
        self.without = self.places.plot(
            [], [], color=GREY, linewidth=1, linestyle="--", drawstyle="steps-post"
        )[0]
        self.outlier = self.places.plot(
            [], [], color=ORANGE, marker="v", markersize=9, linestyle="", clip_on=False
        )[0]
        exponents = range(self.low + 1, 1, 2)
        for axes in (self.values, self.sizes):
            axes.set_xlim(self.low, 0.05)
        self.values.set_xticks(exponents, [])
        self.sizes.set_xticks(exponents, [f"1e{power}" if power else "1" for power in exponents])
        self.sizes.set_xlabel("|value| / largest of its block")
        self.values.set_ylabel("values (%)")
        self.values.yaxis.set_label_coords(-0.1, 0.5)
        for axes in (self.sizes, self.places):
            axes.set_ylabel("relative error")
            axes.yaxis.set_label_coords(-0.1, 0.5)
        self.places.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        self.places.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        self.values.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        for axes in (self.values, self.sizes, self.places):
            axes.grid(alpha=0.3)
        bars = [
            Rectangle((0, 0), 1, 1, facecolor=SKY),
            Rectangle((0, 0), 1, 1, facecolor="white", edgecolor=ORANGE, hatch="////"),
        ]
        code = self.values.plot([], [], color="black", marker="|", markersize=9, linestyle="")[0]
        self.key = key(self.figure, [*bars, code, self.by_size, self.without, self.outlier])
        self.title = self.values.set_title("", fontsize=10, loc="left")

    def draw(
        self,
        quantized: Quantized,
        title: str,
        without: Quantized | None = None,
        outlier: int | None = None,
    ) -> Picture:
        """`title` says whose values these are; `without` is the same tensor before a value was put at the place `outlier`."""
        import numpy

        shares, points = quantized.normalized, quantized.book
        with numpy.errstate(divide="ignore"):
            bins = numpy.clip((numpy.log10(shares) - self.low) * 10, 0, self.bins - 1).astype(int)
        lost = (quantized.after == 0) & (shares > 0)
        counts, zeros = (
            numpy.bincount(bins[chosen], minlength=self.bins) for chosen in (slice(None), lost)
        )
        height = 100 / len(shares)
        self.kept.set_data(counts * height, baseline=zeros * height)
        self.zero.set_data(zeros * height, baseline=0)
        top = 1.12 * counts.max() * height
        self.values.set_ylim(-0.2 * top, top)
        positive = numpy.log10(points[points > 10.0**self.low])
        self.points.set_data(positive, numpy.full(len(positive), -0.1 * top))
        self._draw_sizes(bins, quantized.relative_error)
        self._draw_places(quantized, without, outlier)
        blocks = f"{len(quantized.scales):,} block{'s' * (len(quantized.scales) > 1)} of {quantized.block_size:,}"
        texts = [
            f"values, in {blocks}",
            f"come back as zero: {_percent(quantized.became_zero)}",
            f"{len(positive)} code points above zero",
        ]
        texts.append(f"mean relative error: {_percent(quantized.mean_relative_error)}")
        texts.append(
            f"without the outlier: {_percent(without.mean_relative_error)}"
            if without
            else "without an outlier: the same"
        )
        texts.append(
            "no outlier"
            if outlier is None
            else f"outlier put at {outlier:,}: {quantized.before[outlier]:.3g}"
        )
        self.title.set_text(title)
        say(self.key, texts)
        half = float(numpy.median(shares))
        alt = f"{title}: {'; '.join(texts)}; half of the values lie under {half:.2g} of their block's largest."
        return rendered(self.figure, alt)

    def _draw_sizes(self, bins, wrong) -> None:
        import numpy

        known = ~numpy.isnan(wrong)
        counts = numpy.bincount(bins[known], minlength=self.bins)
        sums = numpy.bincount(bins[known], wrong[known], minlength=self.bins)
        with numpy.errstate(divide="ignore", invalid="ignore"):
            self.by_size.set_data(
                self.low + (numpy.arange(self.bins) + 0.5) / 10, numpy.log10(sums / counts)
            )
        self._scale(self.sizes, self.by_size.get_ydata())

    def _draw_places(
        self, quantized: Quantized, without: Quantized | None, outlier: int | None
    ) -> None:
        import numpy

        count = len(quantized.before)
        width = quantized.block_size * math.ceil(len(quantized.scales) / MOST_POINTS)
        starts = numpy.arange(0, count, width)
        for line, shown in ((self.by_place, quantized), (self.without, without)):
            if shown is None:
                line.set_data([], [])
                continue
            wrong = shown.relative_error
            known = ~numpy.isnan(wrong)
            sums, counts = (
                numpy.add.reduceat(part, starts)
                for part in (numpy.where(known, wrong, 0), known.astype(int))
            )
            with numpy.errstate(divide="ignore", invalid="ignore"):
                means = numpy.log10(sums / counts)
            line.set_data([*starts, count], [*means, means[-1]])
        self.places.set_xlim(0, count)
        self._scale(
            self.places, numpy.concatenate([self.by_place.get_ydata(), self.without.get_ydata()])
        )
        group = width // quantized.block_size
        self.places.set_xlabel(
            "place in the tensor" + f" (mean of {group} blocks each)" * (group > 1)
        )
        self.outlier.set_data([], []) if outlier is None else self.outlier.set_data(
            [outlier], [self.places.get_ylim()[1]]
        )

    @staticmethod
    def _scale(axes, exponents) -> None:
        """Whole powers of ten around what is drawn, three of them named at most."""
        import numpy

        drawn = [float(value) for value in exponents if numpy.isfinite(value)] or [-2.0]
        low, high = math.floor(min(drawn)), math.ceil(max(drawn))
        high = max(high, low + 1)
        axes.set_ylim(low, high)
        ticks = range(low, high + 1, math.ceil((high - low) / 2))
        axes.set_yticks(
            ticks,
            [f"{10.0 ** (tick + 2):g} %" if tick < 2 else f"1e{tick + 2} %" for tick in ticks],
        )


def _percent(share: float) -> str:
    """Of a share, in three digits."""
    return (
        "none" if share == 0 else f"{100 * share:,.3g} %" if share < 10 else f"{100 * share:,.0f} %"
    )
