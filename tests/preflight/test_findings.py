"""preflight as a whole: the order of its findings, its silence, the broken run, and the ways in."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TrainingArguments

from hpkit.capability import MACHINES
from hpkit.hyperparameters import CARDS
from hpkit.measured_memory import optimizer_state_bytes
from hpkit.preflight import Written, preflight, preflight_callback
from hpkit.preflight.arguments import DEPRECATED, SUCCESSORS
from hpkit.recipe import NOTES, Recipe

from .support import Rows, found, llama, train


def test_errors_come_first():
    order = [finding.severity for finding in preflight(NOTES, 640)]
    assert order == sorted(order, key=["error", "warning", "hint"].index)
    assert {"error", "warning", "hint"} == set(order)


def test_what_is_not_known_is_not_complained_of():
    run = dict(warmup_steps=2000, gradient_accumulation_steps=32, logging_steps=2000)
    fired = set(found(run, 640))
    assert {"warmup-outlasts-run", "few-updates", "no-training-loss", "batch-without-rate"} <= fired
    assert set(found(run)) == {"batch-without-rate"}  # nothing to count
    without_epochs = Written(unread=("num_train_epochs", "learning_rate"))
    assert not found(run, 640, written=without_epochs)
    anything = Written(unread=("**kwargs",))
    assert not found(run, 640, written=anything)
    assert not found(dict(bf16=True), device="cpu", written=Written(unread=("use_cpu",)))
    # GRPO's updates count otherwise.
    accumulating = dict(gradient_accumulation_steps=32)
    assert not found(accumulating, 640, written=Written(name="GRPOConfig"))
    # TRL's default is bf16.
    sft = Written(name="SFTConfig")
    assert "no-half-precision" not in found({}, device="a100", written=sft)
    # max_steps tells the updates without a number of examples.
    assert "eval-beyond-run" in found(dict(max_steps=60, eval_strategy="steps"))
    # Nobody waits for an evaluation of a trial.
    assert "eval-beyond-run" not in found(dict(max_steps=20, eval_strategy="steps"))
    # A script that asks for few updates itself tries something out; a recipe is a run to be.
    assert "few-updates" not in found(dict(max_steps=20))
    assert "few-updates" in found(Recipe(max_steps=20))
    # Of an unknown rate nothing is said, but warmup is counted.
    warming = dict(warmup_steps=2000, max_steps=60, logging_steps=5, save_steps=20)
    without_rate = Written(unread=("learning_rate",))
    assert {"warmup-outlasts-run"} == set(found(warming, written=without_rate))
    far = dict(max_steps=60, logging_steps=500, eval_strategy="steps")
    assert "eval-beyond-run" in found(far)
    assert "eval-beyond-run" in found(far, written=sft)
    assert "eval-beyond-run" not in found(far, written=Written(unread=("eval_steps",)))


def test_the_notes_on_640_examples():
    """Must show 1, and FACTS: 52,000 examples end at 20 % of the rate and still rising."""
    fired = found(NOTES, 640)
    assert fired["few-updates"].evidence["updates"] == 6
    assert "at batch 8 x 32" in fired["few-updates"].message
    assert fired["warmup-outlasts-run"].evidence == {"warmup_updates": 2000, "updates": 6}
    assert "it never ends" in fired["warmup-outlasts-run"].message
    assert "peak is 3.0e-7, 0.3 % of the 1.0e-4" in fired["peak-not-reached"].message
    assert "no training loss is logged" in fired["no-training-loss"].message
    long = found(NOTES, 52_000)["peak-not-reached"]
    assert long.evidence["peak_learning_rate"] == pytest.approx(2.04e-5)


WORDS = st.sampled_from(["", "steps", "epoch", "best", "linear", "polynomial", "constant"])


KWARGS = st.dictionaries(
    st.sampled_from(["lr_end", "min_lr", "num_cycles", "x"]), st.text(max_size=2), max_size=2
)


LITERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**5),
    st.floats(),
    WORDS,
    st.lists(st.integers(), max_size=2),
    KWARGS,
)


NAMES = [
    *CARDS,
    *SUCCESSORS,
    *DEPRECATED,
    "max_length",
    "output_dir",
    "load_best_model_at_end",
    "metric_for_best_model",
    "anything",
]


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(st.sampled_from(NAMES), LITERALS, max_size=8),
    st.sampled_from([None, 1, 640, 52_000]),
    st.sampled_from([None, "t4", "cpu"]),
    st.sampled_from(["TrainingArguments", "SFTConfig", "GRPOConfig", "SFTTrainer"]),
    st.sampled_from([(), ("**kw",), ("learning_rate", "bf16")]),
)
def test_whatever_a_script_writes_there_is_an_answer(run, examples, device, name, unread):
    written = Written(name=name, unread=unread)
    for finding in preflight(run, examples, device=device, lengths=[3, 500], written=written):
        assert "\n" not in finding.message


def test_arguments_of_a_live_trainer_and_a_dict_agree(tmp_path):
    run = dict(
        per_device_train_batch_size=4,
        warmup_steps=100,
        logging_steps=500,
        max_steps=60,
        lr_scheduler_type="constant",
    )
    live = found(TrainingArguments(str(tmp_path), use_cpu=True, **run), 100)
    assert set(live) == {"constant-with-warmup", "no-training-loss", "save-beyond-run"}
    # A script that names no interval of checkpoints is not asked about it.
    assert set(found(run, 100)) == set(live) - {"save-beyond-run"}
    assert set(found(run | dict(save_steps=500), 100)) == set(live)


@pytest.mark.slow
def test_the_callback_speaks_and_changes_nothing(tmp_path):
    run = dict(max_steps=3, optim="adamw_8bit", warmup_steps=10, per_device_train_batch_size=4)
    spoken = []
    with_it = train(tmp_path, llama(), Rows(8), preflight_callback(log=spoken.append), **run)
    assert any(
        line.startswith("error warmup-outlasts-run: warmup takes 10 updates and the run has 3")
        for line in spoken
    )
    assert any(line.startswith("hint 8bit-saves-little") for line in spoken)  # it saw the model
    without = train(tmp_path, llama(), Rows(8), **run)
    for ours, theirs in zip(with_it.model.parameters(), without.model.parameters()):
        assert torch.equal(ours, theirs)
    states_with_it = optimizer_state_bytes(with_it.optimizer.state)
    assert states_with_it == optimizer_state_bytes(without.optimizer.state)
    spoken.clear()
    quiet = dict(
        num_train_epochs=60,
        logging_steps=5,
        save_steps=20,
        save_strategy="steps",
        bf16=True,
        save_total_limit=1,
    )
    speaking = preflight_callback(log=spoken.append, device=MACHINES["cpu"])
    train(tmp_path, llama(), Rows(8), speaking, **quiet)
    assert spoken == ["preflight: nothing found"]
