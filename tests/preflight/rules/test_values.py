"""Rules about values, against what transformers refuses and what trainings do."""

import inspect

import pytest
import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments

from hpkit.preflight import Surroundings, Written
from hpkit.preflight.rules.rates import HIGHEST
from hpkit.recipe import Recipe

from ..support import LONG, WIDTH, Case, Rows, found, llama, mended, train

#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "invalid-value": Case(
        about=dict(eval_strategy="step"),
        silent=dict(save_strategy="best", max_steps=0, save_steps=0, bf16=None),
    ),
    "constant-with-warmup": Case(
        about=Recipe(lr_scheduler_type="constant", warmup_steps=100),
        silent=Recipe(lr_scheduler_type="constant_with_warmup", warmup_steps=100),
    ),
    "polynomial-below-end": Case(
        about=Recipe(lr_scheduler_type="polynomial", learning_rate=1e-7),
        silent=Recipe(lr_scheduler_type="polynomial", learning_rate=2e-7),
    ),
    "measured-without-evaluation": Case(
        about=dict(lr_scheduler_type="greedy"),
        silent=dict(lr_scheduler_type="greedy", eval_strategy="epoch"),
    ),
    "epochs-idle": Case(
        about=dict(max_steps=500, num_train_epochs=3),
        silent=dict(max_steps=500),
    ),
    "evaluation-idle": Case(
        about=dict(eval_steps=100),
        silent=dict(eval_steps=100, evaluation_strategy="steps"),
    ),
    "weight-decay-negligible": Case(
        about=LONG.replace(weight_decay=0.01),
        known=dict(examples=1000),
        silent=LONG.replace(weight_decay=10.0),
        known_of_silent=dict(examples=1000),
    ),
    "rate-far-off": Case(
        about=dict(learning_rate=3e-4),
        known=dict(written=Written(around=Surroundings(model_name="org/Model-8B"))),
        silent=dict(learning_rate=3e-4),
        known_of_silent=dict(
            written=Written(around=Surroundings(model_name="org/Model-8B", adapter="LoraConfig"))
        ),
    ),
    "embedding-rate-high": Case(
        about=dict(learning_rate=5e-5, embedding_learning_rate=5e-4),
        silent=dict(learning_rate=5e-5, embedding_learning_rate=5e-6),
    ),
    "generation-idle": Case(
        about=dict(generation_num_beams=4),
        known=dict(written=Written(name="Seq2SeqTrainingArguments")),
        silent=dict(generation_num_beams=4, predict_with_generate=True),
        known_of_silent=dict(written=Written(name="Seq2SeqTrainingArguments")),
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


def test_what_transformers_refuses(tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-7)
    with pytest.raises(ValueError):
        transformers.get_scheduler("polynomial", optimizer, 0, 10)
    for schedule in ("greedy", "reduce_lr_on_plateau"):
        with pytest.raises(ValueError, match="requires an eval strategy"):
            TrainingArguments(str(tmp_path), use_cpu=True, lr_scheduler_type=schedule)


def test_what_transformers_takes_is_no_invalid_value(tmp_path):
    """With 0 it saves and evaluates in its own way."""
    for run in (
        dict(save_steps=0),
        dict(eval_steps=0, eval_strategy="steps"),
        dict(bf16=None),
        dict(save_strategy="best", metric_for_best_model="loss", eval_strategy="epoch"),
        dict(save_total_limit=0),
        dict(lr_scheduler_kwargs='{"num_cycles": 2}'),
    ):
        TrainingArguments(str(tmp_path), use_cpu=True, **run)
        assert "invalid-value" not in found(run), run


def test_a_number_in_quotation_marks_is_said_to_be_a_text(tmp_path):
    run = dict(learning_rate="2e-5", max_steps=1)
    with pytest.raises(TypeError):
        train(tmp_path, llama(), Rows(8), **run)
    fired = found(run)["invalid-value"]
    assert fired.message == 'learning_rate is "2e-5", a text'
    assert fired.fix == "set learning_rate=2e-05: it takes a number above 0"


def test_max_steps_counts_and_epochs_do_not(tmp_path):
    run = dict(max_steps=3, num_train_epochs=50, per_device_train_batch_size=8)
    assert train(tmp_path, llama(), Rows(8), **run).state.global_step == 3
    fired = found(run)["epochs-idle"]
    assert fired.message == "max_steps 3 counts, and num_train_epochs 50 does nothing"
    # Live arguments have a value for each, whoever wrote them.
    assert "epochs-idle" not in found(TrainingArguments(str(tmp_path), use_cpu=True, **run))


def test_an_interval_alone_evaluates_never(tmp_path):
    run = dict(eval_steps=1, max_steps=3)
    log = train(tmp_path, llama(), Rows(8), **run).state.log_history
    assert not [entry for entry in log if "eval_loss" in entry]
    log = train(tmp_path, llama(), Rows(8), **run, eval_strategy="steps").state.log_history
    assert len([entry for entry in log if "eval_loss" in entry]) == 3
    assert "evaluation-idle" not in found(run | dict(eval_strategy="steps"))


def test_misspelt_names(tmp_path):
    for optim in ("adamw_hf", "adam8bit"):
        with pytest.raises(ValueError, match=optim):
            TrainingArguments(str(tmp_path), use_cpu=True, optim=optim)
        assert optim in found(dict(optim=optim))["invalid-value"].message
    fired = found(dict(optim="adamw_8bits"))["invalid-value"]
    assert fired.changes == {"optim": "adamw_8bit"}
    # Unsloth has optimizers of its own.
    assert not found(dict(optim="adamw_flash"), written=Written(unsloth=True))


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
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, **run)
    fired = found(arguments)["weight-decay-negligible"]
    # The habitual 0.1 of a script does no harm, and is not worth a word.
    assert "weight-decay-negligible" not in found(run)
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
    scaled = mended(large, fired)
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


@pytest.mark.parametrize(
    "rate, around, name, speaks",
    [
        (3e-4, dict(model_name="org/Model-8B"), "TrainingArguments", True),
        (1e-4, dict(model_name="org/Model-8B"), "TrainingArguments", False),
        (3e-4, dict(model_name="org/model_1_6b"), "TrainingArguments", False),
        (3e-4, dict(model_name="org/Model-8B", adapter="LoraConfig"), "TrainingArguments", False),
        (2e-6, dict(model_name="org/Model-8B", adapter="LoraConfig"), "SFTConfig", True),
        (2e-6, dict(model_name="org/Model-8B", adapter="LoraConfig"), "GRPOConfig", False),
        (2e-6, dict(model_name="o/8B", adapter="L", other_loss="DPOTrainer"), "SFTConfig", True),
        (
            2e-6,
            dict(model_name="o/8B", adapter="L", other_loss="DPOTrainer"),
            "TrainingArguments",
            False,
        ),
        (3e-4, dict(model_name="o/8B", other_loss="PPOTrainer"), "TrainingArguments", False),
        (2e-3, dict(model_name="org/m"), "TrainingArguments", True),
        (2e-3, dict(model_name="google/flan-t5-base"), "TrainingArguments", False),
        (2e-4, dict(model_name="org/m"), "DPOConfig", True),
        (1e-3, dict(model_name="org/m", adapter="LoraConfig"), "DPOConfig", True),
        (2e-3, {}, "TrainingArguments", False),
    ],
)
def test_rates_ten_times_off(rate, around, name, speaks):
    written = Written(
        name=name,
        origin="trl" if name.endswith("Config") else "transformers",
        around=Surroundings(**around),
    )
    assert ("rate-far-off" in found(dict(learning_rate=rate), written=written)) == speaks
    # Lion and GaLore have rates of another size.
    other = dict(learning_rate=rate, optim="lion_8bit")
    assert "rate-far-off" not in found(other, written=written)


def test_ten_times_the_usual_rate_is_worse_by_the_recorded_runs():
    """Full fine-tunes of the starter: the best rate, and ten times the most that is usual."""
    from hpkit.records import load_runs

    losses = {}
    for run in load_runs():
        losses.setdefault(run.recipe.learning_rate, []).append(run.eval_loss_after)
    mean = {rate: sum(values) / len(values) for rate, values in losses.items()}
    best = min(mean.values())
    high = [mean[rate] for rate in mean if rate >= 10 * HIGHEST["all weights"]]
    assert high and min(high) > best


def test_without_generation_the_metrics_get_logits():
    """Its settings are read by predict_with_generate alone."""
    arguments = transformers.Seq2SeqTrainingArguments("unused", use_cpu=True)
    assert arguments.predict_with_generate is False
    source = inspect.getsource(transformers.Seq2SeqTrainer.prediction_step)
    assert "if not self.args.predict_with_generate or prediction_loss_only" in source
