"""The search through the Trainer: each trial is the run that `train` makes at that rate."""

import importlib.util

import pytest

from hpkit.errors import BadInput
from hpkit.finetune import train
from hpkit.labs.search import search_learning_rate
from hpkit.recipe import STARTER

pytestmark = pytest.mark.slow

#: Every update sees all examples, so that their order, which depends on what was drawn before,
#: makes no difference.
RECIPE = STARTER.replace(
    max_seq_length=32,
    max_steps=4,
    warmup_steps=0,
    per_device_train_batch_size=512,
    eval_strategy="no",
)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    find_spec = importlib.util.find_spec

    def without_optuna(name, *rest):
        if name == "optuna":
            return None
        return find_spec(name, *rest)

    monkeypatch.setattr("importlib.util.find_spec", without_optuna)
    with pytest.raises(BadInput, match="pip install optuna"):
        search_learning_rate()


def test_a_trial_is_the_run_of_its_rate(tiny_model, few_tunes):
    search = (RECIPE, tiny_model, few_tunes, 3, 1e-4, 1e-2)
    tried = search_learning_rate(*search)
    assert len(tried) == 3
    assert tried == sorted(tried, key=lambda trial: trial[1])
    for rate, loss in tried:
        assert 1e-4 <= rate <= 1e-2
        run = train(RECIPE.replace(learning_rate=rate), tiny_model, few_tunes)
        assert loss == pytest.approx(run.eval_loss_after, abs=2e-3)
    assert search_learning_rate(*search) == tried  # the recipe's seed draws the rates
