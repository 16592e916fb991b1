"""A finished run as JSON."""

import dataclasses
import json

import pytest

from hpkit.finetune import Run, finetune, train

from .conftest import SMALL

pytestmark = pytest.mark.slow


def test_a_run_that_leaves_the_numbers_says_so(tiny_model, few_tunes, tmp_path):
    wild = SMALL.replace(learning_rate=1e30, warmup_steps=0, optim="adamw_torch", max_steps=6)
    run = finetune(wild, tiny_model, few_tunes, tmp_path / "out", log=None)
    assert run.diverged and run.bars_valid_after is None and Run.load(tmp_path / "out").diverged
    assert not (tmp_path / "out" / "after.abc").exists()
    assert train(wild, tiny_model, few_tunes).diverged


def test_a_loss_that_is_no_number_is_null_in_json(finished):
    spoilt = dataclasses.replace(
        finished[1], history=[{"step": 1, "loss": float("nan"), "grad_norm": float("inf")}]
    )
    text = spoilt.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert json.loads(text)["history"] == [{"step": 1, "loss": None, "grad_norm": None}]
