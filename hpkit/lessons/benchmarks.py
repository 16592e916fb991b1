"""Recorded benchmarks: what `make bench` measured, on which device, with which versions.

There is one file a device in `data/benchmarks/`.
"""

import dataclasses
import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.figures.base import BLUE, GREY, ORANGE, Picture, blank, rendered
from hpkit.files import data_folder


@dataclass(frozen=True)
class Measured:
    """One side of a comparison: a way to train `model` in one setup.

    It is measured in a process of its own in every round. `setup`: precision and optimizer.
    `same_settings`: whether it trains on batches of as many tokens as hpkit's, packed; otherwise by
    its library's defaults. `settings` says in words what it was given. The lists hold one number a
    round: `useful_tokens_per_second`, tokens that are text and carry a label; `peak_memory_bytes`,
    on a GPU what torch allocated, on a CPU the process's resident set; `idle_memory_bytes`, that of
    the process before it loaded the model. `text_share`: of the tokens computed, 0 to 1, the rest
    is padding. `update_seconds`: median over the rounds. `flops_utilisation`: of the device's peak,
    0 to 1; None where the peak is unknown. `optimizer_state_bytes` by dtype. `losses`: of a few
    updates on one batch of tunes that is the same for all sides; nats per token.
    """

    model: str
    parameters: int
    setup: str
    side: str
    same_settings: bool
    settings: str
    useful_tokens_per_second: list[float]
    peak_memory_bytes: list[int]
    idle_memory_bytes: list[int]
    text_share: float
    update_seconds: float
    flops_utilisation: float | None
    optimizer_state_bytes: dict[str, int]
    losses: list[float]

    @property
    def rate(self) -> float:
        """Useful tokens per second, the median of the rounds."""
        return statistics.median(self.useful_tokens_per_second)

    @property
    def peak(self) -> float:
        """Peak memory in bytes, the median of the rounds."""
        return statistics.median(self.peak_memory_bytes)

    @property
    def idle(self) -> float:
        """Memory in bytes before the model was loaded, the median of the rounds."""
        return statistics.median(self.idle_memory_bytes)


@dataclass(frozen=True)
class Benchmark:
    """All that one `make bench` measured of training.

    `kind` is cpu or cuda; `date` the day, as 2026-11-23; `optimizers` one dict for each model and
    optimizer, with the seconds of its step alone, the bytes of its states and the bytes predicted;
    `in_turns` model -> "hpkit" and "bare PyTorch loop" -> seconds of each of their updates, taken
    in turns in one process; `left_out` what was not measured, and why.
    """

    device: str
    kind: str
    threads: int
    date: str
    versions: dict[str, str]
    rounds: int
    updates: int
    sides: list[Measured]
    optimizers: list[dict]
    in_turns: dict[str, dict[str, list[float]]]
    left_out: dict[str, str]

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """(model, setup) of each group of sides, in the order in which they were measured."""
        # A set would forget the order; the keys of a dict keep it.
        return list(dict.fromkeys((side.model, side.setup) for side in self.sides))

    def of(self, model: str, setup: str) -> dict[str, Measured]:
        """The sides of one comparison by name."""
        comparison = (model, setup)
        return {side.side: side for side in self.sides if (side.model, side.setup) == comparison}

    def ratios(self, model: str, setup: str, other: str) -> list[float]:
        """How many times the useful tokens per second of `other` hpkit trains, round by round.

        A busy moment of the machine hits both sides of one round, and their ratio less than either.
        """
        sides = self.of(model, setup)
        ours = sides["hpkit"].useful_tokens_per_second
        theirs = sides[other].useful_tokens_per_second
        return [our / their for our, their in zip(ours, theirs, strict=True)]

    def ratio(self, model: str, setup: str, other: str) -> float:
        """The median of `ratios`."""
        return statistics.median(self.ratios(model, setup, other))

    def best_of_the_others(self, model: str, setup: str) -> str | None:
        """The side on the same settings that does best against hpkit, by `ratio`.

        None where there is none.
        """
        others = [
            side.side
            for side in self.of(model, setup).values()
            if side.same_settings and side.side != "hpkit"
        ]
        # The better the other side, the smaller the number of times that hpkit is as fast.
        return min(others, key=lambda other: self.ratio(model, setup, other), default=None)

    def ratio_in_turns(self, model: str) -> float:
        """How many times the speed of the bare loop hpkit has when both train in turns.

        The median over pairs of updates. What two processes differ by, their place in memory and
        the machine's mood, is the same for both here.
        """
        ours = self.in_turns[model]["hpkit"]
        bare = self.in_turns[model]["bare PyTorch loop"]
        return statistics.median(their / our for our, their in zip(ours, bare, strict=True))

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @property
    def file_name(self) -> str:
        """`amd-epyc.json`: the device's name, as a file may be called."""
        return re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-") + ".json"


def load_benchmarks(folder: str | Path | None = None) -> list[Benchmark]:
    """Those recorded in `folder`, by default the project's, the newest first.

    Raises BadInput for a file that is none.
    """
    folder = Path(folder or data_folder() / "benchmarks")
    benchmarks = [_load_benchmark(file) for file in sorted(folder.glob("*.json"))]
    return sorted(benchmarks, key=lambda benchmark: benchmark.date, reverse=True)


def _load_benchmark(file: Path) -> Benchmark:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        values["sides"] = [Measured(**side) for side in values["sides"]]
        return Benchmark(**values)
    # A field that is missing or unknown is a TypeError of the dataclass.
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{file} is no benchmark of this version ({error}): record it again with make bench"
        ) from None


#: How a bar looks, by what its side was given; the hatch tells it apart without colour.
_LOOKS = {
    "hpkit": {"color": BLUE, "hatch": ""},
    "same settings": {"color": ORANGE, "hatch": "//"},
    "the library's defaults": {"color": GREY, "hatch": "oo"},
}
_BAR_HEIGHT = 0.75


def benchmark_picture(benchmark: Benchmark) -> Picture:
    """Of every comparison, side by side: useful tokens per second, and the peak of memory.

    A whisker shows the rounds. A bar's colour and hatch tell hpkit, the others on the same
    settings, and the libraries' defaults. White: what the process held before it loaded the model.
    """
    comparisons = [
        list(benchmark.of(model, setup).values()) for model, setup in benchmark.comparisons
    ]
    # In inches: the legend and the axis at the bottom, then a title and its bars for each.
    figure = blank(1.1 + sum(0.45 + 0.34 * len(sides) for sides in comparisons))
    grid = figure.subplots(
        nrows=len(comparisons),
        ncols=2,
        squeeze=False,
        height_ratios=[0.6 + len(sides) for sides in comparisons],
    )
    # By what the bar means, so that each meaning stands in the legend once, as first met.
    legend = {}
    parts = []
    for (speed, memory), sides in zip(grid, comparisons):
        for row, side in enumerate(sides):
            legend[_kind(side)] = _draw_speed(speed, row, side)
            if side.idle:  # of a GPU torch counts only its own
                legend["before the model was loaded"] = _draw_idle_memory(memory, row, side)
            _draw_memory(memory, row, side)
        of_model = [side for side in benchmark.sides if side.model == sides[0].model]
        _frame(speed, memory, sides, of_model)
        words = "; ".join(map(_words, sides))
        parts.append(f"{sides[0].model}, {sides[0].setup}: {words}")
    grid[-1][0].set_xlabel("useful tokens per second", fontsize=9)
    grid[-1][1].set_xlabel("peak memory (MB)", fontsize=9)
    figure.legend(
        legend.values(), legend, loc="outside upper left", ncols=4, frameon=False, fontsize=9
    )
    return rendered(
        figure,
        f"Useful tokens per second and peak memory on {benchmark.device}. {'. '.join(parts)}.",
    )


def _kind(side: Measured) -> str:
    if side.side == "hpkit":
        return "hpkit"
    if side.same_settings:
        return "same settings"
    return "the library's defaults"


def _draw_speed(axes, row: int, side: Measured):
    """The side's bar, with its number and a whisker over the rounds; returns the bar."""
    bar = axes.barh(row, side.rate, height=_BAR_HEIGHT, edgecolor="white", **_LOOKS[_kind(side)])
    low = min(side.useful_tokens_per_second)
    high = max(side.useful_tokens_per_second)
    axes.plot([low, high], [row, row], color="black", marker="|", markersize=7)
    _write_number(axes, side.rate, high, row)
    return bar


def _draw_idle_memory(axes, row: int, side: Measured):
    return axes.barh(row, side.idle / 1e6, height=_BAR_HEIGHT, color="white", edgecolor=GREY)


def _draw_memory(axes, row: int, side: Measured) -> None:
    """The bar of what came on top of the memory held before, and the number of both together."""
    idle = side.idle / 1e6
    peak = side.peak / 1e6
    look = _LOOKS[_kind(side)]
    axes.barh(row, peak - idle, left=idle, height=_BAR_HEIGHT, edgecolor="white", **look)
    _write_number(axes, peak, peak, row)


def _write_number(axes, number: float, x: float, row: int) -> None:
    """The number, right of place `x` in its row."""
    axes.annotate(
        f"{number:,.0f}",
        (x, row),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )


def _frame(speed, memory, sides: list[Measured], of_model: list[Measured]) -> None:
    """Title, names and scales of one comparison; all comparisons of a model have the same scale."""
    first = sides[0]
    speed.set_yticks(range(len(sides)), [side.side for side in sides], fontsize=8)
    speed.set_title(
        f"{first.model}, {first.parameters / 1e6:,.1f} million parameters, {first.setup}",
        loc="left",
        fontsize=9,
    )
    memory.set_yticks(range(len(sides)), [])
    for axes in (speed, memory):
        axes.invert_yaxis()  # the first side is the upper one
        axes.locator_params(axis="x", nbins=4)
        axes.set_axisbelow(True)
        axes.grid(alpha=0.3, axis="x")
    # Longer than the longest bar by what its number takes.
    fastest = max(max(side.useful_tokens_per_second) for side in of_model)
    speed.set_xlim(0, 1.3 * fastest)
    memory.set_xlim(0, 1.3 * max(side.peak for side in of_model) / 1e6)


def _words(side: Measured) -> str:
    low = min(side.useful_tokens_per_second)
    high = max(side.useful_tokens_per_second)
    rates = f"{side.rate:,.0f} ({low:,.0f} to {high:,.0f})"
    return f"{side.side} {rates}, {side.peak / 1e6:,.0f} MB"
