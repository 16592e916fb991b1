"""The rates of every schedule against what a real Trainer logs, and the formulas against both."""

import pytest
import torch
from transformers import PreTrainedConfig, PreTrainedModel, Trainer, default_data_collator

from hpkit.accounting import account
from hpkit.errors import BadInput
from hpkit.hyperparameters import SCHEDULERS
from hpkit.recipe import Recipe
from hpkit.schedules import MEASURED, learning_rates

UPDATES = 20
KWARGS = {
    "cosine_with_restarts": {"num_cycles": 2},
    "polynomial": {"power": 2.0},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr": 1e-3},
    "warmup_stable_decay": {"num_decay_steps": 5, "decay_type": "1-sqrt"},
    "reduce_lr_on_plateau": {"patience": 1, "factor": 0.5},
    "greedy": {"patience": 1, "factor": 0.5, "min_lr": 1e-4},
}


class OneWeight(PreTrainedModel):
    """The smallest thing a Trainer trains.

    Its loss grows and shrinks, and a schedule that follows it moves.
    """

    config_class = PreTrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, input_ids, labels=None):
        return {"loss": 2 + (10 * self.weight).cos().sum()}


def recipe_of(name: str, warmup: float) -> Recipe:
    return Recipe(
        lr_scheduler_type=name,
        lr_scheduler_kwargs=KWARGS.get(name),
        warmup_steps=warmup,
        learning_rate=0.3,
        max_steps=UPDATES,
        optim="sgd",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="no",
    )


@pytest.mark.slow
@pytest.mark.parametrize("warmup", [0, 0.2, 50])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_schedule_gives_what_the_trainer_logs(name, warmup, tmp_path):
    recipe = recipe_of(name, warmup)
    data = [{"input_ids": [1], "labels": [1]}] * 4
    arguments = recipe.training_arguments(tmp_path, use_cpu=True, disable_tqdm=True)
    trainer = Trainer(
        OneWeight(PreTrainedConfig()),
        arguments,
        train_dataset=data,
        eval_dataset=data,
        data_collator=default_data_collator,
    )
    trainer.train()
    log = trainer.state.log_history
    losses = {entry["step"]: entry["eval_loss"] for entry in log if "eval_loss" in entry}
    logged = [entry["learning_rate"] for entry in log if "learning_rate" in entry]
    rates = learning_rates(recipe, UPDATES, losses)
    assert list(rates[:UPDATES]) == logged
    assert rates[UPDATES] == trainer.optimizer.param_groups[0]["lr"]
    if name in MEASURED:
        assert len(set(rates)) > 2  # it moved
    else:
        assert rates == pytest.approx(account(recipe, 4).learning_rates, rel=1e-9, abs=1e-18)


def test_losses_measured_now_and_then():
    rates = learning_rates(recipe_of("reduce_lr_on_plateau", 0), 6, {2: 1.0, 4: 1.0, 6: 1.0})
    # Patience 1: the second loss without progress halves it.
    assert rates == (*[0.3] * 6, 0.15)


@pytest.mark.parametrize(
    "name, kwargs, message",
    [
        ("greedy", None, "follows measured losses: expected eval_losses"),
        ("greedy", {"patience": "two"}, "cannot run"),
        ("reduce_lr_on_plateau", {"factor": 2.0}, "Factor should be < 1.0"),
        ("cosine_with_min_lr", None, "min_lr"),
        ("polynomial", {"lr_end": 1.0}, "lr_end"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(name, kwargs, message):
    losses = {1: 1.0} if kwargs else None
    with pytest.raises(BadInput, match=message):
        learning_rates(Recipe(lr_scheduler_type=name, lr_scheduler_kwargs=kwargs), 10, losses)
