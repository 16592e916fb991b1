"""The accounting against what a real Trainer does with the same recipe."""

import math

import pytest
import torch
from transformers import PreTrainedConfig, PreTrainedModel, Trainer, default_data_collator

from hpkit.accounting import account
from hpkit.recipe import NOTES, Recipe


class OneWeight(PreTrainedModel):
    """The smallest thing a Trainer trains."""

    config_class = PreTrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, input_ids, labels=None):
        return {"loss": (self.weight * input_ids.float()).mean()}


@pytest.mark.parametrize(
    "examples, changes",
    [
        (20, dict(logging_steps=2, save_steps=3, eval_strategy="steps", eval_steps=2)),
        (20, dict(per_device_train_batch_size=3, gradient_accumulation_steps=2, num_train_epochs=2.5, warmup_steps=0.3)),
        (7, dict(per_device_train_batch_size=2, gradient_accumulation_steps=5, num_train_epochs=3, logging_strategy="epoch")),
        (9, dict(per_device_train_batch_size=2, max_steps=11, save_strategy="epoch", eval_strategy="epoch", logging_steps=0.2)),
        (30, dict(per_device_train_batch_size=4, save_strategy="no", logging_steps=5, warmup_steps=1.0)),
        (640, dict(gradient_accumulation_steps=32, num_train_epochs=2, warmup_steps=2000, logging_steps=2000, eval_strategy="steps")),
    ],
)
def test_it_counts_as_the_trainer_does(examples, changes, tmp_path):
    recipe = Recipe(optim="adamw_torch").replace(**changes)
    data = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]} for _ in range(examples)]
    arguments = recipe.training_arguments(tmp_path, use_cpu=True, disable_tqdm=True)
    arguments.include_num_input_tokens_seen = "all"
    model = OneWeight(PreTrainedConfig())
    trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data[:2], data_collator=default_data_collator)
    trainer.train()
    counted = account(recipe, examples, tokens_per_example=3)
    history = trainer.state.log_history
    assert counted.updates == trainer.state.global_step == trainer.state.max_steps
    assert counted.tokens == trainer.state.num_input_tokens_seen
    assert counted.warmup_updates == arguments.get_warmup_steps(trainer.state.max_steps)
    assert counted.log_at == tuple(entry["step"] for entry in history if "loss" in entry)
    assert counted.evaluate_at == tuple(entry["step"] for entry in history if "eval_loss" in entry)
    assert counted.save_at == tuple(sorted(int(folder.name.split("-")[1]) for folder in tmp_path.glob("checkpoint-*")))


def test_processes_share_the_examples():
    recipe = Recipe(per_device_train_batch_size=4, num_train_epochs=1)
    assert account(recipe, 100, processes=2).updates == math.ceil(100 / 8)
    assert account(recipe, 100, processes=2).effective_batch == 8


def test_the_notes_recipe_in_words():
    lines = "\n".join(account(NOTES, 640, 256).lines())
    assert "6 in all" in lines
    assert "warmup (2000 updates) outlasts the run (6)" in lines
    assert "training loss at no update" in lines
