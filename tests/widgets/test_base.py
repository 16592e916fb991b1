"""The base of the widgets, seen through those that stand on it, most often ScheduleExplorer."""

import io
import math
import re
from base64 import b64encode

import ipywidgets
import pytest
from PIL import Image

from hpkit.errors import BadInput
from hpkit.recipe import NOTES
from hpkit.widgets import Interactive, MemoryExplorer, Prediction, ScheduleExplorer

from .conftest import drawings, positions, shown_in_page
from .test_schedule import check_schedule

pytestmark = pytest.mark.usefixtures("own_cache")

WIDGETS = [
    ScheduleExplorer,
    lambda: MemoryExplorer("starter"),
    lambda: Prediction("q", "How much?", tolerance=1),
]


def test_state_is_attributes():
    explorer = ScheduleExplorer()
    explorer.learning_rate = 1e-3
    assert explorer.controls["learning_rate"].value == 1e-3
    assert explorer.learning_rate == explorer.recipe.learning_rate == 1e-3
    explorer.examples = 641.0  # no place of the slider: it gets one
    assert explorer.examples == 641 and isinstance(explorer.examples, int)
    check_schedule(explorer)
    explorer.learning_rate = 1.23e-4
    assert explorer.learning_rate == 1.23e-4
    for name in ("examples", "learning_rate"):
        values = [value for _, value in explorer.controls[name].options]
        assert values == sorted(set(values))
    assert {"learning_rate", "examples", "recipe", "picture", "warmup_steps"} <= set(dir(explorer))


def test_a_name_that_no_control_has_is_refused():
    explorer = ScheduleExplorer()
    for wrong in ("learning_rat", "nothing"):
        with pytest.raises(AttributeError, match=wrong):
            setattr(explorer, wrong, 1)
        with pytest.raises(AttributeError, match=wrong):
            getattr(explorer, wrong)
    with pytest.raises(BadInput, match="did you mean learning_rate"):
        explorer.set(learning_rat=1)


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("learning_rate", 7, "a number from 1e-07 to 1, got 7"),
        ("learning_rate", "high", "a number from"),
        ("learning_rate", math.nan, "a number from"),
        ("examples", 0, "a whole number from 1 to 1e+06"),
        ("examples", 2_000_000, "a whole number"),
        ("examples", 2.5, "a whole number"),
        ("examples", True, "a whole number"),
        ("warmup_steps", -1, "a number of 0 or more"),
        ("warmup_steps", 2.5, "a whole number"),
        ("lr_scheduler_type", "cosin", "did you mean cosine"),
        ("lr_scheduler_type", None, "one of linear"),
        ("lr_scheduler_kwargs", 3, "a table of names and values"),
    ],
)
def test_a_value_that_a_control_cannot_take_moves_nothing(name, value, expected):
    explorer = ScheduleExplorer()
    before = explorer.picture
    drawn = drawings(explorer)
    with pytest.raises(BadInput, match=re.escape(expected)):
        explorer.set(num_train_epochs=5, **{name: value})
    assert explorer.num_train_epochs == 2 and explorer.picture is before and not drawn
    check_schedule(explorer)


def test_one_change_draws_once_and_no_change_draws_nothing():
    explorer = ScheduleExplorer()
    drawn = drawings(explorer)
    explorer.controls["learning_rate"].value = 1e-3
    assert len(drawn) == 1
    explorer.controls["learning_rate"].value = 1e-3
    explorer.learning_rate = 1e-3
    assert len(drawn) == 1
    explorer.set(learning_rate=2e-3, warmup_steps=0.5, examples=99, lr_scheduler_type="cosine")
    assert len(drawn) == 2
    explorer.warmup_steps = 3  # moves two controls
    assert len(drawn) == 3


@pytest.mark.slow
def test_same_state_same_bytes():
    explorer = ScheduleExplorer()
    first = explorer.picture
    for name, control in explorer.controls.items():
        if name != "kwargs":
            for value in positions(control):
                control.value = value
    explorer.set(
        learning_rate=NOTES.learning_rate,
        lr_scheduler_type=NOTES.lr_scheduler_type,
        num_train_epochs=NOTES.num_train_epochs,
        warmup_steps=NOTES.warmup_steps,
    )
    explorer.set(examples=640, per_device_train_batch_size=8, gradient_accumulation_steps=32)
    assert explorer.picture == first == ScheduleExplorer().picture


def test_bad_input_is_shown_in_words_and_raised_when_asked(monkeypatch):
    explorer = ScheduleExplorer()
    good = explorer.picture
    with pytest.raises(BadInput, match="lr_scheduler_kwargs"):
        explorer.controls["kwargs"].value = '{"num_cycles"'
    monkeypatch.setattr(Interactive, "raise_errors", False)
    for text in ("[1]", "<b>"):
        explorer.controls["kwargs"].value = text
        assert "lr_scheduler_kwargs" in explorer.error
        alert = explorer._error.value
        assert 'role="alert"' in alert and "setting before" in alert
        assert "<b>'" not in alert  # what was typed is text, not HTML
        assert 'alt="Out of date: ' in explorer._image.value and explorer.picture == good
    explorer.controls["kwargs"].value = ""
    assert explorer.error == explorer._error.value == ""
    assert "Out of date" not in explorer._image.value
    explorer.set(
        examples=1_000_000,
        num_train_epochs=20,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
    )
    assert explorer.error.startswith("20,000,000 updates: expected at most")


def test_other_exceptions_are_shown_and_raised(monkeypatch):
    explorer = ScheduleExplorer()
    monkeypatch.setattr(Interactive, "raise_errors", False)
    monkeypatch.setattr(explorer._figure, "draw", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explorer.controls["examples"].value = 100
    assert "ZeroDivisionError" in explorer._error.value
    monkeypatch.undo()
    explorer.controls["examples"].value = 20
    assert explorer.error == ""


def test_the_picture_in_the_page_is_the_picture():
    explorer = ScheduleExplorer()
    page = shown_in_page(explorer)
    assert f'alt="{explorer.picture.alt}"' in page
    assert b64encode(explorer.picture.png).decode() in page
    width, height = Image.open(io.BytesIO(explorer.picture.png)).size
    assert f'width="{width}" height="{height}"' in page  # so that the page does not jump
    assert "<" not in explorer.summary and "&" not in explorer.summary


@pytest.mark.parametrize("make", WIDGETS)
def test_a_still_picture_comes_before_the_live_widget(make, monkeypatch):
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, **kwargs: outputs.append(data))
    explorer = make()
    explorer._ipython_display_()
    still, live = outputs
    assert still == {
        "image/png": b64encode(explorer.picture.png).decode(),
        "text/plain": explorer.picture.alt,
    }
    assert live["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.box.model_id
    assert live["text/plain"] == explorer.summary


@pytest.mark.parametrize("make", WIDGETS)
def test_every_control_is_core_and_named(make):
    core = (ipywidgets.SelectionSlider, ipywidgets.Dropdown, ipywidgets.Text)
    for control in make().controls.values():
        assert control._model_module == "@jupyter-widgets/controls" and control.description
        assert isinstance(control, core)
