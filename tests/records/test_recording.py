"""Recording on a tiny model: planned, killed and continued; mistakes found before any training."""

import dataclasses
import math
import random
import signal
import time
from pathlib import Path

import pytest

from hpkit.__main__ import main
from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.recipe import STARTER, Recipe
from hpkit.records import Grid, Point, load_grids, load_runs, plan, record, record_point
from hpkit.records.planning import CHOOSING, FIRST_EDITION, JUDGING, run_key

from .conftest import declare


@pytest.mark.slow
def test_what_is_recorded(recorded, tiny_model, few_tunes):
    grid, table, parts, lines = recorded
    runs = load_runs(table)
    assert len(runs) == len(list(parts.iterdir())) == 4
    assert "4 runs, 0 recorded, 4 to train" in lines[0] and "4 runs, 4 of them new" in lines[-1]
    for point in grid.points:
        found = runs.at(*point)
        assert [run.recipe.seed for run in found] == [1, 2]
        for run in found:
            assert run.recipe == point.with_seed(run.recipe.seed).recipe
            assert (run.model, run.corpus) == (tiny_model, few_tunes)
            assert [entry["step"] for entry in run.history if "loss" in entry] == [1, 2, 3, 4]
            assert [entry["step"] for entry in run.history if "eval_loss" in entry] == [0, 2, 4]
            losses = [entry["eval_loss"] for entry in run.history if "eval_loss" in entry]
            assert losses[-1] == pytest.approx(run.eval_loss_after, rel=1e-4)  # five digits
            assert run.weights_norm > 0 and run.eval_old_loss_after > 0
            assert run.model_fingerprint and run.corpus_fingerprint and run.versions["torch"]
            assert run.capability["threads"] == 1
        assert runs.at(*point, seeds=[2, 3]) == found[1:]
    assert runs.at(STARTER) == []
    assert runs.at(grid.points[0].recipe) == []  # another model: not recorded, never guessed


def times_of(parts: Path) -> dict[str, int]:
    """When each part was written: a run that is trained again would write its own anew."""
    return {file.name: file.stat().st_mtime_ns for file in parts.glob("*.parquet")}


def wait_for_parts(folder: Path, count: int, process) -> None:
    end = time.monotonic() + 600
    while len(list(folder.glob("*.parquet"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_and_continued_without_repeating(tiny_model, few_tunes, tmp_path, hpkit_command):
    file = declare(tmp_path / "more.toml", tiny_model, few_tunes, steps=30, seeds="[1, 2, 3, 4]")
    table = tmp_path / "runs.parquet"
    parts = tmp_path / "parts"
    command = ["record", "--grids", file, "--table", table, "--parts", parts, "--processes", 2]
    process = hpkit_command(*command, wait=False)
    wait_for_parts(parts, 2, process)
    process.kill()
    process.communicate()  # ends when the workers, which hold the pipe too, are gone
    before = times_of(parts)
    assert 2 <= len(before) < 8 and not table.exists()
    listed = hpkit_command(*command, "--list").stdout
    assert f"8 runs, {len(before):4} recorded, {8 - len(before):4} left  Which rate?" in listed
    process = hpkit_command(*command, wait=False)
    wait_for_parts(parts, len(before) + 1, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 130, stderr
    assert "the same command goes on" in stderr
    assert "Traceback" not in stderr and "leaked" not in stderr
    kept = len(load_runs(table))  # what was finished is merged
    assert len(before) < kept < 8 and f"8 runs, {len(before)} recorded" in stdout
    last = hpkit_command(*command)
    assert last.returncode == 0, last.stderr
    assert f"8 runs, {kept} recorded, {8 - kept} to train" in last.stdout
    assert "8 of 8" not in last.stderr
    assert len(load_runs(table)) == 8
    after = times_of(parts)
    assert len(after) == 8 and before.items() <= after.items()


@pytest.mark.slow
def test_the_projects_grids_are_planned_once_and_in_halves():
    grids = {name: grid for name, grid in load_grids().items() if grid.first_edition}
    planned = plan(grids.values(), Path("parts"))
    assert len(planned) == 702
    assert all(run.cost > 0 for run in planned.values())
    one = plan(grids.values(), Path("parts"), (1, 2)).keys()
    other = plan(grids.values(), Path("parts"), (2, 2)).keys()
    assert one | other == planned.keys() and not one & other


def test_a_key_is_of_values_not_of_how_they_are_written():
    key = run_key(STARTER.replace(warmup_steps=20), "a", "b")
    assert key == run_key(STARTER.replace(warmup_steps=20.0), "a", "b")
    others = [
        run_key(STARTER.replace(seed=1), "a", "b"),
        run_key(STARTER, "c", "b"),
        run_key(STARTER, "a", "c"),
    ]
    assert len({key, *others}) == 4


def test_a_key_is_of_what_has_an_effect():
    key = run_key(STARTER, "a", "b")
    # The starter's alpha is not the default, and without an adapter it means nothing.
    assert STARTER.lora_alpha != Recipe().lora_alpha
    assert key == run_key(STARTER.replace(lora_alpha=8, bnb_4bit_compute_dtype="float32"), "a", "b")
    adapted = STARTER.replace(lora_r=4)
    others = [adapted, adapted.replace(lora_alpha=8), adapted.replace(load_in_4bit=True)]
    assert len({key, *(run_key(recipe, "a", "b") for recipe in others)}) == 4


@pytest.mark.slow
def test_an_adapter_is_an_axis_like_any_other(tiny_model, few_tunes, tmp_path):
    """All weights beside an adapter, each at two rates, from the file to the table."""
    file = declare(tmp_path / "adapters.toml", tiny_model, few_tunes, seeds="[1]")
    file.write_text(
        file.read_text() + "points = [{}, { lora_r = 2, lora_alpha = 4 }, { lora_r = 2 }]"
    )
    grid = load_grids(file)["rates"]
    assert grid.axes == {
        "learning_rate": [1e-3, 1e-1],
        "lora_r": [None, 2],
        "lora_alpha": [32, 4],
    }
    table = tmp_path / "runs.parquet"
    record([grid], table, tmp_path / "parts", log=lambda line: None, progress=False)
    runs = load_runs(table)
    for point in grid.points:
        (run,) = runs.at(*point)
        assert run.recipe == point.with_seed(1).recipe
        assert (run.adapter_bytes is None) == (run.recipe.lora_r is None)
    shares = {run.trained_parameters / run.parameters for run in runs}
    assert len(shares) == 2 and max(shares) == 1
    assert len({run.eval_loss_after for run in runs}) == 6


def test_a_key_is_also_of_what_a_run_is_measured_with():
    yardsticks = [FIRST_EDITION, CHOOSING, JUDGING, CHOOSING._replace(old_corpus="another")]
    keys = {run_key(STARTER, "a", "b", yardstick) for yardstick in yardsticks}
    assert len(keys) == 4 and run_key(STARTER, "a", "b") in keys


# Bad input: one line, status 2.


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--grid", "sedes"], "no grid 'sedes' (did you mean seeds?)"),
        (["--grids", "none.toml"], "no such file"),
        (["--processes", "0"], "a whole number of 1 or more, got '0'"),
        (["--processes", "two"], "a whole number of 1 or more, got 'two'"),
        (["--part", "5/4"], "i from 1 to n, got 5/4"),
        (["--merge", "nowhere"], "--merge nowhere: expected a folder"),
        (["--lits"], "did you mean --list?"),
    ],
)
def test_mistakes_on_the_command_line(flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["record", *flags]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("hpkit: ") and message in line and captured.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_cannot_be_recorded_is_found_before_training(tmp_path, few_tunes):
    table = tmp_path / "runs.parquet"
    parts = tmp_path / "parts"
    without_decay = STARTER.replace(lr_scheduler_type="warmup_stable_decay", warmup_steps=0)
    for point, message in (
        (Point(STARTER, model="org/name"), "expected starter, fresh or a folder"),
        (Point(STARTER, corpus="nowhere"), "not found"),
        (Point(without_decay, corpus=few_tunes), "'num_decay_steps' is missing"),
    ):
        with pytest.raises(BadInput, match=message):
            record([Grid("a", "", (point,), (1,))], table, parts, log=None, progress=False)
    with pytest.raises(BadInput, match="no recorded runs in"):
        load_runs(table)
    assert not parts.exists()


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["record", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and "hpkit record --grid seeds --processes 2" in text
    for flag in "--grid --list --processes --part --merge --grids --table --parts".split():
        assert f"{flag} " in text


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_a_recorded_row_trained_anew_lands_in_its_band(number):
    """Another machine rounds differently, and above the best rates small differences grow.

    So the band of the row's seeds may be missed by its own width, and by 0.02 nats where the seeds
    lie closer together than that.
    """
    runs = load_runs(data_folder() / "runs.parquet")
    row = random.SystemRandom().choice([run for run in runs if run.tokens <= 150_000])
    drawn = f"{row.model} on {row.corpus} by {row.recipe}"
    again = record_point(Point(row.recipe, row.model, row.corpus))
    assert again.updates == row.updates, drawn
    assert again.tokens == row.tokens, drawn
    assert again.evaluation_fingerprint == row.evaluation_fingerprint, drawn
    seeds = [run.eval_loss_after for run in runs.at(row.recipe, row.model, row.corpus)]
    if not all(map(math.isfinite, seeds)):
        assert again.diverged == row.diverged, drawn
        return
    width = max(max(seeds) - min(seeds), 0.02)
    assert min(seeds) - width <= again.eval_loss_after <= max(seeds) + width, (
        f"{drawn}: {seeds}, now {again.eval_loss_after}"
    )


def test_a_later_hyperparameter_leaves_recorded_runs_where_they_are():
    """A field that Recipe gets one day changes a key only where it is not at its default."""

    @dataclasses.dataclass(frozen=True)
    class LaterRecipe(Recipe):
        of_another_time: float = 0.0

        def __post_init__(self):
            """It has no card."""

    today = run_key(STARTER, "a", "b")
    later = LaterRecipe(**vars(STARTER))
    assert run_key(later, "a", "b") == today
    assert run_key(dataclasses.replace(later, of_another_time=0.1), "a", "b") != today
