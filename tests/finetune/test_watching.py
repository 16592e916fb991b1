"""What a run measures beside its losses, held to arithmetic and to a second implementation."""

import math
from types import SimpleNamespace

import pytest

from hpkit.finetune import Yardstick, train, training
from hpkit.finetune.yardstick import WHOLE

from .conftest import SMALL

pytestmark = pytest.mark.slow
EVERY_UPDATE = SMALL.replace(
    max_steps=6, warmup_steps=0, logging_steps=1, optim="sgd", max_grad_norm=1000.0, bf16=False
)
SIZES = WHOLE._replace(update_size=True, sampled_tokens=0)


def logged(run, name: str) -> list:
    return [entry.get(name) for entry in run.history if "loss" in entry]


def test_a_step_of_plain_gradient_descent_is_its_gradient(tiny_model, few_tunes):
    """The change is rate x gradient, so the size is the gradient's norm over the root of N."""
    run = train(EVERY_UPDATE, tiny_model, few_tunes, SIZES)
    sizes = logged(run, "update_rms")
    expected = [norm / math.sqrt(run.parameters) for norm in logged(run, "grad_norm")]
    assert len(sizes) == 6 and sizes == pytest.approx(expected, rel=1e-3)


def test_the_norm_is_that_before_clipping(tiny_model, few_tunes):
    clipped = train(EVERY_UPDATE.replace(max_grad_norm=0.01), tiny_model, few_tunes, SIZES)
    norms = logged(clipped, "grad_norm")
    assert min(norms) > 0.1
    # The step was clipped: it has the limit's length, up to the rounding of so small a change.
    for size in logged(clipped, "update_rms"):
        assert size * math.sqrt(clipped.parameters) == pytest.approx(0.01, rel=5e-3)


def test_adams_first_step_is_about_one_rate_whatever_the_gradient(tiny_model, few_tunes):
    recipe = EVERY_UPDATE.replace(optim="adamw_torch", weight_decay=0.0, adam_epsilon=1e-12)
    run = train(recipe, tiny_model, few_tunes, SIZES)
    first, *later = logged(run, "update_rms")
    # Weights of tokens that do not occur have no gradient and stay.
    assert 0.9 < first <= 1.0 + 1e-3 and max(later) < first
    still = train(recipe.replace(warmup_steps=3), tiny_model, few_tunes, SIZES)
    assert logged(still, "update_rms")[0] is None and logged(still, "learning_rate")[0] == 0


def test_the_old_text_is_evaluated_as_it_would_be_alone(tiny_model, few_tunes):
    """By another path: the same tunes given to the Trainer as the text to evaluate on."""
    recipe = EVERY_UPDATE.replace(eval_strategy="steps", eval_steps=3)
    both = Yardstick(eval_blocks=4, eval_length=48, sampled_tokens=0, old_corpus="aksak")
    both = both._replace(old_blocks=5)
    alone = Yardstick(eval_blocks=5, eval_length=48, sampled_tokens=0)
    run = train(recipe, tiny_model, few_tunes, both)
    old = train(recipe.replace(max_steps=1, eval_strategy="no"), tiny_model, "aksak", alone)
    assert run.eval_old_loss_before == pytest.approx(old.eval_loss_before, abs=1e-6)
    steps = [entry["step"] for entry in run.history if "eval_old_loss" in entry]
    assert steps == [0, 3, 6]
    assert run.history[0] == {
        "step": 0,
        "eval_loss": run.eval_loss_before,
        "eval_old_loss": run.eval_old_loss_before,
    }
    assert run.history[-1]["eval_old_loss"] == run.eval_old_loss_after
    without = train(recipe, tiny_model, few_tunes, both._replace(old_corpus=None))
    assert without.eval_loss_after == run.eval_loss_after and without.eval_old_loss_after is None


def test_an_evaluation_that_the_recipe_does_not_ask_for_is_made_at_the_end(tiny_model, few_tunes):
    recipe = EVERY_UPDATE.replace(eval_strategy="no")
    yardstick = Yardstick(4, 48, 0, old_corpus="aksak", old_blocks=5)
    run = train(recipe, tiny_model, few_tunes, yardstick)
    evaluated = train(
        recipe.replace(eval_strategy="steps", eval_steps=6), tiny_model, few_tunes, yardstick
    )
    assert run.eval_loss_after == evaluated.eval_loss_after
    assert run.eval_old_loss_after == evaluated.eval_old_loss_after


def test_evaluating_is_no_training(monkeypatch):
    """Of ten seconds in the loop five were evaluations: on the new text two, on the old one
    three."""
    log = [{"step": 1, "eval_runtime": 2.0}, {"step": 1, "eval_old_runtime": 3.0}]
    state = SimpleNamespace(log_history=log, num_input_tokens_seen=50)
    trainer = SimpleNamespace(
        train=lambda resume_from_checkpoint: None,
        state=state,
        optimizer=SimpleNamespace(state={}),
    )
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    result = training.fit(trainer, EVERY_UPDATE)
    assert (result.seconds, result.tokens, result.tokens_per_second) == (5.0, 50, 10.0)
