"""A small grid of four runs on a tiny model, recorded once for all tests of this folder."""

from pathlib import Path
from typing import NamedTuple

import pytest

from hpkit.records import Grid, load_grids, record

#: What two recordings of one run do not share.
MEASURED_ANEW = ("train_seconds", "tokens_per_second", "peak_memory_bytes")


class Recorded(NamedTuple):
    """A whole recording; `lines`: what it said."""

    grid: Grid
    table: Path
    parts: Path
    lines: list[str]


def declare(file: Path, model: str, corpus: str, steps: int = 4, seeds: str = "[1, 2]") -> Path:
    """Write a grid of two learning rates, which takes seconds."""
    file.write_text(
        f"""
        [base]
        per_device_train_batch_size = 2
        max_seq_length = 32
        max_steps = {steps}
        warmup_steps = 0.25
        logging_steps = 0.25
        eval_steps = 0.5
        [rates]
        asks = "Which rate?"
        model = '{model}'
        corpus = '{corpus}'
        seeds = {seeds}
        axes.learning_rate = [1e-3, 1e-1]
        """
    )
    return file


def settled(runs) -> list[dict]:
    """What two recordings of the same runs must share."""
    shared = []
    for run in runs:
        shared.append(
            {name: value for name, value in vars(run).items() if name not in MEASURED_ANEW}
        )
    return shared


@pytest.fixture(scope="package")
def grids_file(tiny_model, few_tunes, tmp_path_factory):
    return declare(tmp_path_factory.mktemp("grids") / "small.toml", tiny_model, few_tunes)


@pytest.fixture(scope="package")
def recorded(grids_file, tmp_path_factory) -> Recorded:
    """A whole recording of four runs. Tests read it and change copies alone."""
    folder = tmp_path_factory.mktemp("recorded")
    table = folder / "runs.parquet"
    parts = folder / "parts"
    grid = load_grids(grids_file)["rates"]
    lines = []
    assert record([grid], table, parts, log=lines.append, progress=False) == 4
    return Recorded(grid, table, parts, lines)
