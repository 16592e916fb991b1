"""The accounting against what real Trainers do with drawn recipes."""

import math
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedConfig, PreTrainedModel, Trainer, default_data_collator
from transformers.utils import logging

from hpkit.accounting import account
from hpkit.errors import BadInput
from hpkit.hyperparameters import SCHEDULERS
from hpkit.recipe import NOTES, Recipe
from hpkit.schedules import MEASURED

logging.disable_progress_bar()


class OneWeight(PreTrainedModel):
    """The smallest thing a Trainer trains."""

    config_class = PreTrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, input_ids, labels=None):
        return {"loss": (self.weight * input_ids.float()).mean()}


def kwargs_of(name: str, updates_at_most: int):
    """What a schedule wants or takes beside its name."""
    share = st.floats(0, 0.9)
    optional = {
        "cosine": {"num_cycles": st.sampled_from([0.5, 1.5])},
        "cosine_with_restarts": {"num_cycles": st.integers(1, 3)},
        "polynomial": {
            "power": st.sampled_from([0.5, 1.0, 2.0]),
            "lr_end": st.sampled_from([0.0, 1e-7, 1e-6]),
        },
        "inverse_sqrt": {"timescale": st.integers(1, 50)},
    }
    required = {
        "cosine_with_min_lr": st.one_of(
            st.fixed_dictionaries({"min_lr_rate": share}), st.just({"min_lr": 1e-6})
        ),
        "cosine_warmup_with_min_lr": st.fixed_dictionaries(
            {"min_lr_rate": share}, optional={"warmup_lr_rate": share}
        ),
        "warmup_stable_decay": st.fixed_dictionaries(
            {"num_decay_steps": st.integers(1, updates_at_most)},
            optional={
                "num_stable_steps": st.integers(0, 10),
                "min_lr_ratio": share,
                "warmup_type": st.sampled_from(["linear", "cosine", "1-sqrt"]),
                "decay_type": st.sampled_from(["linear", "cosine", "1-sqrt"]),
            },
        ),
    }
    if name in required:
        return required[name]
    return st.one_of(st.none(), st.fixed_dictionaries({}, optional=optional.get(name, {})))


interval = st.one_of(st.integers(1, 12), st.floats(0.05, 0.9))
strategy = st.sampled_from(["no", "steps", "epoch"])


@st.composite
def recipes(draw) -> Recipe:
    name = draw(st.sampled_from([name for name in SCHEDULERS if name not in MEASURED]))
    return Recipe(
        optim="adamw_torch",
        per_device_train_batch_size=draw(st.integers(1, 5)),
        gradient_accumulation_steps=draw(st.integers(1, 5)),
        num_train_epochs=draw(st.floats(0.1, 3)),
        max_steps=draw(st.one_of(st.just(-1), st.integers(1, 25))),
        learning_rate=draw(st.sampled_from([1e-5, 1e-4, 1e-2])),
        warmup_steps=draw(
            # At 1.0 a share of the run becomes a number of updates, whose fraction is cut off.
            st.one_of(
                st.just(0), st.integers(1, 30), st.floats(0, 0.99), st.just(1.0), st.just(2.7)
            )
        ),
        lr_scheduler_type=name,
        lr_scheduler_kwargs=draw(kwargs_of(name, 20)),
        logging_strategy=draw(strategy),
        logging_steps=draw(st.one_of(st.just(1), interval)),
        eval_strategy=draw(strategy),
        eval_steps=draw(st.one_of(st.none(), interval)),
        save_strategy=draw(strategy),
        save_steps=draw(interval),
        save_total_limit=draw(st.one_of(st.none(), st.integers(1, 3))),
    )


def trained(recipe: Recipe, examples: int, folder: Path) -> Trainer:
    """A Trainer that has run `recipe` on as many examples of three tokens."""
    data = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]} for _ in range(examples)]
    arguments = recipe.training_arguments(
        folder, use_cpu=True, disable_tqdm=True, include_num_input_tokens_seen="all"
    )
    model = OneWeight(PreTrainedConfig())
    trainer = Trainer(
        model,
        arguments,
        train_dataset=data,
        eval_dataset=data[:2],
        data_collator=default_data_collator,
    )
    trainer.train()
    return trainer


def check(recipe: Recipe, examples: int) -> None:
    """Everything countable, compared with a real run."""
    # hypothesis draws within one test, and pytest would give all of its runs one folder.
    folder = Path(tempfile.mkdtemp())
    try:
        trainer = trained(recipe, examples, folder)
        checkpoints = tuple(
            sorted(int(name.name.split("-")[1]) for name in folder.glob("checkpoint-*"))
        )
    finally:
        shutil.rmtree(folder)
    counted = account(recipe, examples, tokens_per_example=3)
    state = trainer.state
    assert counted.updates == state.global_step == state.max_steps
    assert counted.tokens == state.num_input_tokens_seen
    assert counted.log_at == tuple(entry["step"] for entry in state.log_history if "loss" in entry)
    assert counted.evaluate_at == tuple(
        entry["step"] for entry in state.log_history if "eval_loss" in entry
    )
    assert counted.checkpoints == checkpoints
    # transformers counts a warmup for the constant schedule too, and does not use it.
    if recipe.lr_scheduler_type != "constant":
        assert counted.warmup_updates == trainer.args.get_warmup_steps(state.max_steps)
    for entry in state.log_history:
        if "learning_rate" in entry:
            assert counted.learning_rates[entry["step"] - 1] == pytest.approx(
                entry["learning_rate"], rel=1e-9, abs=1e-18
            )
    assert counted.learning_rates[-1] == pytest.approx(
        trainer.lr_scheduler.get_last_lr()[0], rel=1e-9, abs=1e-18
    )


def no_division_by_zero(recipe: Recipe, examples: int) -> bool:
    """transformers' polynomial schedule divides by 0 where warmup ends with the run."""
    counted = account(recipe, examples)
    return not (
        recipe.lr_scheduler_type == "polynomial" and counted.warmup_updates == counted.updates
    )


@pytest.mark.slow
@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(recipe=recipes(), examples=st.integers(2, 40))
def test_it_counts_as_the_trainer_does(recipe, examples):
    if no_division_by_zero(recipe, examples):
        check(recipe, examples)


@pytest.mark.parametrize(
    "examples, changes",
    [
        (
            640,
            dict(
                gradient_accumulation_steps=32,
                num_train_epochs=2,
                warmup_steps=2000,
                logging_steps=2000,
                eval_strategy="steps",
            ),
        ),
        (
            7,
            dict(
                per_device_train_batch_size=2,
                gradient_accumulation_steps=5,
                num_train_epochs=3,
                logging_strategy="epoch",
            ),
        ),
        (
            30,
            dict(
                per_device_train_batch_size=4, save_strategy="no", logging_steps=5, warmup_steps=1.0
            ),
        ),
    ],
)
def test_cases_once_met(examples, changes):
    check(Recipe(optim="adamw_torch").replace(**changes), examples)


def test_a_rate_that_follows_the_losses_is_not_told():
    for name in MEASURED:
        counted = account(Recipe(lr_scheduler_type=name, warmup_steps=10), 100)
        assert (
            counted.learning_rates == ()
            and counted.peak_learning_rate is None
            and counted.peak_at is None
        )
        assert counted.warmup_updates == 0


def test_processes_share_the_examples():
    recipe = Recipe(per_device_train_batch_size=4, num_train_epochs=1)
    assert account(recipe, 100, processes=2).updates == math.ceil(100 / 8)
    assert account(recipe, 100, processes=2).effective_batch == 8


def test_the_last_accumulation_is_what_is_left_over():
    recipe = Recipe(per_device_train_batch_size=2, gradient_accumulation_steps=4)
    for examples, left in ((16, 4), (17, 1), (22, 3), (2, 1)):
        counted = account(recipe, examples)
        full = counted.updates_per_epoch - 1
        assert counted.last_accumulation == left == counted.micro_batches_per_epoch - full * 4


def test_a_slip_of_the_pen_is_not_counted_out():
    with pytest.raises(BadInput, match="1,000,000,000,000 updates: expected at most 5,000,000"):
        account(Recipe(max_steps=10**12), 100)


def test_the_notes_recipe_in_words():
    counted = account(NOTES, 640, 256)
    assert counted.peak_learning_rate == pytest.approx(3.0e-7)
    lines = "\n".join(counted.lines())
    assert "6 in all" in lines
    assert (
        "warmup (2,000 updates) outlasts the run (6); "
        "the learning rate's peak is 3.0e-7, after update 6" in lines
    )
    assert "training loss at no update" in lines
