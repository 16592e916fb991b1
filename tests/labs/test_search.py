"""The search through the Trainer: each trial is the run that `train` makes at that rate."""

import importlib.util

import pytest

from hpkit.errors import BadInput
from hpkit.finetune import train
from hpkit.labs.search import search_learning_rate
from hpkit.recipe import STARTER

pytestmark = pytest.mark.slow

#: Every update sees all examples, so that their order, which depends on what was drawn before, makes no difference.
RECIPE = STARTER.replace(
    max_seq_length=32,
    max_steps=4,
    warmup_steps=0,
    per_device_train_batch_size=512,
    eval_strategy="no",
)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "optuna" else find(name, *rest),
    )
    with pytest.raises(BadInput, match="pip install optuna"):
        search_learning_rate()


def test_a_trial_is_the_run_of_its_rate(tiny_model, few_tunes):
    search = (RECIPE, tiny_model, few_tunes, 3, 1e-4, 1e-2)
    tried = search_learning_rate(*search)
    assert (
        len(tried) == 3
        and tried == sorted(tried, key=lambda trial: trial[1])
        and all(1e-4 <= rate <= 1e-2 for rate, _ in tried)
    )
    for rate, loss in tried:
        assert loss == pytest.approx(
            train(RECIPE.replace(learning_rate=rate), tiny_model, few_tunes).eval_loss_after,
            abs=2e-3,
        )
    assert search_learning_rate(*search) == tried  # the recipe's seed draws the rates
