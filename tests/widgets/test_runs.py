"""RunExplorer: what is drawn is held against the rows of the table, read with pyarrow.

Live runs are held against the same training alone.
"""

import statistics
import time

import ipywidgets
import pyarrow.parquet as pq
import pytest

from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.recipe import STARTER
from hpkit.records import Grid, Point, Runs, load_grids, load_runs, record_point
from hpkit.widgets import Interactive, RunExplorer

GRIDS = {name: grid for name, grid in load_grids().items() if grid.first_edition}
STUDIES = {name: grid for name, grid in load_grids().items() if not grid.first_edition}
RUNS = load_runs()
ROWS = pq.read_table(data_folder() / "runs.parquet", use_threads=False).to_pylist()


@pytest.fixture(autouse=True)
def errors_are_raised(monkeypatch):
    monkeypatch.setattr(Interactive, "raise_errors", True)


def rows_at(explorer, grid: Grid, **changes) -> list[dict]:
    """The table's rows of the setting that the controls say, by seed, found by plain comparison."""
    values = {name: explorer.controls[name].value for name in grid.axes} | changes
    # Of what the table's runs did not know yet nothing is asked.
    known = {*ROWS[0]["recipe"], "model", "corpus"} - {*grid.axes, "seed", "lr_scheduler_kwargs"}
    named = grid.points[0].named()
    fixed = {name: named[name] for name in known}
    found = []
    for row in ROWS:
        setting = {**row["recipe"], "model": row["model"], "corpus": row["corpus"]}
        if (values | fixed).items() <= setting.items():
            found.append(row)
    # One schedule of the grids has kwargs, and always the same ones.
    assert len({row["recipe"]["lr_scheduler_kwargs"] for row in found}) < 2
    by_seed = {row["recipe"]["seed"]: row for row in found}
    assert len(by_seed) == len(found)
    return [by_seed[seed] for seed in sorted(by_seed) if seed in grid.seeds]


def curves(rows: list[dict], series: str) -> dict[int, list[float]]:
    """Step -> the seeds' values."""
    measured = {}
    for row in rows:
        for entry in row["history"]:
            if entry[series] is not None:
                measured.setdefault(entry["step"], []).append(entry[series])
    return measured


def check_curves(explorer, grid: Grid, series: str) -> None:
    measured = curves(rows_at(explorer, grid), series)
    picture = explorer._curves
    line = picture.medians[0]
    area = picture.bands[0]
    assert line.get_visible() == area.get_visible() == bool(measured)
    if not measured:
        assert "not recorded" in explorer.picture.alt
        assert "not recorded" in explorer.summary
        return
    steps = sorted(measured)
    assert list(line.get_xdata()) == steps
    assert list(line.get_ydata()) == [statistics.median(measured[step]) for step in steps]
    ends = set()
    for step, values in measured.items():
        ends |= {(step, min(values)), (step, max(values))}
    assert {tuple(corner) for corner in area.get_paths()[0].vertices} == ends
    last = measured[steps[-1]]
    spread = f"({min(last):.5g} to {max(last):.5g})"
    words = f"{statistics.median(last):.5g} at update {steps[-1]:,} {spread}"
    assert words in explorer.picture.alt
    low, high = picture.axes.get_ylim()
    assert low < min(map(min, measured.values())) <= max(map(max, measured.values())) < high


def check_ends(explorer, grid: Grid, axis: str) -> None:
    here = getattr(explorer, axis)
    values = grid.axes[axis]
    if not isinstance(values[0], (bool, str)):  # numbers are in order, names as the grid has them
        values = sorted({*values, here})
    columns = []
    for value in values:
        rows = rows_at(explorer, grid, **{axis: value})
        columns.append([row["eval_loss_after"] for row in rows])
    drawn = set(zip(*explorer._ends.seeds.get_data()))
    expected = set()
    for place, column in enumerate(columns):
        expected |= {(place, end) for end in column}
    assert drawn == expected
    assert explorer._ends.here.get_x() == values.index(here) - 0.5
    labels = [label.get_text() for label in explorer._ends.axes.get_xticklabels()]
    for label, column in zip(labels, columns, strict=True):
        words = "not recorded"
        if column:
            words = f"{statistics.median(column):.5g} ({min(column):.5g} to {max(column):.5g})"
        assert f"{label}: {words}" in explorer.picture.alt


#: What each view over a run shows, by its first word.
SERIES = {
    "evaluation": "eval_loss",
    "training": "loss",
    "gradient": "grad_norm",
    "learning": "learning_rate",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_every_control_draws_the_rows(name):
    grid = GRIDS[name]
    explorer = RunExplorer(name, RUNS)
    for control in explorer.controls.values():
        start = control.value
        options = [option[1] if isinstance(option, tuple) else option for option in control.options]
        expected = len(options)
        if control is explorer.controls["seed"]:  # of the next run, and no part of what is drawn
            options = options[:3]
            expected = 1
        seen = set()
        for value in options:
            control.value = value  # as the browser's message does
            if explorer.show.startswith("evaluation loss at the end"):
                check_ends(explorer, grid, explorer.show.split(" along ")[1])
            else:
                check_curves(explorer, grid, SERIES[explorer.show.split()[0]])
            seen.add(explorer.summary + explorer.picture.alt)
        control.value = start
        assert len(seen) == expected
    assert explorer.error == ""


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_moved_like_a_grid(name):
    """Each value of each axis, drawn along it too: an adapter's rank may be none."""
    study = STUDIES[name]
    explorer = RunExplorer(name)
    assert explorer.recorded and {run.recipe.seed for run in explorer.recorded} <= {*study.seeds}
    for axis, values in study.axes.items():
        explorer.show = f"evaluation loss at the end, along {axis}"
        for value in values:
            setattr(explorer, axis, value)
            assert axis in explorer.picture.alt
            ends = [run.eval_loss_after for run in explorer.recorded]
            texts = {run.evaluation_fingerprint for run in explorer.recorded}
            assert len(texts) <= 1 and len(ends) in (0, len(study.seeds))


def test_nothing_lies_between_two_recorded_values():
    explorer = RunExplorer("learning_rate", RUNS, learning_rate=2e-3)
    assert explorer.recorded == []
    assert explorer.comparison is None
    assert not explorer._curves.medians[0].get_visible()
    assert explorer.summary.startswith(
        "learning_rate 2.0e-3, warmup_steps 0.1, lr_scheduler_type linear: not recorded"
    )
    explorer.learning_rate = 1.7e-3  # no stop of the slider, and no recorded value either
    slider = explorer.controls["learning_rate"]
    assert slider.label == "0.0017 (new)"
    assert explorer.recorded == []
    recorded = [value for label, value in slider.options if "(new)" not in label]
    assert recorded == sorted(GRIDS["learning_rate"].axes["learning_rate"])


def test_a_difference_is_held_against_the_seeds():
    explorer = RunExplorer(
        "precision",
        RUNS,
        compare_with={"learning_rate": 3e-5, "dtype": "bfloat16"},
        learning_rate=3e-5,
    )

    def ends(dtype: str) -> list[float]:
        rows = rows_at(explorer, GRIDS["precision"], dtype=dtype)
        return [row["eval_loss_after"] for row in rows]

    ours = ends("float32")
    theirs = ends("bfloat16")
    difference = abs(statistics.median(ours) - statistics.median(theirs))
    spread = max(max(ours) - min(ours), max(theirs) - min(theirs))
    assert explorer.comparison.larger == (difference > spread)
    assert f"{spread:.2g}" in explorer.summary
    assert difference > 3 * spread  # at this rate bf16 weights lose updates
    explorer.dtype = "bfloat16"
    assert explorer.comparison is None
    assert "compared with" in explorer.summary
    explorer.compare_with_this()
    explorer.optim = "adamw_torch_fused"
    assert explorer.reference.recipe.optim == "adamw_8bit"
    assert not explorer.comparison.larger
    reference = "against learning_rate 3.0e-5, optim adamw_8bit, bf16 true, dtype bfloat16"
    assert reference in explorer.summary


@pytest.mark.slow
def test_settings_that_are_no_product_are_listed():
    explorer = RunExplorer("batch_equal_tokens", RUNS)
    grid = GRIDS["batch_equal_tokens"]
    drawn = []
    draw = explorer._curves.draw

    def counted(*args):
        drawn.append(args)
        return draw(*args)

    explorer._curves.draw = counted
    words = "per_device_train_batch_size 2, gradient_accumulation_steps 16, max_steps 25"
    explorer.controls["setting"].value = words
    assert explorer.per_device_train_batch_size == 2
    assert explorer.gradient_accumulation_steps == 16
    assert explorer.max_steps == 25
    assert len(drawn) == 1
    assert len(explorer.recorded) == 3
    explorer.max_steps = 100  # 2 x 16 for 100 updates: nobody trained that
    assert explorer.setting is None
    assert explorer.recorded == []
    assert len(drawn) == 2
    explorer.max_steps = 25
    assert explorer.setting == words
    assert len(explorer.recorded) == 3
    assert list(explorer.controls["setting"].options) == [
        ", ".join(f"{name} {getattr(point.recipe, name)}" for name in grid.axes)
        for point in grid.points
    ]
    assert "setting" not in RunExplorer("learning_rate", RUNS).controls


def test_a_schedule_brings_its_kwargs():
    explorer = RunExplorer(
        "learning_rate", RUNS, lr_scheduler_type="warmup_stable_decay", learning_rate=2e-3
    )
    assert explorer.point.recipe.lr_scheduler_kwargs == {"num_decay_steps": 20}
    explorer.lr_scheduler_type = "cosine"
    assert explorer.point.recipe.lr_scheduler_kwargs is None
    explorer.warmup_steps = 8.0  # updates, not a share: transformers wants a whole number
    assert isinstance(explorer.point.recipe.warmup_steps, int)


def test_bad_input_is_named(monkeypatch):
    with pytest.raises(BadInput, match="expected one of learning_rate, .* got 'lr'"):
        RunExplorer("lr", RUNS)
    with pytest.raises(BadInput, match="learning_rate: expected a number from 3e-05 to 0.1, got 7"):
        RunExplorer("learning_rate", RUNS, learning_rate=7)
    with pytest.raises(BadInput, match="bf16: expected one of False, True, got 'yes'"):
        RunExplorer("precision", RUNS).bf16 = "yes"
    with pytest.raises(BadInput, match="nothing has been trained"):
        RunExplorer("seeds", RUNS).wait()


# Live runs.


@pytest.fixture
def small(tiny_model, few_tunes) -> Grid:
    recipe = STARTER.replace(
        max_seq_length=32,
        max_steps=12,
        warmup_steps=2,
        logging_steps=0.25,
        eval_steps=0.25,
        save_strategy="no",
    )
    points = tuple(
        Point(recipe.replace(learning_rate=rate), tiny_model, few_tunes) for rate in (1e-3, 1e-2)
    )
    return Grid("small", "Which rate?", points, (1, 2))


@pytest.mark.slow
def test_a_run_of_now_lies_over_the_band(small):
    point = small.points[0]
    recorded = Runs(record_point(point.with_seed(seed)) for seed in small.seeds)
    explorer = RunExplorer(
        small, recorded, compare_with={"learning_rate": 1e-3}, learning_rate=1e-3, seed=9
    )
    train = explorer._train_button
    stop = explorer._stop_button
    train.click()
    assert explorer.training
    assert train.disabled and not stop.disabled
    with pytest.raises(BadInput, match="being trained"):
        explorer.train()
    while explorer._bar.value < 2:
        time.sleep(0.01)
    explorer.learning_rate = 1e-2  # the reader goes on while it trains
    assert "not recorded" in explorer.summary
    assert explorer.live == []
    explorer.learning_rate = 1e-3
    run = explorer.wait()
    assert not explorer.training
    assert not train.disabled and stop.disabled
    assert explorer._bar.value == explorer._bar.max == 12
    assert "trained seed 9" in explorer._status.value
    alone = record_point(point.with_seed(9))
    assert run.history == alone.history
    assert run.weights_norm == alone.weights_norm
    measured = [entry for entry in alone.history if "eval_loss" in entry]
    drawn = list(zip(*explorer._curves.live[0].get_data()))
    assert drawn == [(entry["step"], entry["eval_loss"]) for entry in measured]
    assert f"trained now, seed 9: {alone.eval_loss_after:.5g} at update 12" in explorer.picture.alt
    ends = [run.eval_loss_after for run in recorded]
    side = "within"
    if alone.eval_loss_after < min(ends):
        side = "below"
    elif alone.eval_loss_after > max(ends):
        side = "above"
    seeds = f"{side} the recorded seeds ({min(ends):.5g} to {max(ends):.5g})"
    assert f"{alone.eval_loss_after:.5g}, {seeds}" in explorer.summary
    explorer.show = "evaluation loss at the end, along learning_rate"
    assert list(zip(*explorer._ends.live.get_data())) == [(0, alone.eval_loss_after)]


@pytest.mark.slow
def test_two_runs_of_now_are_a_verdict(small):
    recorded = Runs(record_point(small.points[0].with_seed(seed)) for seed in small.seeds)
    explorer = RunExplorer(
        small, recorded, compare_with={"learning_rate": 1e-3}, learning_rate=1e-2
    )
    for seed, verdict in ((1, None), (1, None), (2, True)):  # the same seed twice is one run
        explorer.seed = seed
        explorer.train()
        explorer.wait()
        assert bool(explorer.comparison) == bool(verdict)
    ends = [live.run.eval_loss_after for live in explorer.live]
    assert explorer.comparison.one == statistics.median(ends)
    assert "trained now, against learning_rate 1.0e-3" in explorer.summary


@pytest.mark.slow
def test_a_run_is_stopped_by_its_button(small):
    point = small.points[0]
    recipe = point.recipe.replace(max_steps=100_000, eval_steps=0.5, logging_steps=2)
    long = Grid("long", "", points=(point._replace(recipe=recipe),), seeds=(1,))
    explorer = RunExplorer(long, Runs([]))
    explorer.train()
    while explorer._bar.value < 5:
        time.sleep(0.01)
    explorer._stop_button.click()
    assert explorer.wait() is None
    assert not explorer.training
    done = explorer.live[0].done
    assert 5 <= done < 100_000
    assert f"stopped after update {done:,}" in explorer._status.value
    explorer.show = "training loss over the run"
    assert len(explorer._curves.live[0].get_xdata()) == done // 2
    assert "seed 31 unfinished" in explorer.picture.alt
    explorer.train()  # anew
    explorer.stop()
    assert explorer.wait() is None
    assert len(explorer.live) == 1


def test_a_run_that_cannot_be_says_why(small):
    point = small.points[0]._replace(corpus="missing.abc")
    explorer = RunExplorer(Grid("none", "", points=(point,), seeds=(1,)), Runs([]))
    explorer.train()
    with pytest.raises(BadInput, match="missing.abc"):
        explorer.wait()
    assert "missing.abc" in explorer.error
    assert "missing.abc" in explorer._error.value
    assert not explorer.training


def test_it_shows_without_a_kernel():
    explorer = RunExplorer("seeds", RUNS)
    assert isinstance(explorer.box, ipywidgets.Box)
    assert explorer.picture.png.startswith(b"\x89PNG")
    assert len(explorer.recorded) == 20
