"""Widgets: every control moved across its range; what is drawn is compared with accounting, preflight and memory themselves."""

import io
import json
import math
import re
from base64 import b64encode

import ipywidgets
import pytest
from PIL import Image

from hpkit.accounting import account
from hpkit.capability import MACHINES, Machine
from hpkit.errors import BadInput
from hpkit.formatting import shown_bytes, shown_rate
from hpkit.hyperparameters import SCHEDULERS
from hpkit.lessons import predictions
from hpkit.memory import predict_memory
from hpkit.model import read_config
from hpkit.preflight import preflight
from hpkit.recipe import NOTES, STARTER
from hpkit.widgets import Interactive, MemoryExplorer, Prediction, ScheduleExplorer


@pytest.fixture(autouse=True)
def errors_are_raised(monkeypatch, tmp_path):
    monkeypatch.setattr(Interactive, "raise_errors", True)
    monkeypatch.setenv("HPKIT_CACHE", str(tmp_path))


def positions(control) -> list:
    """Where a hand can move it: every option, of a slider both ends and some places between."""
    options = [option[1] if isinstance(option, tuple) else option for option in control.options]
    if isinstance(control, ipywidgets.SelectionSlider):
        assert options == sorted(set(options)) and len(options) > 9
        options = [
            options[round(share * (len(options) - 1))] for share in (0, 0.13, 0.31, 0.5, 0.77, 1)
        ]
    return options


def drawings(explorer) -> list:
    """A list that grows with each drawing from now on."""
    drawn, draw = [], explorer._figure.draw
    explorer._figure.draw = lambda *args: drawn.append(args) or draw(*args)
    return drawn


def shown_in_page(explorer) -> str:
    """The HTML of everything but the controls."""
    return explorer._error.value + explorer._image.value + explorer._words.value


# ScheduleExplorer.


def notes_with(explorer) -> tuple:
    """The recipe and examples that the controls say, read from the ipywidgets."""
    at = {name: control.value for name, control in explorer.controls.items()}
    warmup = {"updates": at["warmup_updates"], "share of the run": at["warmup_share"]}[at["warmup"]]
    recipe = NOTES.replace(
        learning_rate=at["learning_rate"],
        warmup_steps=warmup,
        lr_scheduler_type=at["lr_scheduler_type"],
        lr_scheduler_kwargs=json.loads(
            at["kwargs"] or explorer.controls["kwargs"].placeholder.replace("none", "null")
        ),
        per_device_train_batch_size=at["per_device_train_batch_size"],
        gradient_accumulation_steps=at["gradient_accumulation_steps"],
        num_train_epochs=at["num_train_epochs"],
    )
    return recipe, at["examples"]


def check_schedule(explorer) -> None:
    """What is drawn and said, against account and preflight."""
    recipe, examples = notes_with(explorer)
    counts, picture = account(recipe, examples), explorer._figure
    xs, ys = picture.rates.get_data()
    assert list(ys) == [counts.learning_rates[int(x)] for x in xs]
    assert xs[0] == 0 and xs[-1] == counts.updates and max(ys) == counts.peak_learning_rate
    assert len(xs) == counts.updates + 1 or len(xs) > 700
    assert [float(value[0]) for value in picture.reached.get_data()] == [
        counts.peak_at,
        counts.peak_learning_rate,
    ]
    assert set(picture.end.get_xdata()) == {counts.updates}
    assert set(picture.asked.get_ydata()) == {recipe.learning_rate}
    assert picture.warmup.get_visible() == (0 < counts.warmup_updates < counts.updates)
    low, high = picture.axes.get_ylim()
    assert low < 0 < max(recipe.learning_rate, counts.peak_learning_rate) < high
    alt = explorer.picture.alt
    assert (
        f"over {counts.updates:,} update" in alt
        and f"asked for: {shown_rate(recipe.learning_rate)};" in alt
    )
    assert f"reached: {shown_rate(counts.peak_learning_rate)} (" in alt
    assert (
        f"warmup: {counts.warmup_updates:,} update" in alt
        if counts.warmup_updates
        else "no warmup" in alt
    )
    for line in (*counts.lines(), *map(str, preflight(recipe, examples))):
        assert line in explorer.summary
    assert explorer.recipe == recipe and explorer.error == ""


@pytest.mark.parametrize("name", ScheduleExplorer().controls)
def test_schedule_follows_every_control(name):
    explorer = ScheduleExplorer()
    explorer.warmup = "share of the run" if name == "warmup_share" else "updates"
    control, seen = explorer.controls[name], set()
    moves = ["{}", '{"num_cycles": 2}'] if name == "kwargs" else positions(control)
    if name == "kwargs":
        explorer.set(lr_scheduler_type="cosine_with_restarts", warmup_steps=0)
    for value in moves:
        control.value = value  # as the browser's message does
        check_schedule(explorer)
        seen.add(explorer.summary + explorer.picture.alt + str(len(explorer.picture.png)))
    assert len(seen) > 1


def test_schedule_starts_with_the_notes_lesson():
    explorer = ScheduleExplorer()
    check_schedule(explorer)
    assert explorer.counts.updates == 6 and explorer.picture.alt == (
        "Learning rate over 6 updates: asked for: 1.0e-4; reached: 3.0e-7 (0.3 %), after update 6; at the end: 3.0e-7; "
        "warmup: 2,000 updates, as long as the run or longer."
    )
    assert "error warmup-outlasts-run" in explorer.summary


def test_schedule_offers_every_rate_that_can_be_told():
    explorer = ScheduleExplorer(NOTES.replace(warmup_steps=0.1), 52_000)
    shapes = set()
    for name in explorer.controls["lr_scheduler_type"].options:
        explorer.lr_scheduler_type = name
        check_schedule(explorer)
        shapes.add(tuple(explorer._figure.rates.get_ydata()))
    assert set(explorer.controls["lr_scheduler_type"].options) == set(SCHEDULERS) - {
        "reduce_lr_on_plateau",
        "greedy",
    }
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
    kwargs = dict(
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": 9},
        warmup_steps=0.25,
    )
    explorer = ScheduleExplorer(STARTER.replace(**kwargs), 700)
    assert explorer.recipe == STARTER.replace(**kwargs) and explorer.examples == 700
    explorer = ScheduleExplorer(STARTER.replace(max_steps=50), 700)
    assert (
        explorer.controls["num_train_epochs"].disabled
        and explorer.counts.updates == 50
        and "max_steps 50 fixes" in explorer.summary
    )
    with pytest.raises(BadInput, match="lr_scheduler_type"):
        ScheduleExplorer(STARTER.replace(lr_scheduler_type="greedy"))


def test_only_the_warmup_slider_in_use_is_seen():
    explorer = ScheduleExplorer()
    for steps, seen in (
        (0, ["warmup_updates"]),
        (7, ["warmup_updates"]),
        (0.3, ["warmup_share"]),
        (1, ["warmup_updates"]),
    ):
        explorer.warmup_steps = steps
        assert explorer.warmup_steps == steps
        assert [
            name
            for name in ("warmup_updates", "warmup_share")
            if explorer.controls[name].layout.display != "none"
        ] == seen


# The base, seen through ScheduleExplorer.


def test_state_is_attributes():
    explorer = ScheduleExplorer()
    explorer.learning_rate = 1e-3
    assert (
        explorer.controls["learning_rate"].value
        == explorer.learning_rate
        == explorer.recipe.learning_rate
        == 1e-3
    )
    explorer.examples = 641.0  # no place of the slider: it gets one
    assert explorer.examples == 641 and isinstance(explorer.examples, int)
    check_schedule(explorer)
    explorer.learning_rate = 1.23e-4
    assert explorer.learning_rate == 1.23e-4
    for name in ("examples", "learning_rate"):
        values = [value for _, value in explorer.controls[name].options]
        assert values == sorted(set(values))
    assert {"learning_rate", "examples", "recipe", "picture", "warmup_steps"} <= set(dir(explorer))
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
    before, drawn = explorer.picture, drawings(explorer)
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
    for name in explorer.controls:
        if name != "kwargs":
            for value in positions(explorer.controls[name]):
                explorer.controls[name].value = value
    explorer.set(
        **{
            name: getattr(NOTES, name)
            for name in ("learning_rate", "lr_scheduler_type", "num_train_epochs", "warmup_steps")
        }
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
        assert 'role="alert"' in explorer._error.value and "lr_scheduler_kwargs" in explorer.error
        assert "<b>'" not in explorer._error.value and "setting before" in explorer._error.value
        assert 'alt="Out of date: ' in explorer._image.value and explorer.picture == good
    explorer.controls["kwargs"].value = ""
    assert (
        explorer.error == explorer._error.value == "" and "Out of date" not in explorer._image.value
    )
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
    monkeypatch.setattr(explorer._figure, "draw", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explorer.controls["examples"].value = 100
    assert "ZeroDivisionError" in explorer._error.value
    monkeypatch.undo()
    explorer.controls["examples"].value = 20
    assert explorer.error == ""


def test_the_picture_in_the_page_is_the_picture():
    explorer = ScheduleExplorer()
    page = shown_in_page(explorer)
    assert (
        f'alt="{explorer.picture.alt}"' in page and b64encode(explorer.picture.png).decode() in page
    )
    width, height = Image.open(io.BytesIO(explorer.picture.png)).size
    assert f'width="{width}" height="{height}"' in page  # so that the page does not jump
    assert "<" not in explorer.summary and "&" not in explorer.summary


@pytest.mark.parametrize(
    "make",
    [
        ScheduleExplorer,
        lambda: MemoryExplorer("starter"),
        lambda: Prediction("q", "How much?", tolerance=1),
    ],
)
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


@pytest.mark.parametrize(
    "make",
    [
        ScheduleExplorer,
        lambda: MemoryExplorer("starter"),
        lambda: Prediction("q", "How much?", tolerance=1),
    ],
)
def test_every_control_is_core_and_named(make):
    explorer = make()
    for control in explorer.controls.values():
        assert control._model_module == "@jupyter-widgets/controls" and control.description
        assert isinstance(
            control, (ipywidgets.SelectionSlider, ipywidgets.Dropdown, ipywidgets.Text)
        )


# MemoryExplorer.


def check_memory(explorer) -> None:
    """What is drawn and said, against predict_memory."""
    at = {name: control.value for name, control in explorer.controls.items()}
    source = at["model"] if at["model"][0].isdigit() else read_config(at["model"])
    recipe = NOTES.replace(
        optim=at["optim"],
        bf16=at["precision"] != "fp32",
        dtype="bfloat16" if at["precision"] == "bf16 weights" else "float32",
    )
    memory = predict_memory(source, recipe, at["per_device_train_batch_size"], at["max_seq_length"])
    assert explorer.memory == memory
    bars = explorer._figure.bars
    assert [bar.get_width() for bar in bars] == list(memory)
    assert [bar.get_x() for bar in bars] == [sum(memory[:k]) for k in range(4)]
    assert len({bar.get_hatch() for bar in bars}) == 4
    free = explorer._machines[at["device"]].memory_free
    assert explorer._figure.device.get_width() == free and explorer._figure.axes.get_xlim()[
        1
    ] > max(free, memory.total)
    for number in (*memory, memory.total, free):
        assert shown_bytes(number) in explorer.picture.alt
    fits = memory.total <= free
    assert ("Does not fit" in explorer.summary) != fits and shown_bytes(
        abs(free - memory.total)
    ) in explorer.summary


@pytest.mark.slow
@pytest.mark.parametrize("name", MemoryExplorer("starter").controls)
def test_memory_follows_every_control(name):
    explorer = MemoryExplorer("starter")
    explorer.set(per_device_train_batch_size=2, max_seq_length=64)
    control, seen = explorer.controls[name], set()
    for value in positions(control):
        control.value = value
        check_memory(explorer)
        seen.add(explorer.summary + explorer.picture.alt)
    assert len(seen) == len(positions(control))


def test_memory_takes_folders_and_machines(tiny_model):
    machine = Machine("cuda", "a small GPU", 2, True, memory_free=50_000_000)
    explorer = MemoryExplorer(tiny_model, STARTER.replace(optim="adamw_torch"), machine)
    check_memory(explorer)
    assert explorer.device == "a small GPU" and explorer.model == tiny_model
    with pytest.raises(BadInput, match="model nonsense"):
        explorer.model = "nonsense"
    assert explorer.model == tiny_model and "nonsense" not in explorer.controls["model"].options
    with pytest.raises(BadInput, match="device"):
        MemoryExplorer("starter", device="t44")
    with pytest.raises(BadInput, match="whose memory is known, such as here, t4"):
        MemoryExplorer("starter", device="cpu")
    with pytest.raises(BadInput, match="states of"):
        MemoryExplorer("starter", STARTER.replace(optim="lion_8bit"))


@pytest.mark.slow
def test_what_would_make_it_fit_does():
    explorer = MemoryExplorer("1B", NOTES.replace(optim="adamw_torch_fused"), "l4")
    explorer.per_device_train_batch_size = 32
    ways = [
        line for line in explorer.summary.splitlines() if "per_device_train_batch_size=" in line
    ]
    assert len(ways) == 2 and "optim=adamw_8bit" in ways[1]
    assert (
        "a larger device: NVIDIA H100 80GB" in explorer.summary
    )  # by nvidia-smi it has a little less than an A100 80GB
    for way in ways:
        batch = int(re.search(r"batch_size=(\d+)", way)[1])
        optim = "adamw_8bit" if "adamw_8bit" in way else "adamw_torch_fused"
        totals = [
            predict_memory("1B", NOTES.replace(optim=optim), b, 512).total
            for b in (batch, batch + 1)
        ]
        assert totals[0] <= MACHINES["l4"].memory_free < totals[1] and shown_bytes(totals[0]) in way
    explorer.set(model="70B", device="t4", per_device_train_batch_size=1)
    assert "a smaller model, LoRA or several devices" in explorer.summary


# Prediction.


def number(name="a number", **changes) -> Prediction:
    return Prediction(
        name, "Which loss?", **dict(low=0.5, high=3.0, tolerance=0.05, relative=True) | changes
    )


def test_number_is_scored_after_the_commit():
    asked = number()
    for value in positions(asked.controls["number"]):
        asked.controls["number"].value = value
        assert (
            asked._figure.guess.get_xdata()[0] == asked.guess == value
            and f"Your guess: {value:.4g};" in asked.picture.alt
        )
    asked.guess = 1.2
    assert asked.answer(1.17) is None and asked.score is None  # it waits
    assert "1.17" not in shown_in_page(asked) + asked.summary and not len(
        asked._figure.truth.get_xdata()
    )
    asked._button.click()
    assert (
        asked.committed and asked.score.within and asked.score.error == pytest.approx(0.03 / 1.17)
    )
    assert "2.56 % too high: within the tolerance of 5 %" in asked.summary
    assert (
        asked.picture.alt == "Your guess: 1.2; the answer: 1.17."
        and asked._figure.truth.get_xdata()[0] == 1.17
    )
    low = number("another", relative=False, tolerance=0.1)
    low.guess = 1.0
    low.commit()
    assert (
        not low.answer(1.5).within
        and low.score.error == 0.5
        and low.score.signed == pytest.approx(-5)
    )
    assert "0.5 too low: not within the tolerance of 0.1" in low.summary


def test_order_is_scored_by_pairs():
    asked = Prediction("an order", "Which first?", order=("a", "b", "c", "d"))
    for key, control in asked.controls.items():
        for name in control.options:
            control.value = name
            assert getattr(asked, key) == name and sorted(asked.guess) == ["a", "b", "c", "d"]
            assert ", ".join(asked.guess) in asked.picture.alt
    asked.guess = ("a", "b", "c", "d")
    drawn = drawings(asked)
    asked.place_1 = "c"  # changes places with a
    assert asked.guess == ("c", "b", "a", "d") and len(drawn) == 1
    asked.commit()
    # Against a, b, c, d: the pairs c-b, c-a and b-a are the wrong way round.
    assert (
        asked.answer(["a", "b", "c", "d"]).pairs == (3, 6)
        and not asked.score.within
        and asked.score.signed is None
    )
    assert "3 of 6 pairs" in asked.summary and "the answer: a, b, c, d" in asked.picture.alt
    assert [list(line.get_ydata()) for line in asked._figure.lines] == [
        [1, 3],
        [2, 2],
        [3, 1],
        [4, 4],
    ]


def test_curve_is_scored_by_its_mean_distance():
    asked = Prediction(
        "a curve", "Which losses?", low=1, high=2, steps=(0, 10, 20), tolerance=0.1, unit="loss"
    )
    for control in asked.controls.values():
        for value in positions(control):
            control.value = value
            assert (
                tuple(asked._figure.guess.get_ydata()) == asked.guess
                and f"{value:.4g} at" in asked.picture.alt
            )
    asked.guess = (1.5, 1.4, 1.3)
    asked.at_10 = 1.2
    asked.commit()
    assert asked.answer([1.5, 1.4, 1.4]).error == pytest.approx(
        0.1
    ) and asked.score.signed == pytest.approx(-1)
    assert list(asked._figure.truth.get_data()[0]) == [0, 10, 20] and list(
        asked._figure.truth.get_ydata()
    ) == [1.5, 1.4, 1.4]
    assert "the answer: 1.5 at 0, 1.4 at 10, 1.4 at 20" in asked.picture.alt


def test_powers_of_ten_are_guessed_on_a_log_axis():
    asked = Prediction(
        "a rate", "Which?", low=1e-6, high=1.0, tolerance=0.5, relative=True, log=True
    )
    assert asked.guess == pytest.approx(1e-3)
    for value in positions(asked.controls["number"]):
        asked.controls["number"].value = value
        assert asked.guess == value and f"Your guess: {value:.4g};" in asked.picture.alt
    with pytest.raises(BadInput, match="log expects low above 0"):
        Prediction("a rate", "Which?", tolerance=1, log=True)


def test_nothing_changes_after_the_commit():
    asked = number()
    asked.guess = 1.2
    asked.commit()
    asked.answer(1.5)
    before = asked.picture
    for change in (
        lambda: setattr(asked, "guess", 1.5),
        lambda: setattr(asked, "number", 1.5),
        lambda: asked.controls["number"].set_trait(
            "index", 80
        ),  # a message that no disabled slider sends
        asked.commit,
    ):
        with pytest.raises(BadInput, match="committed"):
            change()
        assert asked.guess == asked.controls["number"].value == 1.2 and asked.picture == before
    assert "committed" in asked.error and all(
        control.disabled for control in asked.controls.values()
    )
    assert asked.answer(1.2).error == pytest.approx(0.2) and asked.truth == (
        1.5,
    )  # the first answer counts
    again = number()
    assert (
        again.committed
        and again.guess == 1.2
        and again.score == asked.score
        and again.picture == before
    )
    other = Prediction("a number", "Another question?", tolerance=1)
    assert not other.committed


def test_answers_that_are_none():
    for asked, answers in (
        (number(), (math.nan, "high", None, [1, 2], 0)),
        (Prediction("o", "?", order=("a", "b")), (["a"], ["a", "a"], "ba?", 3)),
        (Prediction("c", "?", steps=(1, 2), tolerance=1), ([1], 1, [1, math.inf])),
    ):
        for wrong in answers:
            with pytest.raises(BadInput, match="prediction"):
                asked.answer(wrong)
        assert not asked._pending
    for wrong in (
        dict(tolerance=0),
        dict(low=3, high=2, tolerance=1),
        dict(order=("a", "a")),
        dict(order=("a",)),
        dict(steps=(1,)),
    ):
        with pytest.raises(BadInput, match="prediction x"):
            Prediction("x", "?", **wrong)


def test_calibration_over_all_predictions():
    assert "No prediction" in str(predictions.calibration())
    for k, (guess, truth) in enumerate(((1.0, 1.1), (2.0, 1.0), (1.5, 1.5))):
        asked = number(f"number {k}", relative=False, tolerance=0.2)
        asked.guess = guess
        asked.commit()
        asked.answer(truth)
    number("never answered").commit()
    order = Prediction("order", "?", order=("a", "b"))
    order.commit()
    order.answer(("a", "b"))
    found = predictions.calibration()
    assert (found.n, found.within) == (4, 3) and found.signed == pytest.approx((-0.5 + 5 + 0) / 3)
    assert str(found) in order.summary
    assert (
        "n = 4" in str(found)
        and "3 within tolerance (75%)" in str(found)
        and "1.5 tolerances too high" in str(found)
    )
    assert "So few prove little" in str(found) and "So few" not in str(
        predictions.Calibration(predictions.FEW, 3, None)
    )


@pytest.mark.parametrize(
    "damage",
    [
        *("", "{", "[1]", "null", "[" * 100_000, '{"a number": 3}'),
        '{"a number": {"text": "Which loss?", "guess": []}}',
        '{"a number": {"text": "Which loss?", "guess": [9], "score": {"within": 1}}}',
    ],
)
def test_a_damaged_file_harms_nothing(damage, tmp_path):
    file = tmp_path / "predictions.json"
    file.write_text(damage)
    assert predictions.calibration().n == 0
    asked = number()
    assert not asked.committed
    asked.guess = 1.2
    asked.commit()
    asked.answer(1.2)
    assert predictions.calibration().n == 1 and number().committed
    aside = tmp_path / "predictions.damaged.json"
    assert not aside.exists() or aside.read_text() == damage
    assert aside.exists() == ('{"text"' not in damage)


def test_a_prediction_that_cannot_be_kept_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HPKIT_CACHE", str(tmp_path / "file"))
    asked = number()
    asked.commit()
    assert asked.committed and "could not be kept" in asked.summary
    assert asked.answer(1.0) is not None
