"""What the studies have found, as a page: `python data/findings.py` writes data/FINDINGS.md."""

import statistics
from pathlib import Path

from hpkit.files import read_toml, write_whole
from hpkit.formatting import shown
from hpkit.records import Difference, Grid, Runs, choose, load_grids, load_runs
from hpkit.records.grids import JUDGING_SEEDS
from hpkit.records.studies import judge

DATA = Path(__file__).parent

_HEAD = """# What the studies have found

Made by `python data/findings.py` from [`studies.parquet`](studies.parquet); the sentences are
written by hand. Every loss is in nats per token, the mean over five seeds that chose nothing, on
tunes that chose nothing. *Old text* is a part of what the starter was pre-trained on: it begins at
{before} there, and what is above that is forgotten. The last two columns hold each setting against
the one in bold, by the rule of [METHOD.md](METHOD.md): the mean difference, its 95 % interval, the
verdict. A best rate at the *edge* of those tried may have a better one beyond.
"""


def page() -> str:
    """All studies, one after the other."""
    runs = load_runs(DATA / "studies.parquet")
    written = read_toml(DATA / "findings.toml", "findings")
    before = runs[0].eval_old_loss_before
    parts = [_HEAD.format(before=f"{before:.4f}")]
    for name, grid in load_grids(DATA / "studies.toml").items():
        said = written[name]
        parts.append(f"## {name}\n\n*{grid.asks}*\n\n{said['finding']}\n\n{said['literature']}\n")
        parts.append(table(grid, runs))
    return "\n".join(parts)


def table(grid: Grid, runs: Runs) -> str:
    """A row for each setting of a study: where it is best, what it gives there, the verdict."""
    reference, _ = grid.against()
    tuned = [f"best {name}" for name in grid.nuisance]
    columns = [*grid.scientific, *tuned, "loss", "old text", "difference", "verdict"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for setting in grid.settings():
        choice = choose(grid, runs, **setting)
        found = runs.at(*choice.point, seeds=JUDGING_SEEDS)
        cells = [_value(name, value) for name, value in setting.items()]
        edge = " (edge)" if choice.at_edge else ""
        cells += [f"{shown(value)}{edge}" for value in choice.best.values()]
        for name in ("eval_loss_after", "eval_old_loss_after"):
            cells.append(f"{statistics.mean(getattr(run, name) for run in found):.4f}")
        if setting == reference:
            cells = [f"**{cell}**" for cell in cells] + ["", ""]
        else:
            cells += _difference(judge(grid, runs, setting, reference).difference)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _difference(found: Difference) -> list[str]:
    """The mean difference with its interval, and the verdict."""
    if found.interval is None:
        return ["a run diverged", found.verdict]
    mean, _, low, high = found.interval
    return [f"{mean:+.4f} ({low:+.4f} to {high:+.4f})", found.verdict]


def _value(name: str, value) -> str:
    """A value as it is written; where no adapter has a rank, all weights train."""
    return "all weights" if name == "lora_r" and value is None else shown(value)


if __name__ == "__main__":
    write_whole(DATA / "FINDINGS.md", page())
