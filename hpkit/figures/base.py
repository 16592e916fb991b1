"""Figures as PNG bytes, each with a sentence (alt text) made from the same numbers. Nothing here trains or displays.

A function draws once. A class keeps its figure for a widget and moves what is in it, which takes a third of the time;
everything that can differ is set at each drawing, so that the same numbers give the same bytes whatever came before.
"""

import io
import math
import statistics
from base64 import b64encode
from dataclasses import dataclass

from hpkit.accounting import Accounting, shown_rate
from hpkit.corpus import music
from hpkit.labs.blockwise import Quantized
from hpkit.labs.formats import Format, Rounding, shown_number
from hpkit.memory import Memory
from hpkit.preflight.rules import shown_bytes

# Okabe and Ito's colours (2008) stay apart for colour-blind readers; marks and hatches tell them apart without colour.
BLUE, ORANGE, GREY, GREEN, SKY = "#0072B2", "#D55E00", "#666666", "#009E73", "#56B4E9"
#: More points than pixels cost time and show nothing.
_MOST_POINTS = 1500


@dataclass(frozen=True)  # of a tuple IPython would show the bytes
class Picture:
    """A picture and what it shows in words. In a notebook it is shown, and its words are what a test compares."""

    png: bytes
    alt: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        return {"image/png": b64encode(self.png).decode(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


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


def loss_picture(history: list[dict]) -> Picture:
    """Training loss, evaluation loss and learning rate over the updates of one run.

    `history` holds dicts with `step` and any of `loss`, `eval_loss`, `learning_rate`; loss in nats a token.
    """
    figure = blank(4.6)
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
    return rendered(figure, "Loss and learning rate: " + ("; ".join(parts) or "nothing was logged") + ".")


def piano_roll(tune: music.Tune, title: str) -> Picture:
    """The notes of a tune as bars of a piano roll: time in eighths, pitch by name; faulty bars are hatched."""
    notes, bars = music.melody(tune), music.bars(tune)
    figure = blank(3.4)
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
    return rendered(figure, alt)


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
        self.figure = blank(self.height, layout=None)
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
        return rendered(self.figure, alt)


class MemoryPicture:
    """Where the bytes of a fine-tune go, end to end, above the memory of a device."""

    height = 2.3
    parts = (("weights", BLUE, ""), ("gradients", ORANGE, "//"), ("optimizer states", GREEN, ".."), ("activations", SKY, "xx"))

    def __init__(self):
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        self.figure = blank(self.height, layout=None)
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
        return rendered(self.figure, f"Memory of a full fine-tune, {needed}; {device} has {shown_bytes(free)}.")


class CurvesPicture:
    """What was measured over the updates of a run: the band of a setting's seeds, of another to compare it with, runs of now.

    Nothing is smoothed: values are joined by straight lines, and a band goes from the lowest seed to the highest.
    """

    height = 3.6

    def __init__(self):
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes((0.105, 0.135, 0.865, 0.69))
        looks = (BLUE, "", "-", "o", 2.5), (ORANGE, "//", "--", "s", 2)
        self.bands = [
            self.axes.fill_between([0, 1], 0, 1, facecolor=colour, edgecolor=colour, alpha=0.3, hatch=hatch, linewidth=1, zorder=order - 1)
            for colour, hatch, _, _, order in looks
        ]
        self.medians = [
            self.axes.plot([], [], color=colour, linestyle=style, linewidth=1.8, marker=marker, markersize=5, zorder=order)[0]
            for colour, _, style, marker, order in looks
        ]
        self.live = [self._live_line()]
        self.axes.set_xlabel("update")
        self.axes.grid(alpha=0.3)
        self.axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        self.axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        self.empty = self.axes.text(0.5, 0.5, "nothing was recorded here", transform=self.axes.transAxes, ha="center")
        self.key = _key(self.figure, [*self.medians, self.live[0]])

    def _live_line(self):
        look = dict(color="black", linewidth=1.5, linestyle="-.", marker="D", markersize=5, markerfacecolor="white")
        return self.axes.plot([], [], **look, zorder=3)[0]

    def draw(self, what: str, settings: list[tuple[str, tuple | None]], live: list[tuple[str, list]]) -> Picture:
        """`what` is measured. `settings`: what the setting at hand is called, and its `records.Band`, None where nothing was
        recorded; then those of the one to compare it with, if it is another. `live`: what each run of now is called, and
        its (step, value) pairs.
        """
        texts, parts, points = [], [], []
        for number, (area, median) in enumerate(zip(self.bands, self.medians)):
            name, seeds = settings[number] if number < len(settings) else ("against: the same", None)
            shown = [at for at in zip(*seeds) if math.isfinite(at[3])] if seeds else []
            area.set_visible(bool(shown))
            median.set_visible(bool(shown))
            texts.append(name if len(name) < 50 else f"{name[:48]}…")  # what fits; the alt text has it whole
            if shown:
                steps, low, middle, high = zip(*shown)
                points += [*zip(steps, low), *zip(steps, high)]
                area.set_verts([[*zip(steps, low), *zip(steps[::-1], high[::-1])]])
                median.set_data(steps, middle)
                parts.append(f"{name}: {middle[0]:.5g} at update {steps[0]:,}, {middle[-1]:.5g} at update {steps[-1]:,}")
                parts[-1] += f" ({low[-1]:.5g} to {high[-1]:.5g})" + ", after that no number" * (len(shown) < len(seeds[0]))
            elif number < len(settings):
                nothing = "no number" if seeds else "not recorded"
                parts.append(f"{name}: {nothing}")
                texts[-1] = parts[-1] if len(parts[-1]) < 50 else f"{name.partition(':')[0]}: {nothing}"
        self.live += [self._live_line() for _ in live[len(self.live) :]]
        for number, line in enumerate(self.live):
            name, values = live[number] if number < len(live) else ("", [])
            line.set_data(*zip(*values) if values else ([], []))
            points += values
            if values:
                parts.append(f"trained now, {name}: {values[-1][1]:.5g} at update {values[-1][0]:,}")
        names = [name for name, _ in live] if len(live) < 3 else [f"{len(live)} runs"]
        _say(self.key, [*texts, f"trained now: {', '.join(names) or 'none yet'}"])
        self.empty.set_visible(not points)
        steps, heights = zip(*points or [(1, 0), (1, 1)])
        margin = 0.06 * (max(heights) - min(heights)) or 0.1 * abs(max(heights)) or 1
        self.axes.set_ylim(min(heights) - margin, max(heights) + margin)
        self.axes.set_xlim(-0.02 * max(1, *steps), 1.02 * max(1, *steps))
        self.axes.set_ylabel(what)
        return rendered(self.figure, f"{what[0].upper()}{what[1:]} over the updates; {'; '.join(parts)}.")


class EndsPicture:
    """Where runs end along one hyperparameter: a point for every seed at the recorded values, and nothing between them."""

    height = 3.6

    def __init__(self):
        from matplotlib.ticker import FuncFormatter

        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes((0.105, 0.135, 0.865, 0.69))
        self.here = self.axes.axvspan(-0.5, 0.5, facecolor="#dddddd")
        self.seeds = self.axes.plot([], [], color=BLUE, marker="o", markersize=6, markerfacecolor="none", linestyle="")[0]
        self.medians = self.axes.plot([], [], color=BLUE, marker="_", markersize=22, markeredgewidth=2.5, linestyle="")[0]
        self.live = self.axes.plot([], [], color="black", marker="D", markersize=7, markerfacecolor="white", linestyle="")[0]
        self.axes.grid(alpha=0.3, axis="y")
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        self.key = _key(self.figure, [self.seeds, self.medians, self.here, self.live])
        _say(self.key, ["a recorded seed", "median of the recorded seeds", "the setting at hand", "trained now"])

    def draw(self, what: str, along: str, columns: list[tuple[str, list[float], list[float]]], here: int) -> Picture:
        """`columns`: how each value of `along` is written, what its recorded runs and its runs of now ended with.

        `here` is the column of the setting at hand. What is no finite number is told in words alone.
        """
        parts, seeds, medians, live = [], [], [], []
        for place, (label, recorded, now) in enumerate(columns):
            seeds += [(place, value) for value in recorded if math.isfinite(value)]
            live += [(place, value) for value in now if math.isfinite(value)]
            words = "no number" if recorded else "not recorded"
            if recorded and max(recorded) < math.inf:
                medians.append((place, statistics.median(recorded)))
                words = f"{medians[-1][1]:.5g} ({min(recorded):.5g} to {max(recorded):.5g})"
            parts.append(f"{label}: {words}" + "".join(f", trained now {value:.5g}" for value in now))
        for line, values in ((self.seeds, seeds), (self.medians, medians), (self.live, live)):
            line.set_data(*zip(*values) if values else ([], []))
        self.here.set_x(here - 0.5)
        heights = [value for _, value in (*seeds, *live)] or [0, 1]
        margin = 0.06 * (max(heights) - min(heights)) or 0.1
        self.axes.set_ylim(min(heights) - margin, max(heights) + margin)
        self.axes.set_xlim(-0.6, len(columns) - 0.4)
        self.axes.set_xticks(range(len(columns)), [label for label, _, _ in columns])
        self.axes.set_xlabel(along)
        self.axes.set_ylabel(what)
        at = f"the setting at hand: {columns[here][0]}"
        return rendered(self.figure, f"{what[0].upper()}{what[1:]} at the end of a run, along {along}; {at}; {'; '.join(parts)}.")


class GuessPicture:
    """A guess, and the answer once it is known: at `steps` as two lines, or without steps as two points on one line."""

    def __init__(self, low: float, high: float, steps: tuple | None = None, log: bool = False, unit: str = "", along: str = ""):
        self.steps, self.height = steps, 3.4 if steps else 1.7
        self.figure = blank(self.height, layout=None)
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
        return rendered(self.figure, f"Your guess: {words[0]}; the answer: {words[1]}.")


def _values(steps: tuple | None, values: tuple) -> str:
    if steps is None:
        return f"{values[0]:.4g}"
    return ", ".join(f"{value:.4g} at {step:g}" for step, value in zip(steps, values))


class OrderPicture:
    """A guessed order beside the true one, equal names joined: where lines cross, a pair is the wrong way round."""

    def __init__(self, names: tuple[str, ...]):
        self.height = 0.9 + 0.4 * len(names)
        self.figure = blank(self.height, layout=None)
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
        return rendered(self.figure, f"Your order: {', '.join(guess)}; the answer: {', '.join(truth) if truth else 'not yet shown'}.")


class FormatPicture:
    """One number in several formats: its place in their ranges, and close up on rulers of the numbers they have."""

    height = 4.6
    most_marks = 130  # more on a ruler are drawn as a band

    def __init__(self):
        from matplotlib.collections import LineCollection

        # Texts of our own instead of ticks and titles, whose places matplotlib computes anew: that doubles a redraw.
        self.figure = blank(self.height, layout=None)
        self.ranges, self.rulers = (self.figure.add_axes((0.12, bottom, 0.86, height)) for bottom, height in ((0.7, 0.24), (0.08, 0.5)))
        self.titles = [self.figure.text(0.12, y, "") for y in (0.955, 0.595)]
        self.asked = [axes.axvline(0, color="black", linestyle="--", linewidth=1.2) for axes in (self.ranges, self.rulers)]
        self.rows = [self._row(LineCollection([], colors=colour, linewidths=1.6), colour) for colour in (BLUE, ORANGE, GREEN, GREY)]
        self.scales = [_scale(axes, 10) for axes in (self.ranges, self.rulers)]
        tens = range(-40, 40, 10)
        _graduate(self.scales[0], {_ZERO: "0", **{ten: f"1e{ten}" if ten else "1" for ten in tens}, _INF: "inf"})
        self.ranges.set_xlim(_ZERO - 2, _INF + 2)

    def _row(self, marks, colour: str) -> dict:
        marker = dict(color="black", marker="D", markersize=8, markerfacecolor="white", linestyle="", clip_on=False)
        below = dict(facecolor="white", edgecolor=colour, hatch="////", linewidth=1)
        box = dict(facecolor="white", edgecolor="none", pad=1)
        across, name = self.rulers.get_yaxis_transform(), dict(ha="right", va="center")
        return {
            "normal": self.ranges.barh(0, 1, height=0.5, color=colour)[0],
            "subnormal": self.ranges.barh(0, 1, height=0.5, **below)[0],
            "place": self.ranges.plot([], [], **marker)[0],
            "marks": self.rulers.add_collection(marks),
            "band": self.rulers.barh(0, 1, height=0.36, color=colour, alpha=0.45)[0],
            "result": self.rulers.plot([], [], **marker)[0],
            "names": self.ranges.text(-0.015, 0, "", transform=self.ranges.get_yaxis_transform(), **name),
            "name": self.rulers.text(-0.015, 0, "", transform=across, **name),
            "words": self.rulers.text(0.004, 0, "", transform=across, va="center", fontsize=9.5, bbox=box),
        }

    def draw(self, roundings: list[Rounding]) -> Picture:
        """`roundings` are those of one number in three or four formats."""
        value, coarsest = roundings[0].value, max(roundings, key=lambda rounding: rounding.spacing)
        known = abs(value) < 2 * max(rounding.format.largest for rounding in roundings)  # not NaN, inf or far beyond every format
        ends = 0.0, 1.0
        if known:
            ends = value - 1.7 * coarsest.spacing, value + 1.7 * coarsest.spacing
        for row, artists in enumerate(self.rows):
            for artist in artists.values():
                artist.set_visible(row < len(roundings))
        for row, (artists, rounding) in enumerate(zip(self.rows, roundings)):
            for name in ("names", "name"):
                artists[name].set(text=rounding.format.name, y=row)
            self._draw_range(artists, rounding, row)
            self._draw_ruler(artists, rounding, row, *ends, known)
        for axes, top in ((self.ranges, 0.5), (self.rulers, 0.75)):
            axes.set_ylim(len(roundings) - 0.5, -top)
        for line, place in zip(self.asked, (_place(value), value)):
            line.set_xdata([place, place])
            line.set_visible(not math.isnan(value))
        self.asked[1].set_visible(known)
        self.rulers.set_xlim(*ends)
        numbers = _between(coarsest.format, value - 1.4 * coarsest.spacing, value + 1.4 * coarsest.spacing, 9) if known else []
        numbers = numbers[:: 1 + (len(numbers) > 4)]  # so that the labels do not meet
        _graduate(self.scales[1], {number: shown_number(number) for number in numbers})
        ranges = f"range{' of magnitudes' * (math.copysign(1, value) < 0)}, subnormal numbers hatched"
        ranges += f"; dashed: {shown_number(value)}" * (not math.isnan(value))
        close = f"the numbers each has; below, those of {coarsest.format.name}" if known else "no numbers to show"
        _say(self.titles, [ranges, f"close up: {close}"])
        words = "; ".join(f"{rounding.format.name} {rounding}" for rounding in roundings)
        return rendered(self.figure, f"{shown_number(value)} in {len(roundings)} formats: {words}.")

    def _draw_range(self, artists: dict, rounding: Rounding, row: int) -> None:
        format = rounding.format
        lowest, normal, highest = (math.log10(end) for end in (format.smallest_subnormal, format.smallest_normal, format.largest))
        artists["subnormal"].set(x=lowest, width=normal - lowest, y=row - 0.25)
        artists["normal"].set(x=normal, width=highest - normal, y=row - 0.25)
        artists["place"].set_data(*([], []) if math.isnan(rounding.result) else ([_place(rounding.result)], [row]))

    def _draw_ruler(self, artists: dict, rounding: Rounding, row: int, low: float, high: float, known: bool) -> None:
        numbers = _between(rounding.format, low, high, self.most_marks) if known else []
        artists["band"].set_visible(numbers is None)
        if numbers is None:  # too many
            left, right = max(low, -rounding.format.largest), min(high, rounding.format.largest)
            artists["band"].set(x=left, width=right - left, y=row - 0.18)
        artists["marks"].set_segments([[(number, row - 0.18), (number, row + 0.18)] for number in numbers or ()])
        inside = known and low <= rounding.result <= high
        artists["result"].set_data(*([rounding.result], [row]) if inside else ([], []))
        artists["words"].set(text=f"becomes {rounding}", y=row - 0.46)


#: Where 0 and inf stand on an axis of powers of ten.
_ZERO, _INF = -51.0, 44.0


def _place(value: float) -> float:
    """log10 of the magnitude; what is beyond every format stands next to 0 or inf."""
    if not value or not math.isfinite(value):
        return _INF if value else _ZERO
    return min(max(math.log10(abs(value)), _ZERO + 2), _INF - 2)


def _scale(axes, most: int) -> list:
    """A line along the lower edge, its marks, and up to `most` texts below it."""
    axes.set_axis_off()
    axes.plot([0, 1], [0, 0], color="black", linewidth=1, transform=axes.transAxes, clip_on=False)
    along = dict(transform=axes.get_xaxis_transform(), clip_on=False)
    marks = axes.plot([], [], color="black", linestyle="", marker=3, markersize=4, **along)[0]  # 3: a tick downwards
    y = -0.023 / axes.get_position().height  # as far below either axes
    return [marks, *(axes.text(0, y, "", ha="center", va="top", **along) for _ in range(most))]


def _graduate(scale: list, words: dict[float, str]) -> None:
    marks, *texts = scale
    marks.set_data(list(words), [0] * len(words))
    for text in texts:
        text.set_text("")
    for text, (place, said) in zip(texts, words.items()):
        text.set(text=said, x=place)


def _between(format: Format, low: float, high: float, most: int) -> list[float] | None:
    """The finite numbers from `low` to `high`; None when there are more than `most`."""
    first, last = format.place([low, high]).tolist()
    if last - first > most:
        return None
    return [number for number in format.at(range(first, last + 1)).tolist() if low <= number <= high and math.isfinite(number)]


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
        return rendered(self.figure, alt)

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
