"""Rules about updates, against the accounting, against transformers and against real trainings."""

import math
import re

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TrainingArguments

from hpkit.accounting import account
from hpkit.preflight import preflight
from hpkit.preflight.rules.updates import FEW_UPDATES, miscounts_loss
from hpkit.recipe import NOTES, STARTER, Recipe

from ..support import LONG, Case, Rows, bert, found, llama, mended, train

THOUSAND = dict(examples=1000)
#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "warmup-outlasts-run": Case(
        about=NOTES,
        known=dict(examples=640),
        silent=NOTES.replace(warmup_steps=0),
        known_of_silent=dict(examples=640),
    ),
    "warmup-over-third": Case(
        about=LONG.replace(warmup_steps=150),
        known=THOUSAND,
        silent=LONG,
        known_of_silent=THOUSAND,
    ),
    "peak-not-reached": Case(
        about=NOTES,
        known=dict(examples=52_000),
        silent=LONG,
        known_of_silent=THOUSAND,
    ),
    "few-updates": Case(
        about=NOTES,
        known=dict(examples=640),
        silent=LONG,
        known_of_silent=THOUSAND,
    ),
    "no-training-loss": Case(
        about=LONG.replace(logging_steps=400),
        known=THOUSAND,
        silent=LONG,
        known_of_silent=THOUSAND,
    ),
    "eval-beyond-run": Case(
        about=LONG.replace(eval_strategy="steps", eval_steps=376),
        known=THOUSAND,
        silent=LONG.replace(eval_strategy="steps", eval_steps=375),
        known_of_silent=THOUSAND,
    ),
    "save-beyond-run": Case(
        about=LONG.replace(save_steps=376),
        known=THOUSAND,
        silent=LONG.replace(save_steps=375),
        known_of_silent=THOUSAND,
    ),
    "best-model-mismatch": Case(
        about=dict(load_best_model_at_end=True, eval_strategy="epoch"),
        silent=dict(load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch"),
    ),
    "accumulation-miscounts-loss": Case(
        about=dict(gradient_accumulation_steps=4),
        known=dict(model=bert(transformers.BertForSequenceClassification)),
        silent=dict(gradient_accumulation_steps=4),
        known_of_silent=dict(model=bert(transformers.BertLMHeadModel, is_decoder=True)),
    ),
}


@pytest.mark.slow
def test_the_broken_run_is_broken_as_foretold_and_the_mended_one_learns(tmp_path):
    """A small run by the notes' pattern does what is said of it, before and after the changes.

    Compared: warmup, peak, logs, evaluations and checkpoints.
    """
    broken = dict(
        per_device_train_batch_size=4,
        gradient_accumulation_steps=8,
        warmup_steps=2000,
        logging_steps=2000,
        num_train_epochs=2,
        learning_rate=1e-2,
        eval_strategy="steps",
        save_strategy="steps",
        save_steps=500,
    )
    rows = Rows(80)
    fired = found(TrainingArguments(str(tmp_path), use_cpu=True, **broken), 80)
    trainer = train(tmp_path / "broken", llama(), rows, **broken)
    log = trainer.state.log_history
    assert trainer.state.global_step == fired["few-updates"].evidence["updates"] == 6
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(
        fired["peak-not-reached"].evidence["peak_learning_rate"]
    )
    assert not [entry for entry in log if "loss" in entry]
    assert "no-training-loss" in fired
    assert [entry["step"] for entry in log if "eval_loss" in entry] == [6]
    assert "eval-beyond-run" in fired
    assert [folder.name for folder in (tmp_path / "broken").iterdir()] == ["checkpoint-6"]
    assert "save-beyond-run" in fired
    (stayed,) = evaluation_losses(log)

    run = mended_step_by_step(broken, 80)
    still = set(found(run, 80))
    assert not {"few-updates", "warmup-outlasts-run", "peak-not-reached"} & still
    assert "no-training-loss" not in still
    trainer = train(tmp_path / "mended", llama(), rows, **run)
    log = trainer.state.log_history
    highest = max(entry["learning_rate"] for entry in log if "loss" in entry)
    assert highest == pytest.approx(1e-2, rel=0.1)
    losses = evaluation_losses(log)
    assert len(losses) > 3
    chance = math.log(64)  # the loss of a model that knows nothing of 64 tokens
    assert chance - losses[-1] > 10 * abs(chance - stayed)


def mended_step_by_step(run: dict, examples: int) -> dict:
    """One change after the other, as a reader makes them: one may mend what others are about."""
    for rule in (
        "few-updates",
        "warmup-outlasts-run",
        "no-training-loss",
        "eval-beyond-run",
        "save-beyond-run",
    ):
        fired = found(run, examples)
        if rule in fired:
            run = mended(run, fired[rule])
    return run


def evaluation_losses(log: list[dict]) -> list[float]:
    return [entry["eval_loss"] for entry in log if "eval_loss" in entry]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["no", "steps", "epoch"]),
    st.sampled_from(["no", "steps", "epoch", "best"]),
    st.sampled_from([None, 10, 15, 100, 0.1, 0.2, 0.25]),
    st.sampled_from([10, 30, 45, 500, 0.1, 0.2, 0.3, 0.5]),
    st.booleans(),
)
def test_transformers_refuses_what_is_called_a_mismatch(evaluate, save, each, kept, best):
    run = dict(
        eval_strategy=evaluate,
        save_strategy=save,
        eval_steps=each,
        save_steps=kept,
        load_best_model_at_end=best,
    )
    try:
        TrainingArguments(output_dir="unused", use_cpu=True, **run)
        refused = False
    except ValueError:
        refused = True
    # No Recipe takes `best`, so the rule keeps silent about it.
    assert ("best-model-mismatch" in found(run)) == (refused and save != "best")


SEQ2SEQ = dict(
    d_model=32,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    vocab_size=64,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    dropout=0.0,
)


HEADS = {
    "BertForSequenceClassification": lambda head: bert(head, num_labels=3),
    "BertForMaskedLM": bert,
    "BertLMHeadModel": lambda head: bert(head, is_decoder=True),
    "LlamaForCausalLM": llama,
    "LlamaForSequenceClassification": lambda head: llama(head, num_labels=3),
    "LlamaForTokenClassification": lambda head: llama(head, num_labels=64),
    "GPT2LMHeadModel": lambda head: head(
        transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=64, n_positions=64)
    ),
    "BartForConditionalGeneration": lambda head: head(transformers.BartConfig(**SEQ2SEQ)),
    "T5ForConditionalGeneration": lambda head: head(
        transformers.T5Config(
            d_model=32,
            d_kv=16,
            d_ff=64,
            num_layers=1,
            num_heads=2,
            vocab_size=64,
            decoder_start_token_id=0,
        )
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_the_loss_that_accumulation_multiplies(name, tmp_path):
    """Eight rows of equal length, in one micro-batch and in eight.

    The logged loss is the same, or eight times as large.
    """
    torch.manual_seed(0)
    head = getattr(transformers, name)
    model = HEADS[name](head)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    classes = 3 if "Sequence" in name else 0
    rows = Rows(8, classes=classes)
    logged = []
    for batch in (8, 1):
        run = dict(
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=8 // batch,
            max_steps=1,
            logging_steps=1,
            learning_rate=1e-30,  # the model stays as it is
        )
        logged.append(train(tmp_path, model, rows, **run).state.log_history[0]["loss"])
    factor = logged[1] / logged[0]
    fired = found(run, model=model).get("accumulation-miscounts-loss")
    assert factor == pytest.approx(fired.evidence["factor"] if fired else 1, rel=0.1)
    model.accepts_loss_kwargs = False  # the change that the finding names
    changed = train(tmp_path, model, rows, **run).state.log_history[0]["loss"]
    assert changed == pytest.approx(logged[0], rel=0.1)
    assert "accumulation-miscounts-loss" not in found(run, model=model)
    miscounted = name not in ("BertLMHeadModel", "LlamaForCausalLM", "GPT2LMHeadModel")
    assert miscounts_loss(head) == bool(fired) == miscounted


@pytest.mark.parametrize(
    "examples, epochs", [(640, 2.0), (640, 0.7), (407, 3.0), (90, 1.0), (5000, 2.5)]
)
def test_the_accumulation_it_proposes_is_the_most_that_leaves_enough_updates(examples, epochs):
    """However much is asked for, it answers at once.

    A float in a script, 3e221, once kept it counting for an hour.
    """
    counts = {}
    for tried in range(1, 65):
        recipe = Recipe(gradient_accumulation_steps=tried, num_train_epochs=epochs)
        counts[tried] = account(recipe, examples).updates
    enough = [tried for tried, updates in counts.items() if updates >= FEW_UPDATES]
    for accumulation in (64, 10**6, 10**220):
        run = dict(gradient_accumulation_steps=accumulation, num_train_epochs=epochs)
        fired = found(run, examples).get("few-updates")
        if fired is None:
            assert counts[64] >= FEW_UPDATES and accumulation == 64
        elif enough:
            assert (
                fired.fix
                == f"set gradient_accumulation_steps={enough[-1]}: {counts[enough[-1]]} updates"
            )
        else:
            assert fired.fix.startswith("set num_train_epochs=")


@pytest.mark.parametrize("warmup, speaks", [(125, False), (126, True), (374, True), (375, False)])
def test_a_third_is_the_limit_of_warmup(warmup, speaks):
    """Of 375 updates; a warmup as long as the run is another rule's."""
    found = preflight(STARTER.replace(max_steps=375, warmup_steps=warmup), 3000)
    assert ("warmup-over-third" in {finding.rule for finding in found}) is speaks


@pytest.mark.parametrize("updates", range(1, 40))
def test_a_shorter_warmup_is_short_enough_for_every_run(updates):
    """What the finding says to do silences it, however few updates there are."""
    recipe = STARTER.replace(max_steps=updates, warmup_steps=max(updates - 1, 1))
    about_warmup = ("warmup-over-third", "warmup-outlasts-run")
    (finding,) = (one for one in preflight(recipe, 3000) if one.rule in about_warmup)
    value = float(re.search(r"set warmup_steps=([\d.]+)", finding.fix)[1])
    after = preflight(recipe.replace(warmup_steps=value), 3000)
    assert not [one for one in after if one.rule in about_warmup]
