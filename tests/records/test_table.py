"""The table: what is written reads back the same, and the project's own has every run it should."""

import dataclasses
import subprocess
import sys

import pyarrow as pa
import pytest

from hpkit.files import data_folder
from hpkit.records import load_grids, load_runs, plan, record_point, recorded_runs
from hpkit.records.table import Rows, Runs, from_table, joined, read_table, to_table

pytestmark = pytest.mark.slow


def test_what_was_written_reads_back_the_same(recorded):
    point = recorded.grid.points[0]
    recipe = point.recipe.replace(
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": 2},
        warmup_steps=200,
    )
    seen = []
    run = record_point(
        point._replace(recipe=recipe), watch=lambda update, updates, logged: seen.append(update)
    )
    diverging = recipe.replace(learning_rate=1e30, warmup_steps=0, optim="adamw_torch")
    wild = record_point(point._replace(recipe=diverging))
    assert wild.diverged and not run.diverged and max(seen) == 4
    again, wild_again = from_table(to_table([("a", run), ("b", wild)]))
    assert again == run and type(again.recipe.warmup_steps) is int
    assert wild_again.recipe == wild.recipe
    # NaN, which equals nothing, stays NaN.
    assert repr(dataclasses.replace(wild_again, recipe=wild.recipe)) == repr(wild)


def test_the_projects_tables_have_every_run_of_their_grids_and_no_other():
    card = " ".join((data_folder() / "README.md").read_text(encoding="utf-8").split())
    grids = load_grids(data_folder() / "grids.toml")
    planned = plan(grids.values(), data_folder())
    table = data_folder() / "runs.parquet"
    runs = load_runs(table)
    assert recorded_runs(table, []).keys == planned.keys() and len(runs) == len(planned) >= 600
    assert f"all {len(runs)} runs of the grids" in card and table.stat().st_size < 6e6
    assert len({run.evaluation_fingerprint for run in runs}) == 1
    for run in runs:
        assert run.history[0]["step"] == 0 and run.history[-1]["step"] == run.updates
        assert run.capability["threads"] == 1 and run.versions["torch"]
        assert run.bars_valid_after is not None or run.diverged
    for grid in grids.values():
        for point in grid.points:
            seeds = [run.recipe.seed for run in runs.at(*point, seeds=grid.seeds)]
            assert seeds == sorted(grid.seeds)


def test_a_row_of_before_a_hyperparameter_reads_beside_newer_ones(recorded):
    run = load_runs(recorded.table)[0]
    run = dataclasses.replace(run, recipe=run.recipe.in_force)
    adapted = dataclasses.replace(run, recipe=run.recipe.replace(lora_r=4, packing=False))
    newer = to_table([("b", adapted)])
    recipes = to_table([("a", run)])["recipe"].combine_chunks()
    kept = [field.name for field in recipes.type if field.name not in ("lora_alpha", "packing")]
    older = pa.StructArray.from_arrays([recipes.field(name) for name in kept], kept)
    rows = to_table([("a", run)]).set_column(1, "recipe", older)
    assert [*Rows([rows, newer])] == [run, adapted]
    assert [*Rows([joined([rows, newer])])] == [run, adapted]
    assert load_runs()[0].recipe.packing


def test_runs_are_made_when_they_are_asked_for(recorded):
    rows = read_table(recorded.table)
    runs = Runs(rows)
    point = recorded.grid.points[1]
    assert runs.at(*point) == Runs(list(rows)).at(*point) != []
    assert len(runs) == 4 and runs[-1] == rows[3] and runs[1:3] == [rows[1], rows[2]]


def test_reading_the_table_never_aborts_the_process_that_read_it():
    """Once one time in ten: pyarrow's threads ended a finished process with status -6."""
    for _ in range(30):
        done = subprocess.run(
            [sys.executable, "-c", "from hpkit.records import load_runs; load_runs()"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
