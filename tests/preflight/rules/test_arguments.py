"""Rules about the arguments themselves, against what transformers refuses and what trainings do."""

import warnings

import pytest
import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments

from hpkit.preflight import Written
from hpkit.preflight.arguments import SUCCESSORS, training_argument_names
from hpkit.recipe import Recipe

from ..support import LONG, WIDTH, Case, Rows, found, llama, mended, train

#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "invalid-value": Case(
        about=dict(eval_strategy="step"),
        silent=dict(save_strategy="best", max_steps=0),
        by_hand=True,
    ),
    "removed-argument": Case(
        about=dict(warmup_ratio=0.1, evaluation_strategy="steps"),
        silent=dict(warmup_steps=0.1),
    ),
    "moved-argument": Case(
        about=dict(max_seq_length=2048),
        known=dict(written=Written(name="SFTTrainer", unread=("tokenizer",))),
        silent=dict(),
        known_of_silent=dict(written=Written(name="SFTTrainer", unread=("processing_class",))),
        by_hand=True,
    ),
    "deprecated-argument": Case(
        about=dict(gradient_checkpointing=True),
        silent=dict(activation_checkpointing=True),
    ),
    "constant-with-warmup": Case(
        about=Recipe(lr_scheduler_type="constant", warmup_steps=100),
        silent=Recipe(lr_scheduler_type="constant_with_warmup", warmup_steps=100),
    ),
    "polynomial-below-end": Case(
        about=Recipe(lr_scheduler_type="polynomial", learning_rate=1e-7),
        silent=Recipe(lr_scheduler_type="polynomial", learning_rate=2e-7),
        by_hand=True,
    ),
    "weight-decay-negligible": Case(
        about=LONG.replace(weight_decay=0.01),
        known=dict(examples=1000),
        silent=LONG.replace(weight_decay=10.0),
        known_of_silent=dict(examples=1000),
    ),
    "batch-without-rate": Case(
        about=dict(gradient_accumulation_steps=32),
        silent=dict(gradient_accumulation_steps=32, learning_rate=5e-5),
    ),
    "seed-after-model": Case(
        about=dict(seed=1),
        known=dict(written=Written(unseeded="AutoModelForSequenceClassification on line 7")),
        silent=dict(seed=1),
        by_hand=True,
    ),
}
# An older transformers knows one name only, and there is nothing to be said.
if "activation_checkpointing" not in training_argument_names():
    CASES["deprecated-argument"] = None


def test_what_transformers_refuses(tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-7)
    with pytest.raises(ValueError):
        transformers.get_scheduler("polynomial", optimizer, 0, 10)
    for argument in SUCCESSORS:
        with pytest.raises(TypeError, match=argument):
            TrainingArguments(str(tmp_path), **{argument: None})
    arguments = TrainingArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(TypeError, match="tokenizer"):
        Trainer(model=llama(), args=arguments, tokenizer=None)


def test_what_transformers_deprecates_is_said(tmp_path):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        TrainingArguments(str(tmp_path), use_cpu=True, gradient_checkpointing=True)
    said = any(
        "`gradient_checkpointing` is deprecated" in str(warning.message) for warning in warned
    )
    assert ("deprecated-argument" in found(dict(gradient_checkpointing=True))) == said


def test_misspelt_names(tmp_path):
    for optim in ("adamw_hf", "adam8bit"):
        with pytest.raises(ValueError, match=optim):
            TrainingArguments(str(tmp_path), use_cpu=True, optim=optim)
        assert optim in found(dict(optim=optim))["invalid-value"].message
    assert "did you mean adamw_8bit?" in found(dict(optim="adamw_8bits"))["invalid-value"].fix
    fired = found(dict(lerning_rate=1e-4))["removed-argument"]
    assert "did you mean learning_rate?" in fired.fix
    # TRL is not here to ask.
    assert found(dict(lerning_rate=1e-4), written=Written(name="SFTConfig")) == {}


def test_a_constant_schedule_takes_no_warmup(tmp_path):
    run = dict(lr_scheduler_type="constant", warmup_steps=5, max_steps=8, logging_steps=1)
    log = train(tmp_path, llama(), Rows(8), **run).state.log_history
    assert {entry["learning_rate"] for entry in log if "loss" in entry} == {1e-2}
    assert "constant-with-warmup" in found(run)


@pytest.mark.slow
def test_weight_decay_shrinks_by_what_is_said(tmp_path):
    """A weight without a gradient: decay alone moves it."""
    model = llama()
    model.idle = torch.nn.Linear(64, 64, bias=False)
    torch.nn.init.ones_(model.idle.weight)

    class Still(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            model.idle.weight.grad = torch.zeros_like(model.idle.weight)

    run = dict(
        weight_decay=0.1, max_steps=60, warmup_steps=10, learning_rate=1e-3, optim="adamw_torch"
    )
    fired = found(run)["weight-decay-negligible"]
    train(tmp_path, model, Rows(8), Still(), **run)
    assert 1 - model.idle.weight.mean().item() == pytest.approx(fired.evidence["shrunk"], rel=1e-3)


@pytest.mark.slow
def test_a_larger_batch_at_the_same_rate_learns_less(tmp_path):
    """The same epochs in batches 16 times as large: fewer updates, and a worse loss.

    The square root rule wins back a part.
    """

    def loss(recipe: Recipe) -> float:
        trainer = train(
            tmp_path,
            llama(),
            Rows(256),
            per_device_train_batch_size=4,
            num_train_epochs=6,
            gradient_accumulation_steps=recipe.gradient_accumulation_steps,
            learning_rate=recipe.learning_rate,
        )
        return trainer.evaluate()["eval_loss"]

    base = Recipe(per_device_train_batch_size=4, num_train_epochs=6.0, learning_rate=1e-3)
    large = base.replace(gradient_accumulation_steps=16)
    fired = found(large, base=base)["batch-without-rate"]
    scaled = mended(large, fired.fix)
    assert scaled.learning_rate == pytest.approx(4e-3)
    assert loss(base) < loss(scaled) < loss(large)


def test_a_model_built_before_the_seed_is_not_seeded(tmp_path):
    """The Trainer's seed comes too late for weights that are already drawn."""

    def first_weights(before) -> torch.Tensor:
        torch.seed()  # as a fresh process would be
        before()
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**WIDTH, num_key_value_heads=2)
        )
        Trainer(model=model, args=TrainingArguments(str(tmp_path), use_cpu=True, seed=1))
        return model.lm_head.weight.detach().clone()

    assert not torch.equal(first_weights(lambda: None), first_weights(lambda: None))
    mended = [first_weights(lambda: transformers.set_seed(1)) for _ in range(2)]
    assert torch.equal(*mended)
