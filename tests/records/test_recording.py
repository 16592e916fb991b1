"""Recording on a tiny model: killed and continued, in parts and whole, read back, spoilt and compared."""

import dataclasses
import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpkit.__main__ import main
from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.recipe import STARTER
from hpkit.records import (
    Grid,
    Point,
    band,
    compare,
    load_grids,
    load_runs,
    merge,
    plan,
    record,
    record_point,
    recorded_keys,
    recording,
)
from hpkit.records.recording import which_part
from hpkit.records.table import from_table, to_table

pytestmark = pytest.mark.slow

MEASURED_ANEW = ("train_seconds", "tokens_per_second", "peak_memory_bytes")


def declare(file: Path, model: str, corpus: str, steps: int = 4, seeds: str = "[1, 2]") -> Path:
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


@pytest.fixture(scope="module")
def grids_file(tiny_model, few_tunes, tmp_path_factory):
    return declare(tmp_path_factory.mktemp("grids") / "small.toml", tiny_model, few_tunes)


@pytest.fixture(scope="module")
def recorded(grids_file, tmp_path_factory):
    """(grid, table, parts, lines) of a whole recording of four runs."""
    folder = tmp_path_factory.mktemp("recorded")
    grid, lines = load_grids(grids_file)["rates"], []
    assert (
        record([grid], folder / "runs.parquet", folder / "parts", log=lines.append, progress=False)
        == 4
    )
    return grid, folder / "runs.parquet", folder / "parts", lines


def settled(runs) -> list[dict]:
    """What two recordings of the same runs must share."""
    return [
        {name: value for name, value in vars(run).items() if name not in MEASURED_ANEW}
        for run in runs
    ]


def test_what_is_recorded(recorded, tiny_model, few_tunes):
    grid, table, parts, lines = recorded
    runs = load_runs(table)
    assert len(runs) == len(list(parts.iterdir())) == 4
    assert "4 runs, 0 recorded, 4 to train" in lines[0] and "4 runs, 4 of them new" in lines[-1]
    for point in grid.points:
        found = runs.at(*point)
        assert [run.recipe.seed for run in found] == [1, 2]
        for run in found:
            assert run.recipe == point.with_seed(run.recipe.seed).recipe and (
                run.model,
                run.corpus,
            ) == (tiny_model, few_tunes)
            assert [entry["step"] for entry in run.history if "loss" in entry] == [1, 2, 3, 4]
            assert [entry["step"] for entry in run.history if "eval_loss" in entry] == [0, 2, 4]
            assert (
                run.history[-1]["eval_loss"] == run.eval_loss_after
                and run.weights_norm > 0
                and 0 <= run.bars_valid_after <= 1
            )
            assert (
                run.model_fingerprint
                and run.corpus_fingerprint
                and run.versions["torch"]
                and run.capability["threads"] == 1
            )
        assert runs.at(*point, seeds=[2, 3]) == found[1:]
    assert (
        runs.at(STARTER) == [] and runs.at(grid.points[0].recipe) == []
    )  # another model: not recorded, never guessed


def test_what_was_written_reads_back_the_same(recorded, tiny_model, few_tunes):
    grid = recorded[0]
    point = grid.points[0]
    recipe = point.recipe.replace(
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": 2},
        warmup_steps=200,
    )
    seen = []
    run = record_point(
        point._replace(recipe=recipe), watch=lambda update, updates, logged: seen.append(update)
    )
    wild = record_point(
        point._replace(
            recipe=recipe.replace(learning_rate=1e30, warmup_steps=0, optim="adamw_torch")
        )
    )
    assert wild.diverged and not run.diverged and max(seen) == 4
    (again, wild_again) = from_table(to_table([("a", run), ("b", wild)]))
    assert again == run and type(again.recipe.warmup_steps) is int
    assert wild_again.recipe == wild.recipe
    assert repr(dataclasses.replace(wild_again, recipe=wild.recipe)) == repr(
        wild
    )  # NaN, which equals nothing, stays NaN


def test_two_parts_merged_are_one_whole(recorded, grids_file, tmp_path, monkeypatch, hpkit_command):
    grid, whole, _, _ = recorded
    table = tmp_path / "runs.parquet"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    for name, value in dict(COUNT=2, MIN=5, MAX=6).items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    done = hpkit_command(
        "record", "--grids", grids_file, "--table", table, "--parts", tmp_path / "a"
    )
    assert done.returncode == 0 and "part 1 of 2: 2 runs" in done.stdout and not table.exists()
    assert f"hpkit record --merge {tmp_path / 'a'}" in done.stdout
    record([grid], table, tmp_path / "b", part=(2, 2), log=None, progress=False)
    assert not table.exists()
    for _ in range(2):  # merging again changes nothing
        assert (
            main(
                [
                    "record",
                    "--table",
                    str(table),
                    "--merge",
                    str(tmp_path / "a"),
                    str(tmp_path / "b"),
                ]
            )
            == 0
        )
        assert settled(load_runs(table)) == settled(load_runs(whole))


def wait_for_parts(folder: Path, count: int, process) -> dict:
    end = time.monotonic() + 240
    while len(found := list(folder.glob("*.parquet"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    return {file.name: file.stat().st_mtime_ns for file in found}


def test_killed_and_continued_without_repeating(tiny_model, few_tunes, tmp_path, hpkit_command):
    file = declare(tmp_path / "more.toml", tiny_model, few_tunes, steps=30, seeds="[1, 2, 3, 4]")
    table, parts = tmp_path / "runs.parquet", tmp_path / "parts"
    command = ["record", "--grids", file, "--table", table, "--parts", parts, "--processes", 2]
    process = hpkit_command(*command, wait=False)
    wait_for_parts(parts, 2, process)
    process.kill()
    process.communicate()  # ends when the workers, which hold the pipe too, are gone
    before = {file.name: file.stat().st_mtime_ns for file in parts.glob("*.parquet")}
    assert 2 <= len(before) < 8 and not table.exists()
    listed = hpkit_command(*command, "--list")
    assert (
        f"8 runs, {len(before):4} recorded, {8 - len(before):4} left  Which rate?" in listed.stdout
    )
    process = hpkit_command(*command, wait=False)
    wait_for_parts(parts, len(before) + 1, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert (
        "the same command goes on" in stderr
        and "Traceback" not in stderr
        and "leaked" not in stderr
    )
    kept = len(load_runs(table))  # what was finished is merged
    assert len(before) < kept < 8 and f"8 runs, {len(before)} recorded" in stdout
    last = hpkit_command(*command)
    assert last.returncode == 0, last.stderr
    assert (
        f"8 runs, {kept} recorded, {8 - kept} to train" in last.stdout
        and "8 of 8" not in last.stderr
    )
    assert len(load_runs(table)) == 8
    after = {file.name: file.stat().st_mtime_ns for file in parts.glob("*.parquet")}
    assert len(after) == 8 and before.items() <= after.items()


def spoil(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "cut short":
        file.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "a byte changed":
        at = len(content) // 2
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    else:
        other = b"not a recorded run"
        file.with_name(
            f"0123456789abcdef-{hashlib.sha256(other).hexdigest()[:16]}.parquet"
        ).write_bytes(other)
        file.unlink()


@pytest.mark.parametrize("how", ["cut short", "empty", "a byte changed", "something else"])
def test_a_spoilt_part_is_named_and_passed_over(how, recorded, tmp_path):
    grid, whole, parts, _ = recorded
    copies = tmp_path / "parts"
    copies.mkdir()
    for file in parts.iterdir():
        (copies / file.name).write_bytes(file.read_bytes())
    spoil(sorted(copies.iterdir())[1], how)
    lines = []
    assert merge(tmp_path / "runs.parquet", [copies], lines.append) == 3
    assert (
        "is not a whole recorded run: passed over" in lines[0]
        and ".parquet" in lines[0]
        and "\n" not in lines[0]
    )
    if how == "empty":  # its run is trained again, and the new part takes the spoilt one's place
        assert record([grid], tmp_path / "runs.parquet", copies, log=None, progress=False) == 1
        assert settled(load_runs(tmp_path / "runs.parquet")) == settled(load_runs(whole))
        assert merge(tmp_path / "runs.parquet", [copies], lines.append) == 4 and len(lines) == 3


def test_a_spoilt_table_is_not_written_over(recorded, tmp_path):
    table = tmp_path / "runs.parquet"
    table.write_bytes(recorded[1].read_bytes()[:-9])
    for use in (lambda: load_runs(table), lambda: merge(table, [recorded[2]], None)):
        with pytest.raises(BadInput, match="is not a whole table of recorded runs .*move it away"):
            use()


# Bands and comparisons, on figures that can be checked by hand.


def like(run, losses: list[float], **changes):
    history = [{"step": step, "eval_loss": loss} for step, loss in enumerate(losses)]
    return dataclasses.replace(run, history=history, eval_loss_after=losses[-1], **changes)


def test_the_band_is_lowest_median_highest_at_each_step(recorded):
    run = load_runs(recorded[1])[0]
    runs = [like(run, losses) for losses in ([3.0, 1.0], [2.0, 5.0], [4.0, math.nan])]
    assert band(runs) == ([0, 1], [2.0, 1.0], [3.0, 5.0], [4.0, math.inf])
    with pytest.raises(BadInput, match="not measured at the same steps"):
        band([runs[0], like(run, [1.0])])
    for wrong in (lambda: band([]), lambda: band(runs, "los")):
        with pytest.raises(BadInput, match="band: expected recorded runs and one of loss"):
            wrong()


def test_a_difference_counts_when_it_exceeds_the_spread(recorded):
    run = load_runs(recorded[1])[0]
    near, far, lost = (
        [like(run, [loss]) for loss in losses]
        for losses in ([1.0, 1.2, 1.1], [1.15, 1.25], [math.nan, math.inf])
    )
    assert not compare(near, far).larger and compare(near, far).spread == pytest.approx(0.2)
    assert "1.1 and 1.2; their difference, 0.1, is not larger than the seeds' spread, 0.2" in str(
        compare(near, far)
    )
    assert compare(near, [like(run, [1.5]), like(run, [1.5])]).larger
    assert (
        compare(near, lost).larger
        and not compare(lost, lost).larger
        and "inf and inf" in str(compare(lost, lost))
    )
    with pytest.raises(BadInput, match="two seeds or more of each setting, got 3 and 1"):
        compare(near, far[:1])
    with pytest.raises(BadInput, match="evaluated on different text"):
        compare(near, [like(run, [1.0], evaluation_fingerprint="other")] * 2)


# The project's grids.


def test_the_grids_hold_what_they_promise():
    grids = load_grids()
    assert all(len(grid.seeds) >= 3 and grid.asks for grid in grids.values())
    axes = grids["learning_rate"].axes
    rates = axes["learning_rate"]
    assert set(axes) == {"learning_rate", "warmup_steps", "lr_scheduler_type"}
    (point,) = grids["learning_rate"].find(
        learning_rate=1e-3, warmup_steps=0.1, lr_scheduler_type="linear"
    )
    assert point == grids["seeds"].points[0] and not grids["learning_rate"].find(learning_rate=2e-3)
    assert len(rates) == 8 and math.log10(rates[-1] / rates[0]) > 3.5
    assert (
        len(axes["warmup_steps"]) == 5
        and axes["warmup_steps"][-1] > grids["learning_rate"].points[0].recipe.max_steps
    )
    assert len(axes["lr_scheduler_type"]) == 4 and len(grids["learning_rate"].runs()) == 480
    assert len(grids["seeds"].runs()) == 20 and "lr_scheduler_type" not in grids["precision"].axes
    assert grids["pretrained"].axes["model"] == ["starter", "fresh"]
    tokens = grids["batch_equal_tokens"].points
    counts = {
        p.recipe.per_device_train_batch_size
        * p.recipe.gradient_accumulation_steps
        * p.recipe.max_steps
        for p in tokens
    }
    assert max(counts) <= 800 and min(counts) >= 768  # 128 does not divide 800
    jobs = recording.plan(grids.values(), Path("parts"))
    assert len(jobs) == 702 and all(job.cost > 0 for job in jobs.values())
    halves = [recording.plan(grids.values(), Path("parts"), (part, 2)) for part in (1, 2)]
    assert (
        halves[0].keys() | halves[1].keys() == jobs.keys()
        and not halves[0].keys() & halves[1].keys()
    )


def test_a_key_is_of_values_not_of_how_they_are_written():
    key = recording.run_key(STARTER.replace(warmup_steps=20), "a", "b")
    assert key == recording.run_key(STARTER.replace(warmup_steps=20.0), "a", "b")
    others = [
        recording.run_key(STARTER.replace(seed=1), "a", "b"),
        recording.run_key(STARTER, "c", "b"),
        recording.run_key(STARTER, "a", "c"),
    ]
    assert len({key, *others}) == 4


@pytest.mark.parametrize(
    "environment, text, expected",
    [
        ({}, None, (1, 1)),
        ({}, "2/4", (2, 4)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "0",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_COUNT": "8",
            },
            None,
            (1, 8),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_MIN": "3",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
            None,
            (3, 3),
        ),
        ({"JOB_COMPLETION_INDEX": "3"}, "/4", (4, 4)),
        ({"JOB_COMPLETION_INDEX": "3"}, "1/4", (1, 4)),
        ({"JOB_COMPLETION_INDEX": "3"}, None, "say --part /n for the number of parts"),
        ({"JOB_COMPLETION_INDEX": "4"}, "/4", "i from 1 to n, got 5/4"),
        ({}, "/4", "without i it must come from"),
        ({}, "0/4", "i from 1 to n"),
        ({}, "half", "such as 1/4, got 'half'"),
    ],
)
def test_which_part(environment, text, expected, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "JOB_COMPLETION"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, tuple):
        assert which_part(text) == expected
        return
    with pytest.raises(BadInput, match=expected):
        which_part(text)


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


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected a table for each grid"),
        ("[base]\nmax_steps = 5", "expected a table for each grid"),
        ("seeds = [1]", r"expected a table \[seeds\]"),
        ("[a]\naxes.learning_rate = [1e-3]", r"expected seeds = \[1, 2, 3\]"),
        ("[a]\nseeds = [1]\naxes.learning_rate = 1e-3", "a list of values for every axis"),
        ("[a]\nseeds = [1]\npoints = [1]", "expected points ="),
        ("[a]\nseeds = [1]\naxis.learning_rate = [1e-3]", "did you mean axes?"),
        ("[a]\nseeds = [1]\naxes.learning_rat = [1e-3]", "did you mean learning_rate?"),
        ("[a]\nseeds = ['one']", "seed: expected a whole number"),
        (
            "[a]\nseeds = [1]\naxes.learning_rate = [-1]",
            "learning_rate: expected a number above 0, got -1",
        ),
    ],
)
def test_mistakes_in_a_file_of_grids(text, message, tmp_path):
    file = tmp_path / "grids.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=message):
        load_grids(file)


def test_what_cannot_be_recorded_is_found_before_training(tmp_path, few_tunes):
    table, parts = tmp_path / "runs.parquet", tmp_path / "parts"
    for point, message in (
        (Point(STARTER, model="org/name"), "expected starter, fresh or a folder"),
        (Point(STARTER, corpus="nowhere"), "not found"),
        (
            Point(
                STARTER.replace(lr_scheduler_type="warmup_stable_decay", warmup_steps=0),
                corpus=few_tunes,
            ),
            "'num_decay_steps' is missing",
        ),
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


def test_the_projects_table_has_every_run_of_every_grid_and_no_other():
    card = " ".join((data_folder() / "README.md").read_text(encoding="utf-8").split())
    jobs, table = plan(load_grids().values(), data_folder()), data_folder() / "runs.parquet"
    runs = load_runs(table)
    assert recorded_keys(table, []) == jobs.keys() and len(runs) == len(jobs) >= 600
    assert f"all {len(runs)} runs of the grids" in card and table.stat().st_size < 6e6
    assert len({run.evaluation_fingerprint for run in runs}) == 1
    for run in runs:
        assert run.history[0]["step"] == 0 and run.history[-1]["step"] == run.updates
        assert (
            run.capability["threads"] == 1
            and run.versions["torch"]
            and (run.bars_valid_after is not None or run.diverged)
        )
    for grid in load_grids().values():
        for point in grid.points:
            assert [run.recipe.seed for run in runs.at(*point, seeds=grid.seeds)] == sorted(
                grid.seeds
            )


@pytest.mark.parametrize("number", range(3))
def test_a_recorded_row_trained_anew_lands_in_its_band(number):
    """Another machine rounds differently, and above the best rates small differences grow: the band of the row's seeds
    may be missed by its own width, and by 0.02 nats where the seeds lie closer together than that."""
    runs = load_runs()
    row = random.SystemRandom().choice([run for run in runs if run.tokens <= 150_000])
    drawn = f"{row.model} on {row.corpus} by {row.recipe}"
    again = record_point(Point(row.recipe, row.model, row.corpus))
    assert (again.updates, again.tokens, again.evaluation_fingerprint) == (
        row.updates,
        row.tokens,
        row.evaluation_fingerprint,
    ), drawn
    seeds = [run.eval_loss_after for run in runs.at(row.recipe, row.model, row.corpus)]
    if not all(map(math.isfinite, seeds)):
        assert again.diverged == row.diverged, drawn
        return
    width = max(max(seeds) - min(seeds), 0.02)
    assert min(seeds) - width <= again.eval_loss_after <= max(seeds) + width, (
        f"{drawn}: {seeds}, now {again.eval_loss_after}"
    )


def test_reading_the_table_never_aborts_the_process_that_read_it():
    """Once one time in ten: pyarrow's threads ended a finished process with status -6."""
    for _ in range(30):
        done = subprocess.run(
            [sys.executable, "-c", "from hpkit.records import load_runs; load_runs()"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
