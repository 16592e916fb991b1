"""ScheduleExplorer: every control moved, and what is drawn and said held against accounting."""

import json

import pytest

from hpkit.accounting import account
from hpkit.errors import BadInput
from hpkit.formatting import shown_rate
from hpkit.hyperparameters import SCHEDULERS
from hpkit.preflight import preflight
from hpkit.recipe import NOTES, STARTER
from hpkit.widgets import ScheduleExplorer

from .conftest import drawings, positions


def notes_with(explorer) -> tuple:
    """The recipe and examples that the controls say, read from the ipywidgets."""
    at = {name: control.value for name, control in explorer.controls.items()}
    warmups = {"updates": at["warmup_updates"], "share of the run": at["warmup_share"]}
    filled_in = explorer.controls["kwargs"].placeholder.replace("none", "null")
    recipe = NOTES.replace(
        learning_rate=at["learning_rate"],
        warmup_steps=warmups[at["warmup"]],
        lr_scheduler_type=at["lr_scheduler_type"],
        lr_scheduler_kwargs=json.loads(at["kwargs"] or filled_in),
        per_device_train_batch_size=at["per_device_train_batch_size"],
        gradient_accumulation_steps=at["gradient_accumulation_steps"],
        num_train_epochs=at["num_train_epochs"],
    )
    return recipe, at["examples"]


def check_schedule(explorer) -> None:
    """What is drawn and said, against account and preflight."""
    recipe, examples = notes_with(explorer)
    counts = account(recipe, examples)
    picture = explorer._figure
    xs, ys = picture.rates.get_data()
    assert list(ys) == [counts.learning_rates[int(x)] for x in xs]
    assert xs[0] == 0 and xs[-1] == counts.updates and max(ys) == counts.peak_learning_rate
    # Long runs are thinned, to no fewer points than half the picture's pixels.
    assert len(xs) == counts.updates + 1 or len(xs) > 700
    reached = [float(value[0]) for value in picture.reached.get_data()]
    assert reached == [counts.peak_at, counts.peak_learning_rate]
    assert set(picture.end.get_xdata()) == {counts.updates}
    assert set(picture.asked.get_ydata()) == {recipe.learning_rate}
    assert picture.warmup.get_visible() == (0 < counts.warmup_updates < counts.updates)
    low, high = picture.axes.get_ylim()
    assert low < 0 < max(recipe.learning_rate, counts.peak_learning_rate) < high

    alt = explorer.picture.alt
    assert f"over {counts.updates:,} update" in alt
    assert f"asked for: {shown_rate(recipe.learning_rate)};" in alt
    assert f"reached: {shown_rate(counts.peak_learning_rate)} (" in alt
    if counts.warmup_updates:
        assert f"warmup: {counts.warmup_updates:,} update" in alt
    else:
        assert "no warmup" in alt
    for line in (*counts.lines(), *map(str, preflight(recipe, examples))):
        assert line in explorer.summary
    assert explorer.recipe == recipe and explorer.error == ""


@pytest.mark.parametrize("name", ScheduleExplorer().controls)
def test_schedule_follows_every_control(name):
    explorer = ScheduleExplorer()
    explorer.warmup = "share of the run" if name == "warmup_share" else "updates"
    control = explorer.controls[name]
    if name == "kwargs":
        explorer.set(lr_scheduler_type="cosine_with_restarts", warmup_steps=0)
        moves = ["{}", '{"num_cycles": 2}']
    else:
        moves = positions(control)
    seen = set()
    for value in moves:
        control.value = value  # as the browser's message does
        check_schedule(explorer)
        seen.add(explorer.summary + explorer.picture.alt + str(len(explorer.picture.png)))
    assert len(seen) > 1


def test_schedule_starts_with_the_notes_lesson():
    explorer = ScheduleExplorer()
    check_schedule(explorer)
    assert explorer.counts.updates == 6
    assert explorer.picture.alt == (
        "Learning rate over 6 updates: asked for: 1.0e-4; "
        "reached: 3.0e-7 (0.3 %), after update 6; at the end: 3.0e-7; "
        "warmup: 2,000 updates, as long as the run or longer."
    )
    assert "error warmup-outlasts-run" in explorer.summary


def test_schedule_offers_every_rate_that_can_be_told():
    explorer = ScheduleExplorer(NOTES.replace(warmup_steps=0.1), 52_000)
    offered = explorer.controls["lr_scheduler_type"].options
    shapes = set()
    for name in offered:
        explorer.lr_scheduler_type = name
        check_schedule(explorer)
        shapes.add(tuple(explorer._figure.rates.get_ydata()))
    assert set(offered) == set(SCHEDULERS) - {"reduce_lr_on_plateau", "greedy"}
    # Two pairs differ by their kwargs alone, and what is filled in for inverse_sqrt is nothing.
    assert len(shapes) >= 9


def test_schedule_fills_in_what_a_schedule_cannot_do_without():
    explorer = ScheduleExplorer(STARTER, 700)
    for name, kwargs in (
        ("warmup_stable_decay", {"num_decay_steps": 35}),  # a fifth of 176
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
        ("linear", None),
    ):
        drawn = drawings(explorer)
        explorer.lr_scheduler_type = name
        assert explorer.lr_scheduler_kwargs == kwargs and len(drawn) == 1
        assert (json.dumps(kwargs) in explorer.summary) == bool(kwargs)
    explorer.set(lr_scheduler_kwargs={"min_lr_rate": 0.5}, lr_scheduler_type="cosine_with_min_lr")
    assert explorer.picture.alt.endswith("at the end: 5.0e-4; warmup: 20 updates.")
    drawn = drawings(explorer)
    explorer.controls["lr_scheduler_type"].value = "linear"  # which takes no kwargs
    assert explorer.lr_scheduler_kwargs is None and len(drawn) == 1


def test_schedule_takes_a_recipe_of_your_own():
    recipe = STARTER.replace(
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": 9},
        warmup_steps=0.25,
    )
    explorer = ScheduleExplorer(recipe, 700)
    assert explorer.recipe == recipe and explorer.examples == 700
    explorer = ScheduleExplorer(STARTER.replace(max_steps=50), 700)
    assert explorer.controls["num_train_epochs"].disabled
    assert explorer.counts.updates == 50 and "max_steps 50 fixes" in explorer.summary
    with pytest.raises(BadInput, match="lr_scheduler_type"):
        ScheduleExplorer(STARTER.replace(lr_scheduler_type="greedy"))


def test_only_the_warmup_slider_in_use_is_seen():
    explorer = ScheduleExplorer()
    # One explorer for all: what was hidden must come back.
    for steps, seen, hidden in (
        (0, "warmup_updates", "warmup_share"),
        (7, "warmup_updates", "warmup_share"),
        (0.3, "warmup_share", "warmup_updates"),
        (1, "warmup_updates", "warmup_share"),
    ):
        explorer.warmup_steps = steps
        assert explorer.warmup_steps == steps
        assert explorer.controls[seen].layout.display != "none"
        assert explorer.controls[hidden].layout.display == "none"
