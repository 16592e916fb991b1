"""The search through the Trainer: each trial is the run that `train` makes at that rate. Optuna itself may be absent."""

import importlib.machinery
import math
import sys
import types

import pytest

from hpkit.errors import BadInput
from hpkit.finetune import train
from hpkit.recipe import STARTER
from hpkit.search import search_learning_rate

#: Every update sees all examples, so that their order, which depends on what was drawn before, makes no difference.
RECIPE = STARTER.replace(max_seq_length=32, max_steps=4, warmup_steps=0, per_device_train_batch_size=512, eval_strategy="no")


class FakeTrial:
    """Chooses the low end of a range when its number is even, else the high end."""

    def __init__(self, number: int):
        self.number, self.params, self.value = number, {}, None

    def suggest_float(self, name, low, high, log=False):
        assert log, "rates want powers of ten"
        return self.params.setdefault(name, high if self.number % 2 else low)


class FakeStudy:
    """What transformers asks of a study."""

    def optimize(self, objective, n_trials, **settings):
        self.tried = [FakeTrial(number) for number in range(n_trials)]
        for trial in self.tried:
            trial.value = objective(trial)

    def _is_multi_objective(self):
        return False

    @property
    def best_trial(self):
        return min(self.tried, key=lambda trial: trial.value)


@pytest.fixture
def fake_optuna(monkeypatch):
    fake = types.ModuleType("optuna")
    fake.__spec__ = importlib.machinery.ModuleSpec("optuna", None)
    fake.create_study = lambda direction, directions, sampler: FakeStudy()
    fake.logging = types.SimpleNamespace(set_verbosity=lambda level: None, WARNING=30)
    fake.samplers = types.SimpleNamespace(TPESampler=lambda seed: None)
    fake.Trial, fake.trial = FakeTrial, types.SimpleNamespace(BaseTrial=FakeTrial)
    monkeypatch.setitem(sys.modules, "optuna", fake)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "optuna" else find(name, *rest))
    with pytest.raises(BadInput, match="pip install optuna"):
        search_learning_rate()


def test_a_trial_is_the_run_of_its_rate(fake_optuna, tiny_model, few_tunes):
    tried = search_learning_rate(RECIPE, tiny_model, few_tunes, trials=2, low=1e-4, high=1e-2)
    assert {rate for rate, _ in tried} == {1e-4, 1e-2} and tried == sorted(tried, key=lambda trial: trial[1])
    for rate, loss in tried:
        assert loss == pytest.approx(train(RECIPE.replace(learning_rate=rate), tiny_model, few_tunes).eval_loss_after, abs=2e-3)


def test_with_optuna_itself(tiny_model, few_tunes):
    pytest.importorskip("optuna")
    tried = search_learning_rate(RECIPE, tiny_model, few_tunes, trials=3, low=1e-4, high=1e-2)
    assert len(tried) == 3 and all(1e-4 <= rate <= 1e-2 and math.isfinite(loss) for rate, loss in tried)
    assert search_learning_rate(RECIPE, tiny_model, few_tunes, trials=3, low=1e-4, high=1e-2) == tried
