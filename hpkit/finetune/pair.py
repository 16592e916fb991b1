"""Two finished runs side by side: what was asked differently, and what came of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hpkit.errors import BadInput
from hpkit.finetune.run import Run
from hpkit.formatting import shown, shown_bytes


class End(NamedTuple):
    """One figure that both runs ended with; `difference` is the other's less the one's.

    None where a run has no such number, and for losses on different text.
    """

    name: str
    one: float | None
    other: float | None
    difference: float | None


#: Figures of `Run` -> how they are written.
_ENDS = {
    "eval_loss_before": "{:.4f}",
    "eval_loss_after": "{:.4f}",
    "bars_valid_before": "{:.3f}",
    "bars_valid_after": "{:.3f}",
    "updates": "{:,}",
    "tokens": "{:,}",
    "train_seconds": "{:.1f} s",
    "tokens_per_second": "{:,.0f}",
    "peak_memory_bytes": shown_bytes,
    "optimizer_state_bytes": shown_bytes,
}
_LOSSES = ("eval_loss_before", "eval_loss_after")


@dataclass(frozen=True)
class Pair:
    """Two runs and what they are called."""

    names: tuple[str, str]
    one: Run
    other: Run

    @property
    def comparable(self) -> bool:
        """Were both evaluated on the same tokens? Only then do their evaluation losses compare."""
        one = self.one.evaluation_fingerprint
        return one is not None and one == self.other.evaluation_fingerprint

    @property
    def obstacle(self) -> str | None:
        """Why the evaluation losses do not compare; None where they do."""
        if self.comparable:
            return None
        if None in (self.one.evaluation_fingerprint, self.other.evaluation_fingerprint):
            return "a run of an older version does not say on which tokens it was evaluated"
        return "the two were evaluated on different tokens"

    @property
    def histories(self) -> dict[str, list[dict]]:
        """What each run logged, by its name."""
        return dict(zip(self.names, (self.one.history, self.other.history)))

    def differing(self) -> dict[str, tuple]:
        """What the runs were made of that differs: name -> (the one's value, the other's)."""
        one = _made_of(self.one)
        other = _made_of(self.other)
        values = {name: (one.get(name), other.get(name)) for name in [*one, *other]}
        return {name: pair for name, pair in values.items() if pair[0] != pair[1]}

    def ends(self) -> list[End]:
        """The figures that the runs ended with."""
        ends = []
        for name in _ENDS:
            one = getattr(self.one, name)
            other = getattr(self.other, name)
            difference = None
            known = one is not None and other is not None
            if known and (self.comparable or name not in _LOSSES):
                difference = other - one
            ends.append(End(name, one, other, difference))
        return ends

    def lines(self) -> list[str]:
        """The comparison in words: a table of what differs, and one of the ends."""
        made_of = [("made of", *self.names)]
        for name, values in self.differing().items():
            made_of.append((name, *map(shown, values)))
        if len(made_of) == 1:
            made_of.append(("nothing differs",))
        ended = [("ended with", *self.names, "difference")]
        for end in self.ends():
            ended.append(_end_in_words(end))
        lines = [*_table(made_of), "", *_table(ended), ""]
        if self.obstacle:
            lines.append(f"Their evaluation losses cannot be compared: {self.obstacle}.")
        for name, run in zip(self.names, (self.one, self.other)):
            if run.diverged:
                lines.append(f"{name} has diverged: a loss or a weight left the finite numbers.")
        return lines

    def as_dict(self) -> dict:
        """The comparison as JSON takes it."""
        return {
            "runs": list(self.names),
            "differing": {name: list(values) for name, values in self.differing().items()},
            "comparable": self.comparable,
            "ends": {end.name: [end.one, end.other, end.difference] for end in self.ends()},
        }


def load_pair(one: str | Path, other: str | Path) -> Pair:
    """Read the runs that finished in two folders.

    Raises BadInput where one has not finished, cannot be read, or both are the same.
    """
    if Path(one).resolve() == Path(other).resolve():
        raise BadInput(f"compare: expected two runs, got {one} twice")
    runs = [_load_finished(Path(folder)) for folder in (one, other)]
    return Pair((str(one), str(other)), *runs)


def _load_finished(folder: Path) -> Run:
    if (folder / "started.json").exists() and not (folder / "run.json").exists():
        raise BadInput(
            f"the run in {folder} has not finished: it holds no run.json yet; resume it first"
        )
    return Run.load(folder)


def _made_of(run: Run) -> dict:
    """Everything that a run is made of, by name."""
    used = run.capability
    precision = "32 bits"
    for name in ("bf16", "fp16"):
        if used.get(name):
            precision = name
    made_of = vars(run.recipe.in_force) | {
        "model": run.model,
        "corpus": run.corpus,
        "text of the corpus": run.corpus_fingerprint,
        "eval_corpus": run.eval_corpus,
        "processes": run.processes,
        # Seconds and tokens a second of a resumed run are those since then.
        "resumed_from": run.resumed_from,
        "device used": used.get("device_name"),
        "precision used": precision,
        "optimizer used": used.get("optim"),
    }
    for library, version in run.versions.items():
        made_of[f"version of {library}"] = version
    return made_of


def _end_in_words(end: End) -> tuple[str, str, str, str]:
    form = _ENDS[end.name]
    if isinstance(form, str):
        form = form.format
    words = [end.name]
    for value in (end.one, end.other):
        words.append("none" if value is None else form(value))
    difference = ""
    if end.difference is not None:
        sign = "-" if end.difference < 0 else "+"
        difference = sign + form(abs(end.difference))
    return (*words, difference)


def _table(rows: list[tuple]) -> list[str]:
    """Rows of words in columns, the first line a heading."""
    widths = [max(map(len, column)) for column in zip(*(row for row in rows if len(row) > 1))]
    lines = []
    for row in rows:
        cells = [word.ljust(width) for word, width in zip(row, widths)]
        lines.append("  ".join(cells).rstrip())
    return lines
