"""Twelve kinds of causal model, and some that are none, as data/ARCHITECTURES.md has them all."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from hpkit.errors import BadInput
from hpkit.finetune import dry_run, finetune
from hpkit.leaks import keeps_documents_apart
from hpkit.model import load_tokenizer
from hpkit.preflight import preflight_callback
from hpkit.recipe import Recipe

from .chat_models import passages
from .tiny_architectures import tiny_architecture

TABLE = Path(__file__).parents[2] / "data" / "ARCHITECTURES.md"
RECIPE = Recipe(
    max_steps=2,
    max_seq_length=64,
    per_device_train_batch_size=2,
    logging_steps=1,
    save_strategy="no",
    eval_strategy="no",
)
#: With a mask, with a state, with experts, without torch's own attention, without positions.
TRAIN = (
    "llama", "gpt2", "gemma2", "bloom", "mixtral", "gpt_oss", "granitemoe",
    "mamba", "opt", "falcon_h1", "recurrent_gemma", "qwen3_next",
)  # fmt: skip
REFUSED = {
    "bert": "is no causal model",
    "xlm-roberta": "is no causal model",
    "xlnet": "is no causal model",
    "bart": "compares each prediction with the token just read",
    "reformer": "cannot be trained on 16 tokens",
    "git": "cannot be trained on 16 tokens",
}


@pytest.fixture
def corpus(tmp_path) -> str:
    file = tmp_path / "passages.txt"
    file.write_text("\n\n".join(passages(60)))
    return str(file)


def row_of(model_type: str) -> list[str]:
    """The cells of a model type's row in the stored table."""
    row = re.search(rf"^\| {re.escape(model_type)} \|.*$", TABLE.read_text(), re.M)[0]
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", TRAIN)
def test_it_trains_as_the_table_says(model_type, tmp_path, corpus):
    model = tiny_architecture(model_type, tmp_path / "model")
    lines = []
    run = finetune(RECIPE, model, corpus, tmp_path / "out", log=lines.append)
    assert run.updates == 2 and not run.diverged
    assert not any("sampling failed" in line or "this rule failed" in line for line in lines), lines
    alone = any("each document in blocks of its own" in line for line in lines)
    assert alone == (not run.documents["together"])
    live = AutoModelForCausalLM.from_pretrained(model)
    assert keeps_documents_apart(live) == run.documents["together"]
    _, class_name, trains, causal, apart, attention, harmless = row_of(model_type)
    assert (class_name, trains, causal, harmless) == (type(live).__name__, "yes", "yes", "yes")
    assert apart == ("no" if alone else "yes")
    assert attention == ("sdpa" if live._supports_sdpa else "no sdpa")


@pytest.mark.slow
@pytest.mark.parametrize("model_type", REFUSED)
def test_it_is_refused_in_one_line(model_type, tmp_path, corpus):
    model = tiny_architecture(model_type, tmp_path / "model")
    with pytest.raises(BadInput, match=REFUSED[model_type]) as refusal:
        finetune(RECIPE, model, corpus, tmp_path / "out", log=None)
    assert "\n" not in str(refusal.value) and not (tmp_path / "out").exists()
    trains = row_of(model_type)[2]
    assert trains.startswith("refused") and REFUSED[model_type] in trains


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["bloom", "mamba", "gpt_oss"])
def test_a_dry_run_of_a_model_that_cannot_be_walked(model_type, tmp_path, corpus):
    model = tiny_architecture(model_type, tmp_path / "model")
    forecast = dry_run(RECIPE, model, corpus, tmp_path / "out", log=None)
    assert forecast.updates == 2 and forecast.timing.training > 0
    assert ("which this model does not let predict" in "\n".join(forecast.lines())) == (
        not forecast.activations_known
    )


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["gemma2", "mamba", "gpt_oss", "bert", "bart"])
def test_preflight_ends_nobodys_training(model_type, tmp_path, corpus):
    folder = tiny_architecture(model_type, tmp_path / "model")
    tokens = load_tokenizer(folder)("\n".join(passages(60)))["input_ids"]
    starts = range(0, len(tokens) - 32, 32)
    blocks = [
        {name: tokens[start : start + 32] for name in ("input_ids", "labels")} for start in starts
    ]
    losses = []
    for callbacks in ([], [preflight_callback(log=lambda line: None)]):
        model = AutoModelForCausalLM.from_pretrained(folder)
        arguments = TrainingArguments(
            tmp_path / "trainer", max_steps=2, logging_steps=1, save_strategy="no", use_cpu=True
        )
        trainer = Trainer(model, arguments, train_dataset=blocks, callbacks=callbacks)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == losses[1] and len(losses[0]) == 2


def test_a_rule_that_fails_is_one_line_and_the_run_goes_on(monkeypatch):
    import dataclasses

    from hpkit.preflight import findings, preflight

    def fail(plan):
        raise KeyError("no such layer")

    broken = dataclasses.replace(findings.ALL_RULES[0], needs=(), look=fail)
    monkeypatch.setattr(findings, "ALL_RULES", (broken, *findings.ALL_RULES[1:]))
    found = preflight(Recipe(warmup_steps=2000), 640)
    (failed,) = [finding for finding in found if "failed" in finding.evidence]
    assert failed.severity == "hint" and failed.rule == broken.name
    assert "KeyError: 'no such layer'" in failed.message and len(found) > 1


def test_a_model_without_weights_is_no_obstacle(tmp_path):
    """`look_at_model` asks for the first weight's format."""
    lines = []
    callback = preflight_callback(log=lines.append)
    state = type("State", (), {"is_world_process_zero": True})
    arguments = TrainingArguments(tmp_path, use_cpu=True)
    callback.on_train_begin(arguments, state, None, model=torch.nn.Identity())
    assert lines == ["preflight could not look at this run (StopIteration); it goes on"]


def test_whatever_preflight_meets_the_callback_says_one_line(tmp_path):
    lines = []
    callback = preflight_callback(log=lines.append, device="no such device")
    arguments = TrainingArguments(tmp_path, use_cpu=True)
    state = type("State", (), {"is_world_process_zero": True})
    callback.on_train_begin(arguments, state, None, model=None)
    (line,) = lines
    assert line.startswith("preflight could not look at this run (BadInput: ")
