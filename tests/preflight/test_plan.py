"""What a plan knows of a run, and the register of rules."""

import dataclasses

import pytest
import transformers

from hpkit.capability import MACHINES
from hpkit.errors import BadInput
from hpkit.memory import parameters_of
from hpkit.preflight import preflight
from hpkit.preflight.register import rule

from .support import found, llama


def test_two_rules_of_one_name_are_refused():
    """The register would lose the first without a word."""
    with pytest.raises(ValueError, match="two rules have the name few-updates"):
        rule("few-updates", "counts", notebook="03", example="")(lambda plan: ())


def test_a_model_that_is_mostly_frozen():
    """As under an adapter: the optimizer holds states for what is trained alone.

    Nothing is said about a full fine-tune's memory.
    """
    model = llama()
    for weight in model.model.parameters():
        weight.requires_grad_(False)
    assert [parameter.name for parameter in parameters_of(model)] == ["lm_head.weight"]
    small = dataclasses.replace(MACHINES["t4"], memory_free=1)
    assert "memory-over-free" in found({}, model=llama(), device=small)
    assert "memory-over-free" not in found({}, model=model, device=small)
    run = dict(save_strategy="steps", save_steps=1, max_steps=50, optim="sgd")
    bytes_in_all = found(run, model=model)["disk-filled"].evidence["bytes"]
    assert bytes_in_all == 50 * 4 * model.lm_head.weight.numel()


@pytest.mark.slow
def test_models_by_name_and_size():
    assert "memory-over-free" in found({}, model="7B", device="t4")
    assert "memory-over-free" not in found({}, model="starter", device="t4")
    with pytest.raises(BadInput, match="expected starter, fresh, a folder"):
        preflight({}, model="no/where")
    with pytest.raises(BadInput, match="device: expected here"):
        preflight({}, device="a1000")
    t5 = transformers.T5Config(
        architectures=["T5ForConditionalGeneration"], num_layers=1, d_model=64, vocab_size=100
    )
    assert "accumulation-miscounts-loss" in found(
        dict(gradient_accumulation_steps=2, optim="adamw_8bit"), model=t5
    )
