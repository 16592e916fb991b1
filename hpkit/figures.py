"""Figures as PNG bytes, each with a sentence (alt text) made from the same numbers. Nothing here trains or displays.

A function draws once. A class keeps its figure for a widget and moves what is in it, which takes a third of the time;
everything that can differ is set at each drawing, so that the same numbers give the same bytes whatever came before.
"""

import io
import math
from typing import NamedTuple

import hpkit.music as music
from hpkit.accounting import Accounting, shown_rate
from hpkit.blockwise import Quantized
from hpkit.memory import Memory
from hpkit.rules import shown_bytes

# Okabe and Ito's colours (2008) stay apart for colour-blind readers; marks and hatches tell them apart without colour.
BLUE, ORANGE, GREY, GREEN, SKY = "#0072B2", "#D55E00", "#666666", "#009E73", "#56B4E9"
#: More points than pixels cost time and show nothing.
_MOST_POINTS = 1500


class Picture(NamedTuple):
    """A picture and what it shows in words."""

    png: bytes
    alt: str


def _figure(height: float, layout: str | None = "constrained"):
    from matplotlib.figure import Figure  # without pyplot: no global state, no window

    return Figure(figsize=(7, height), dpi=100, layout=layout)


def _picture(figure, alt: str) -> Picture:
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return Picture(png.getvalue(), alt)


def loss_picture(history: list[dict]) -> Picture:
    """Training loss, evaluation loss and learning rate over the updates of one run.

    `history` holds dicts with `step` and any of `loss`, `eval_loss`, `learning_rate`; loss in nats a token.
    """
    figure = _figure(4.6)
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    series = {
        name: [(entry["step"], entry[name]) for entry in history if entry.get(name) is not None]
        for name in ("loss", "eval_loss", "learning_rate")
    }
    if series["loss"]:
        top.plot(*zip(*series["loss"]), color=BLUE, marker=".", label="training (mean since the last point)")
    if series["eval_loss"]:
        top.plot(*zip(*series["eval_loss"]), color=ORANGE, marker="s", linestyle="--", label="evaluation (held-out)")
    if series["learning_rate"]:
        bottom.plot(*zip(*series["learning_rate"]), color=GREY, marker=".")
    top.set_ylabel("loss (nats per token)")
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("update")
    bottom.set_ylim(bottom=0)
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    if series["loss"] or series["eval_loss"]:
        top.legend(frameon=False)
    names = {"loss": "training loss", "eval_loss": "evaluation loss", "learning_rate": "learning rate"}
    parts = [
        f"{names[name]} {points[0][1]:.4g} at update {points[0][0]}, {points[-1][1]:.4g} at update {points[-1][0]}"
        for name, points in series.items()
        if points
    ]
    if series["learning_rate"]:
        step, peak = max(series["learning_rate"], key=lambda point: point[1])
        parts[-1] += f", highest {peak:.4g} at update {step}"
    return _picture(figure, "Loss and learning rate: " + ("; ".join(parts) or "nothing was logged") + ".")


def piano_roll(tune: music.Tune, title: str) -> Picture:
    """The notes of a tune as bars of a piano roll: time in eighths, pitch by name; faulty bars are hatched."""
    notes, bars = music.melody(tune), music.bars(tune)
    figure = _figure(3.4)
    axes = figure.subplots()
    pitches = [pitch for pitch, _, _ in notes]
    low, high = min(pitches) - 1, max(pitches) + 1
    for bar in bars:
        axes.axvline(float(bar.start), color=GREY, linewidth=0.6, alpha=0.6)
        if bar.adds_up is False:
            start, width = float(bar.start), float(bar.duration)
            axes.axvspan(start, start + width, facecolor="none", edgecolor=ORANGE, hatch="//", linewidth=0)
    axes.barh(pitches, [length * 0.92 for _, _, length in notes], left=[start for _, start, _ in notes], height=0.8, color=BLUE)
    names = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
    ticks = [pitch for pitch in range(low, high + 1) if pitch in pitches]
    axes.set_yticks(ticks, [f"{names[pitch % 12]}{pitch // 12 - 1}" for pitch in ticks], fontsize=8)
    axes.set_ylim(low, high)
    axes.set_xlim(0, float(max(bar.start + bar.duration for bar in bars)))
    axes.set_xlabel("time (eighth notes); vertical lines are bar lines")
    axes.set_ylabel("pitch")
    faulty = sum(bar.adds_up is False for bar in bars)
    axes.set_title(title + (f"; hatched: bars that do not add up ({faulty})" if faulty else ""), fontsize=10, loc="left")
    alt = (
        f"Piano roll, {title}: {len(notes)} notes in {len(bars)} bars of {tune.meter[0]}/{tune.meter[1]} in {tune.key}, "
        f"from MIDI pitch {min(pitches)} to {max(pitches)}; bars that do not add up: {faulty}."
    )
    return _picture(figure, alt)


def _rate(rate: float) -> str:
    return shown_rate(rate) if rate else "0"


def _key(figure, marks: list) -> list:
    """A key to the marks in two columns at the top; returns its texts. A matplotlib legend takes a third of a redraw."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    texts, rows, pixel = [], math.ceil(len(marks) / 2), 1 / (100 * figure.get_figheight())
    for number, mark in enumerate(marks):
        column, row = divmod(number, rows)
        x, y = 0.02 + 0.54 * column, 1 - (18 + 21 * row) * pixel
        if isinstance(mark, Rectangle):
            sample = Rectangle((x, y - 5 * pixel), 0.04, 11 * pixel)
            sample.set(**{name: getattr(mark, f"get_{name}")() for name in ("facecolor", "edgecolor", "hatch")})
        else:
            sample = Line2D([x, x + 0.02, x + 0.04], [y, y, y], markevery=[1])
            names = ("color", "linestyle", "linewidth", "marker", "markersize", "markerfacecolor")
            sample.set(**{name: getattr(mark, f"get_{name}")() for name in names})
        figure.add_artist(sample)
        texts.append(figure.text(x + 0.055, y, "", va="center_baseline"))
    return texts


def _say(texts: list, words: list[str]) -> None:
    for text, said in zip(texts, words):
        text.set_text(said)


class SchedulePicture:
    """The learning rate over a run: what was asked for, what is reached, and where the run ends."""

    height = 3.6

    def __init__(self):
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        # Constrained layout would take twice the time and depend on the drawing before.
        self.figure = _figure(self.height, layout=None)
        self.axes = self.figure.add_axes((0.135, 0.135, 0.84, 0.64))
        self.rates = self.axes.plot([], [], color=BLUE, linewidth=2, markersize=5)[0]
        self.asked = self.axes.axhline(1, color=ORANGE, linestyle="--")
        self.reached = self.axes.plot([], [], color=BLUE, marker="D", markersize=9, markerfacecolor="white", linestyle="", clip_on=False)[0]
        self.warmup = self.axes.axvline(0, color=GREY, linestyle=":", linewidth=1.8)
        self.end = self.axes.axvline(0, color="black", linewidth=1.5)
        self.axes.set_xlabel("updates done")
        self.axes.set_ylabel("learning rate")
        self.axes.grid(alpha=0.3)
        self.axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        self.axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        self.axes.yaxis.set_major_locator(MaxNLocator(5))
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _rate(value)))
        handles = [self.asked, self.reached, self.rates, self.end, self.warmup]
        self.key = _key(self.figure, handles)

    def draw(self, counts: Accounting, asked: float) -> Picture:
        """`counts` must have learning rates; `asked` is the recipe's learning rate."""
        updates, warmup, rates = counts.updates, counts.warmup_updates, counts.learning_rates
        shown = sorted({*range(0, updates + 1, updates // _MOST_POINTS + 1), min(warmup, updates), counts.peak_at, updates})
        self.rates.set_data(shown, [rates[k] for k in shown])
        self.rates.set_marker("." if updates <= 40 else "")
        self.asked.set_ydata([asked, asked])
        self.reached.set_data([counts.peak_at], [counts.peak_learning_rate])
        self.end.set_xdata([updates, updates])
        self.warmup.set_xdata([warmup, warmup])
        self.warmup.set_visible(0 < warmup < updates)
        self.axes.set_xlim(-0.02 * updates, 1.03 * updates)
        top = max(asked, counts.peak_learning_rate)
        self.axes.set_ylim(-0.03 * top, 1.1 * top)  # so that a rate near 0 is seen
        share = f"{100 * counts.peak_learning_rate / asked:.3g} %"
        reached = f"{_rate(counts.peak_learning_rate)} ({share}), " + (f"after update {counts.peak_at:,}" if counts.peak_at else "at once")
        texts = [f"asked for: {_rate(asked)}", f"reached: {reached}", "learning rate", f"the run ends: update {updates:,}"]
        texts.append(f"warmup: {warmup:,} update{'s' * (warmup > 1)}" if warmup else "no warmup")
        _say(self.key, texts)
        outlasts = ", as long as the run or longer" * (warmup >= updates)
        alt = f"Learning rate over {updates:,} update{'s' * (updates > 1)}: {'; '.join(texts[:2])}; at the end: {_rate(rates[-1])}; "
        alt += f"{texts[-1]}{outlasts}."
        return _picture(self.figure, alt)


class MemoryPicture:
    """Where the bytes of a fine-tune go, end to end, above the memory of a device."""

    height = 2.3
    parts = (("weights", BLUE, ""), ("gradients", ORANGE, "//"), ("optimizer states", GREEN, ".."), ("activations", SKY, "xx"))

    def __init__(self):
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        self.figure = _figure(self.height, layout=None)
        self.axes = self.figure.add_axes((0.135, 0.14, 0.84, 0.62))
        self.bars = [
            self.axes.barh(1, 1, height=0.7, facecolor=colour, edgecolor="white", hatch=hatch, linewidth=1)[0]
            for _, colour, hatch in self.parts
        ]
        self.device = self.axes.barh(0, 1, height=0.7, facecolor="white", edgecolor="black", linewidth=1.5)[0]
        self.limit = self.axes.axvline(1, color="black", linestyle="--", linewidth=1.2)
        self.name = self.axes.text(0, 0, "", va="center")
        self.axes.set_ylim(-0.5, 1.5)
        self.axes.xaxis.set_major_locator(MaxNLocator(6))
        self.axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown_bytes(value) if value else "0"))
        self.key = _key(self.figure, self.bars)

    def draw(self, memory: Memory, device: str, free: int) -> Picture:
        """`device` is its name and `free` its memory, all in bytes."""
        left, most = 0, 1.04 * max(memory.total, free)
        for bar, size in zip(self.bars, memory):
            bar.set(x=left, width=size)
            left += size
        self.device.set_width(free)
        self.limit.set_xdata([free, free])
        self.name.set_x(0.015 * most)
        self.name.set_text(device)
        self.axes.set_yticks([1, 0], [f"needed\n{shown_bytes(memory.total)}", f"device\n{shown_bytes(free)}"])
        self.axes.set_xlim(0, most)
        texts = [f"{name}: {shown_bytes(size)}" for (name, _, _), size in zip(self.parts, memory)]
        _say(self.key, texts)
        needed = f"needed: {shown_bytes(memory.total)} ({', '.join(texts)})"
        return _picture(self.figure, f"Memory of a full fine-tune, {needed}; {device} has {shown_bytes(free)}.")


class GuessPicture:
    """A guess, and the answer once it is known: at `steps` as two lines, or without steps as two points on one line."""

    def __init__(self, low: float, high: float, steps: tuple | None = None, log: bool = False, unit: str = "", along: str = ""):
        self.steps, self.height = steps, 3.4 if steps else 1.7
        self.figure = _figure(self.height, layout=None)
        self.axes = self.figure.add_axes((0.105, 0.15, 0.865, 0.7) if steps else (0.04, 0.36, 0.92, 0.3))
        self.guess = self.axes.plot([], [], color=BLUE, marker="D", markersize=9, linestyle="--", clip_on=False)[0]
        self.truth = self.axes.plot([], [], color=ORANGE, marker="o", markersize=9, linewidth=2, clip_on=False)[0]
        self.axes.grid(alpha=0.3)
        self.low, self.high = low, high
        if log:
            (self.axes.set_yscale if steps else self.axes.set_xscale)("log")
            # matplotlib's own powers of ten take many times as long.
            (self.axes.yaxis if steps else self.axes.xaxis).set_major_formatter(lambda value, _: f"{value:g}")
        if steps:
            self.axes.set_ylabel(unit)
            self.axes.set_xlabel(along)
            self.axes.set_xticks(steps)
            margin = 0.03 * (max(steps) - min(steps)) or 1
            self.axes.set_xlim(min(steps) - margin, max(steps) + margin)
        else:
            self.axes.set_yticks([])
            self.axes.set_ylim(-1, 1)
            self.axes.set_xlabel(unit)
        self.key = _key(self.figure, [self.guess, self.truth])

    def draw(self, guess: tuple, truth: tuple | None) -> Picture:
        for line, values, height in ((self.guess, guess, 0.4), (self.truth, truth or (), -0.4)):
            line.set_data(*((self.steps[: len(values)], values) if self.steps else (values, [height] * len(values))))
        limits = min(self.low, *(truth or guess)), max(self.high, *(truth or guess))
        (self.axes.set_ylim if self.steps else self.axes.set_xlim)(*limits)
        words = [_values(self.steps, values) if values else "not yet shown" for values in (guess, truth)]
        short = ["" if self.steps and values else f": {word}" for word, values in zip(words, (guess, truth))]  # a curve shows itself
        _say(self.key, ["your guess" + short[0], "the answer" + short[1]])
        return _picture(self.figure, f"Your guess: {words[0]}; the answer: {words[1]}.")


def _values(steps: tuple | None, values: tuple) -> str:
    if steps is None:
        return f"{values[0]:.4g}"
    return ", ".join(f"{value:.4g} at {step:g}" for step, value in zip(steps, values))


class OrderPicture:
    """A guessed order beside the true one, equal names joined: where lines cross, a pair is the wrong way round."""

    def __init__(self, names: tuple[str, ...]):
        self.height = 0.9 + 0.4 * len(names)
        self.figure = _figure(self.height, layout=None)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, 1)
        self.axes.set_ylim(len(names) + 0.7, -0.3)
        self.lines = [self.axes.plot([], [], marker="o")[0] for _ in names]
        self.left, self.right = (
            [self.axes.text(x, place + 1, "", ha=side, va="center") for place in range(len(names))]
            for x, side in ((0.36, "right"), (0.64, "left"))
        )
        self.heads = [self.axes.text(x, 0.25, "", ha=side, weight="bold") for x, side in ((0.36, "right"), (0.64, "left"))]

    def draw(self, guess: tuple[str, ...], truth: tuple[str, ...] | None) -> Picture:
        for place, name in enumerate(guess):
            line, end = self.lines[place], truth.index(name) if truth else place
            line.set_data(*([0.38, 0.62], [place + 1, end + 1]) if truth else ([], []))
            moved = place != end
            line.set(color=ORANGE if moved else BLUE, linestyle="--" if moved else "-")
            self.left[place].set_text(f"{place + 1}. {name}")
            self.right[place].set_text(f"{place + 1}. {truth[place]}" if truth else "")
        self.heads[0].set_text("your order")
        self.heads[1].set_text("the answer" if truth else "the answer: not yet shown")
        return _picture(self.figure, f"Your order: {', '.join(guess)}; the answer: {', '.join(truth) if truth else 'not yet shown'}.")


class QuantizationPicture:
    """A tensor in 8 bits: where its values lie among the code points, how wrong each size comes back, and each block."""

    height = 5.2
    #: Exponents of ten of a value's share of its block's scale, in tenths; what is smaller counts in the first.
    low, bins = -9, 90

    def __init__(self):
        from matplotlib.patches import Rectangle
        from matplotlib.ticker import MaxNLocator

        self.figure = _figure(self.height, layout=None)
        self.values = self.figure.add_axes((0.115, 0.595, 0.865, 0.2))
        self.sizes = self.figure.add_axes((0.115, 0.37, 0.865, 0.2))
        self.places = self.figure.add_axes((0.115, 0.09, 0.865, 0.17))
        edges = [self.low + k / 10 for k in range(self.bins + 1)]
        flat = [0] * self.bins
        self.kept = self.values.stairs(flat, edges, fill=True, facecolor=SKY)
        self.zero = self.values.stairs(
            flat, edges, baseline=flat, fill=True, facecolor="white", edgecolor=ORANGE, hatch="////", linewidth=0
        )
        self.points = self.values.plot([], [], color="black", marker="|", markersize=9, linestyle="", markeredgewidth=0.8)[0]
        self.by_size = self.sizes.plot([], [], color=BLUE, marker=".", linewidth=1.2)[0]
        self.by_place = self.places.plot([], [], color=BLUE, linewidth=1.2, drawstyle="steps-post")[0]
        self.without = self.places.plot([], [], color=GREY, linewidth=1, linestyle="--", drawstyle="steps-post")[0]
        self.outlier = self.places.plot([], [], color=ORANGE, marker="v", markersize=9, linestyle="", clip_on=False)[0]
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
        bars = [Rectangle((0, 0), 1, 1, facecolor=SKY), Rectangle((0, 0), 1, 1, facecolor="white", edgecolor=ORANGE, hatch="////")]
        code = self.values.plot([], [], color="black", marker="|", markersize=9, linestyle="")[0]
        self.key = _key(self.figure, [*bars, code, self.by_size, self.without, self.outlier])
        self.title = self.values.set_title("", fontsize=10, loc="left")

    def draw(self, quantized: Quantized, title: str, without: Quantized | None = None, outlier: int | None = None) -> Picture:
        """`title` says whose values these are; `without` is the same tensor before a value was put at the place `outlier`."""
        import numpy

        shares, points = quantized.normalized, quantized.book
        with numpy.errstate(divide="ignore"):
            bins = numpy.clip((numpy.log10(shares) - self.low) * 10, 0, self.bins - 1).astype(int)
        lost = (quantized.after == 0) & (shares > 0)
        counts, zeros = (numpy.bincount(bins[chosen], minlength=self.bins) for chosen in (slice(None), lost))
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
        texts = [f"values, in {blocks}", f"come back as zero: {_percent(quantized.became_zero)}", f"{len(positive)} code points above zero"]
        texts.append(f"mean relative error: {_percent(quantized.mean_relative_error)}")
        texts.append(f"without the outlier: {_percent(without.mean_relative_error)}" if without else "without an outlier: the same")
        texts.append("no outlier" if outlier is None else f"outlier put at {outlier:,}: {quantized.before[outlier]:.3g}")
        self.title.set_text(title)
        _say(self.key, texts)
        half = float(numpy.median(shares))
        alt = f"{title}: {'; '.join(texts)}; half of the values lie under {half:.2g} of their block's largest."
        return _picture(self.figure, alt)

    def _draw_sizes(self, bins, wrong) -> None:
        import numpy

        known = ~numpy.isnan(wrong)
        counts = numpy.bincount(bins[known], minlength=self.bins)
        sums = numpy.bincount(bins[known], wrong[known], minlength=self.bins)
        with numpy.errstate(divide="ignore", invalid="ignore"):
            self.by_size.set_data(self.low + (numpy.arange(self.bins) + 0.5) / 10, numpy.log10(sums / counts))
        self._scale(self.sizes, self.by_size.get_ydata())

    def _draw_places(self, quantized: Quantized, without: Quantized | None, outlier: int | None) -> None:
        import numpy

        count = len(quantized.before)
        width = quantized.block_size * math.ceil(len(quantized.scales) / _MOST_POINTS)
        starts = numpy.arange(0, count, width)
        for line, shown in ((self.by_place, quantized), (self.without, without)):
            if shown is None:
                line.set_data([], [])
                continue
            wrong = shown.relative_error
            known = ~numpy.isnan(wrong)
            sums, counts = (numpy.add.reduceat(part, starts) for part in (numpy.where(known, wrong, 0), known.astype(int)))
            with numpy.errstate(divide="ignore", invalid="ignore"):
                means = numpy.log10(sums / counts)
            line.set_data([*starts, count], [*means, means[-1]])
        self.places.set_xlim(0, count)
        self._scale(self.places, numpy.concatenate([self.by_place.get_ydata(), self.without.get_ydata()]))
        group = width // quantized.block_size
        self.places.set_xlabel("place in the tensor" + f" (mean of {group} blocks each)" * (group > 1))
        self.outlier.set_data([], []) if outlier is None else self.outlier.set_data([outlier], [self.places.get_ylim()[1]])

    @staticmethod
    def _scale(axes, exponents) -> None:
        """Whole powers of ten around what is drawn, three of them named at most."""
        import numpy

        drawn = [float(value) for value in exponents if numpy.isfinite(value)] or [-2.0]
        low, high = math.floor(min(drawn)), math.ceil(max(drawn))
        high = max(high, low + 1)
        axes.set_ylim(low, high)
        ticks = range(low, high + 1, math.ceil((high - low) / 2))
        axes.set_yticks(ticks, [f"{10.0 ** (tick + 2):g} %" if tick < 2 else f"1e{tick + 2} %" for tick in ticks])


def _percent(share: float) -> str:
    """Of a share, in three digits."""
    return "none" if share == 0 else f"{100 * share:,.3g} %" if share < 10 else f"{100 * share:,.0f} %"
