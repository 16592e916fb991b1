"""Bands and comparisons, on figures that can be checked by hand."""

import dataclasses
import json
import math
from collections import defaultdict

import pyarrow.parquet as pq
import pytest

from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.records import Runs, band, compare, load_runs, seeds_spread

pytestmark = pytest.mark.slow  # a recorded run is needed to be changed


def like(run, losses: list[float], **changes):
    """A run that differs in what it was evaluated to, one loss a step."""
    history = [{"step": step, "eval_loss": loss} for step, loss in enumerate(losses)]
    return dataclasses.replace(run, history=history, eval_loss_after=losses[-1], **changes)


def test_the_band_is_lowest_median_highest_at_each_step(recorded):
    run = load_runs(recorded.table)[0]
    runs = [like(run, losses) for losses in ([3.0, 1.0], [2.0, 5.0], [4.0, math.nan])]
    assert band(runs) == ([0, 1], [2.0, 1.0], [3.0, 5.0], [4.0, math.inf])
    with pytest.raises(BadInput, match="not measured at the same steps"):
        band([runs[0], like(run, [1.0])])
    for wrong in (lambda: band([]), lambda: band(runs, "los")):
        with pytest.raises(BadInput, match="band: expected recorded runs and one of loss"):
            wrong()


def test_a_difference_counts_when_it_exceeds_the_spread(recorded):
    run = load_runs(recorded.table)[0]
    near = [like(run, [loss]) for loss in (1.0, 1.2, 1.1)]
    far = [like(run, [loss]) for loss in (1.15, 1.25)]
    lost = [like(run, [loss]) for loss in (math.nan, math.inf)]
    assert not compare(near, far).larger
    assert compare(near, far).spread == pytest.approx(0.2)
    assert "1.1 and 1.2; their difference, 0.1, is not larger than the seeds' spread, 0.2" in str(
        compare(near, far)
    )
    assert compare(near, [like(run, [1.5]), like(run, [1.5])]).larger
    assert compare(near, lost).larger
    assert not compare(lost, lost).larger
    assert "inf and inf" in str(compare(lost, lost))
    with pytest.raises(BadInput, match="two seeds or more of each setting, got 3 and 1"):
        compare(near, far[:1])
    with pytest.raises(BadInput, match="evaluated on different text"):
        compare(near, [like(run, [1.0], evaluation_fingerprint="other")] * 2)


def test_the_spread_of_the_recorded_seeds():
    """Looked up in the table's own columns: the largest number of runs with one recipe."""
    rows = pq.read_table(data_folder() / "runs.parquet").to_pylist()
    by_setting = defaultdict(list)
    for row in rows:
        recipe = {name: value for name, value in row["recipe"].items() if name != "seed"}
        setting = json.dumps([recipe, row["model"], row["corpus"]])
        by_setting[setting].append(row["eval_loss_after"])
    losses = max(by_setting.values(), key=len)
    found = seeds_spread()
    assert found == (len(losses), min(losses), max(losses))
    assert found.spread > 0 and f"{found.seeds} recorded runs of one recipe" in str(found)


def test_no_spread_without_recorded_seeds(monkeypatch):
    monkeypatch.setattr("hpkit.records.comparison.load_runs", lambda: Runs([]))
    with pytest.raises(BadInput, match="two recorded seeds or more, got 0"):
        seeds_spread()
