"""Recorded benchmarks: what `make bench` measured, on which device, with which versions. One file a device in `data/benchmarks/`."""

import dataclasses
import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from hpkit.errors import BadInput
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
        return {side.side: side for side in self.sides if (side.model, side.setup) == (model, setup)}

    def ratios(self, model: str, setup: str, other: str) -> list[float]:
        """How many times the useful tokens per second of side `other` hpkit trains, round by round.

        A busy moment of the machine hits both sides of one round, and their ratio less than either.
        """
        sides = self.of(model, setup)
        pairs = zip(sides["hpkit"].useful_tokens_per_second, sides[other].useful_tokens_per_second, strict=True)
        return [mine / theirs for mine, theirs in pairs]

    def ratio(self, model: str, setup: str, other: str) -> float:
        """The median of `ratios`."""
        return statistics.median(self.ratios(model, setup, other))

    def best_of_the_others(self, model: str, setup: str) -> str | None:
        """The side on the same settings that does best against hpkit, by `ratio`; None where there is none."""
        others = [side.side for side in self.of(model, setup).values() if side.same_settings and side.side != "hpkit"]
        return min(others, key=lambda other: self.ratio(model, setup, other), default=None)

    def ratio_in_turns(self, model: str) -> float:
        """How many times the speed of the bare loop hpkit has when both train in turns: the median over pairs of updates.

        What two processes differ by, their place in memory and the machine's mood, is the same for both here.
        """
        seconds = self.in_turns[model]
        return statistics.median(bare / ours for bare, ours in zip(seconds["bare PyTorch loop"], seconds["hpkit"], strict=True))

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
            benchmarks.append(Benchmark(**values | {"sides": [Measured(**side) for side in values["sides"]]}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{file} is no benchmark of this version ({error}): record it again with make bench") from None
    return sorted(benchmarks, key=lambda one: one.date, reverse=True)
