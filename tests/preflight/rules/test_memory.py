"""Rules about bytes and tokens, against real optimizers, tokenizers and predictions."""

import dataclasses

import pytest
import torch

from hpkit.capability import MACHINES
from hpkit.measured_memory import optimizer_state_bytes
from hpkit.memory import predict_memory
from hpkit.model import character_tokenizer, read_config
from hpkit.preflight import Written
from hpkit.recipe import STARTER, Recipe

from ..support import Case, Rows, found, llama, mended, train

SFT = Written(name="SFTConfig")
#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "paged-on-cpu": Case(
        about=dict(optim="paged_adamw_8bit"),
        known=dict(device="cpu"),
        silent=dict(optim="paged_adamw_8bit"),
        known_of_silent=dict(device="t4"),
    ),
    "8bit-saves-little": Case(
        about=STARTER,
        known=dict(model="starter"),
        silent=STARTER,
        known_of_silent=dict(model="7B"),
    ),
    "length-beyond-data": Case(
        about=Recipe(max_seq_length=512),
        known=dict(lengths=[90, 110] * 50),
        silent=Recipe(max_seq_length=128),
        known_of_silent=dict(lengths=[90] * 9),
    ),
    "length-cuts-tokens": Case(
        about=dict(max_length=128),
        known=dict(lengths=[100] * 90 + [200] * 10, written=SFT),
        silent=dict(max_length=128),
        known_of_silent=dict(lengths=[100] * 990 + [200] * 10, written=SFT),
    ),
    "memory-over-free": Case(
        about=STARTER,
        known=dict(
            model="starter",
            device=dataclasses.replace(MACHINES["cpu"], memory_free=60 * 10**6),
        ),
        silent=STARTER,
        known_of_silent=dict(model="starter", device="t4"),
    ),
}


@pytest.mark.slow
def test_8_bits_save_what_is_said(tmp_path):
    states = {}
    for optim in ("adamw_8bit", "adamw_torch"):
        trainer = train(tmp_path, llama(), Rows(8), max_steps=1, optim=optim)
        held = optimizer_state_bytes(trainer.optimizer.state)
        states[optim] = sum(entry["bytes"] for entry in held.values())
    fired = found(dict(optim="adamw_8bit"), model=llama())["8bit-saves-little"]
    assert fired.evidence["saved"] == states["adamw_torch"] - states["adamw_8bit"]


def test_nothing_is_paged_on_a_cpu(tmp_path):
    trainer = train(tmp_path, llama(), Rows(8), max_steps=1, optim="paged_adamw_8bit")
    tensors = []
    for state in trainer.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    assert tensors and not any(getattr(tensor, "is_paged", False) for tensor in tensors)


@pytest.mark.slow
def test_the_batch_that_is_said_to_fit_does():
    case = CASES["memory-over-free"]
    fired = found(case.about, **case.known)["memory-over-free"]
    run = mended(STARTER, fired)
    assert predict_memory(read_config("starter"), run).total <= fired.evidence["free"]
    effective_batch = run.per_device_train_batch_size * run.gradient_accumulation_steps
    assert effective_batch >= STARTER.per_device_train_batch_size
    assert "activation_checkpointing" not in fired.fix
    # Where it is asked for already, activations are not held against the device.
    recomputing = dict(activation_checkpointing=True, optim="adamw_8bit")
    assert "memory-over-free" not in found(recomputing, model="7B", device="a100-80gb")
    big = found(dict(optim="adamw_torch"), model="7B", device="t4")["memory-over-free"]
    assert "no batch fits: take optim=adamw_8bit" in big.fix and big.severity == "error"


def test_what_a_length_cuts_and_pads():
    """A tokenizer that truncates and pads, on texts of known lengths."""
    tokenizer = character_tokenizer()
    lengths = [40] * 80 + [90] * 20
    texts = ["A" * length for length in lengths]
    cut = tokenizer(texts, truncation=True, max_length=64, add_special_tokens=False)["input_ids"]
    fired = found(dict(max_length=64), lengths=lengths, written=SFT)["length-cuts-tokens"]
    assert fired.evidence["cut"] == pytest.approx(1 - sum(map(len, cut)) / sum(lengths))
    padded = tokenizer(texts, padding="max_length", max_length=256, add_special_tokens=False)[
        "attention_mask"
    ]
    fired = found(dict(max_length=256), lengths=lengths, written=SFT)["length-beyond-data"]
    assert fired.evidence["padding"] == pytest.approx(
        1 - sum(map(sum, padded)) / (256 * len(texts))
    )


def test_a_length_beyond_the_models_context():
    fired = found(STARTER, lengths=[2000] * 10, model="starter")["length-cuts-tokens"]
    assert "the model's context is 512 tokens and 2000 would be needed" in fired.fix
