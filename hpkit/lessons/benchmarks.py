"""Recorded benchmarks: what `make bench` measured, on which device, with which versions. One file a device in `data/benchmarks/`."""

import dataclasses
import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.figures.base import GREY, Picture, blank, rendered
from hpkit.figures.charts import STYLES
from hpkit.files import data_folder


@dataclass(frozen=True)
class Measured:
    """One side of a comparison: a way to train `model` in one setup, measured in a process of its own in every round.

    `setup`: precision and optimizer. `same_settings`: whether it trains on batches of as many tokens as hpkit's, packed;
    otherwise by its library's defaults. `settings` says in words what it was given. The lists hold one number a round:
    `useful_tokens_per_second`, tokens that are text and carry a label; `peak_memory_bytes`, on a GPU what torch allocated,
    on a CPU the process's resident set; `idle_memory_bytes`, that of the process before it loaded the model. `text_share`:
    of the tokens computed, 0 to 1, the rest is padding. `update_seconds`: median over the rounds. `flops_utilisation`: of
    the device's peak, 0 to 1; None where the peak is unknown. `optimizer_state_bytes` by dtype. `losses`: of a few updates
    on one batch of tunes that is the same for all sides; nats per token.
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


@dataclass(frozen=True)
class Benchmark:
    """All that one `make bench` measured of training.

    `kind` is cpu or cuda; `date` the day, as 2026-11-23; `optimizers` one dict for each model and optimizer, with the seconds
    of its step alone, the bytes of its states and the bytes predicted; `in_turns` model -> "hpkit" and "bare PyTorch loop" ->
    seconds of each of their updates, taken in turns in one process; `left_out` what was not measured, and why.
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
        return list(dict.fromkeys((side.model, side.setup) for side in self.sides))

    def of(self, model: str, setup: str) -> dict[str, Measured]:
        """The sides of one comparison by name."""
        return {
            side.side: side for side in self.sides if (side.model, side.setup) == (model, setup)
        }

    def ratios(self, model: str, setup: str, other: str) -> list[float]:
        """How many times the useful tokens per second of side `other` hpkit trains, round by round.

        A busy moment of the machine hits both sides of one round, and their ratio less than either.
        """
        sides = self.of(model, setup)
        pairs = zip(
            sides["hpkit"].useful_tokens_per_second,
            sides[other].useful_tokens_per_second,
            strict=True,
        )
        return [mine / theirs for mine, theirs in pairs]

    def ratio(self, model: str, setup: str, other: str) -> float:
        """The median of `ratios`."""
        return statistics.median(self.ratios(model, setup, other))

    def best_of_the_others(self, model: str, setup: str) -> str | None:
        """The side on the same settings that does best against hpkit, by `ratio`; None where there is none."""
        others = [
            side.side
            for side in self.of(model, setup).values()
            if side.same_settings and side.side != "hpkit"
        ]
        return min(others, key=lambda other: self.ratio(model, setup, other), default=None)

    def ratio_in_turns(self, model: str) -> float:
        """How many times the speed of the bare loop hpkit has when both train in turns: the median over pairs of updates.

        What two processes differ by, their place in memory and the machine's mood, is the same for both here.
        """
        seconds = self.in_turns[model]
        return statistics.median(
            bare / ours
            for bare, ours in zip(seconds["bare PyTorch loop"], seconds["hpkit"], strict=True)
        )

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @property
    def file_name(self) -> str:
        """`amd-epyc.json`: the device's name, as a file may be called."""
        return re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-") + ".json"


def load_benchmarks(folder: str | Path | None = None) -> list[Benchmark]:
    """Those recorded in `folder`, by default the project's, the newest first. Raises BadInput for a file that is none."""
    benchmarks = []
    for file in sorted(Path(folder or data_folder() / "benchmarks").glob("*.json")):
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            benchmarks.append(
                Benchmark(**values | {"sides": [Measured(**side) for side in values["sides"]]})
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{file} is no benchmark of this version ({error}): record it again with make bench"
            ) from None
    return sorted(benchmarks, key=lambda one: one.date, reverse=True)


def benchmark_picture(benchmark: Benchmark) -> Picture:
    """Of every comparison, side by side: useful tokens per second, with a whisker over the rounds, and the peak of memory.

    A bar's colour and hatch tell hpkit, the others on the same settings, and the libraries' defaults. White: what the
    process held before it loaded the model.
    """
    kinds = {"hpkit": STYLES[0], "same settings": STYLES[1], "the library's defaults": STYLES[5]}
    groups = [
        (model, setup, list(benchmark.of(model, setup).values()))
        for model, setup in benchmark.comparisons
    ]
    figure = blank(1.1 + sum(0.45 + 0.34 * len(sides) for _, _, sides in groups))
    grid = figure.subplots(
        len(groups), 2, squeeze=False, height_ratios=[0.6 + len(sides) for _, _, sides in groups]
    )
    drawn, parts = {}, []
    for (speed, memory), (model, setup, sides) in zip(grid, groups):
        words = []
        for row, side in enumerate(sides):
            kind = (
                "hpkit"
                if side.side == "hpkit"
                else "same settings"
                if side.same_settings
                else "the library's defaults"
            )
            colour, _, _, hatch = kinds[kind]
            look = dict(color=colour, hatch=hatch, edgecolor="white", height=0.75)
            drawn[kind] = speed.barh(row, side.rate, **look)
            low, high = min(side.useful_tokens_per_second), max(side.useful_tokens_per_second)
            speed.plot([low, high], [row, row], color="black", marker="|", markersize=7)
            speed.annotate(
                f"{side.rate:,.0f}",
                (high, row),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
            idle, peak = statistics.median(side.idle_memory_bytes) / 1e6, side.peak / 1e6
            if idle:  # of a GPU torch counts only its own
                drawn["before the model was loaded"] = memory.barh(
                    row, idle, color="white", edgecolor=GREY, height=0.75
                )
            memory.barh(row, peak - idle, left=idle, **look)
            memory.annotate(
                f"{peak:,.0f}",
                (peak, row),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
            words.append(
                f"{side.side} {side.rate:,.0f} ({low:,.0f} to {high:,.0f}), {peak:,.0f} MB"
            )
        speed.set_yticks(range(len(sides)), [side.side for side in sides], fontsize=8)
        speed.set_title(
            f"{model}, {sides[0].parameters / 1e6:,.1f} million parameters, {setup}",
            loc="left",
            fontsize=9,
        )
        memory.set_yticks(range(len(sides)), [])
        for axes in (speed, memory):
            axes.invert_yaxis()
            axes.locator_params(axis="x", nbins=4)
            axes.set_axisbelow(True)
            axes.grid(alpha=0.3, axis="x")
        of_model = [
            side for side in benchmark.sides if side.model == model
        ]  # one scale for all setups of a model
        speed.set_xlim(0, 1.3 * max(max(side.useful_tokens_per_second) for side in of_model))
        memory.set_xlim(0, 1.3 * max(side.peak for side in of_model) / 1e6)
        parts.append(f"{model}, {setup}: {'; '.join(words)}")
    grid[-1][0].set_xlabel("useful tokens per second", fontsize=9)
    grid[-1][1].set_xlabel("peak memory (MB)", fontsize=9)
    figure.legend(
        drawn.values(), drawn, loc="outside upper left", ncols=4, frameon=False, fontsize=9
    )
    return rendered(
        figure,
        f"Useful tokens per second and peak memory on {benchmark.device}. {'. '.join(parts)}.",
    )
