"""What is used on machines that we do not have: their properties given, the decisions ours."""

import dataclasses

import psutil
import pytest
import torch

from hpkit import capability
from hpkit.capability import MACHINES, Machine, decide, find_machine, probe
from hpkit.errors import BadInput
from hpkit.recipe import STARTER, Recipe

CPU = MACHINES["cpu"]
OLD_CPU = MACHINES["cpu-without-bf16"]
T4 = MACHINES["t4"]
A100 = MACHINES["a100"]
MAC = MACHINES["mps"]


def why(machine, recipe=STARTER, what="precision"):
    (found,) = [choice for choice in decide(recipe, machine).choices if choice.what == what]
    return found


def test_bf16_where_it_is_native():
    for machine in (CPU, A100):
        made = decide(STARTER, machine)
        assert (made.bf16, made.fp16, made.optim) == (True, False, "adamw_8bit")
        assert made.settings["use_cpu"] == (machine is CPU)


def test_bf16_on_a_cpu_without_it_is_used_and_said():
    assert decide(STARTER, OLD_CPU).bf16
    assert "emulated" in str(why(OLD_CPU))


def test_bf16_on_a_t4_becomes_fp16():
    made = decide(STARTER, T4)
    assert (made.bf16, made.fp16) == (False, True)
    assert str(why(T4)).startswith("precision: bf16 -> fp16: Tesla T4 only emulates bf16")


def test_fp16_on_a_cpu_stops():
    for machine in (CPU, MAC):
        with pytest.raises(BadInput, match="fp16 on a CPU"):
            decide(Recipe(fp16=True), machine)
    assert decide(Recipe(fp16=True), T4).fp16


def test_eight_bits_on_a_mac_run_on_its_cpu():
    assert decide(STARTER, MAC).settings["use_cpu"]
    assert not decide(STARTER.replace(optim="adamw_torch"), MAC).settings["use_cpu"]


def test_without_eight_bits_the_optimizer_is_replaced():
    made = decide(STARTER, Machine("cpu", "a CPU", 2, True, eight_bit=False))
    assert made.optim == "adamw_torch"
    assert decide(Recipe(optim="paged_adamw_8bit"), CPU).optim == "adamw_8bit"
    assert decide(Recipe(optim="paged_adamw_8bit"), A100).optim == "paged_adamw_8bit"


def test_a_machine_in_a_few_words():
    assert str(T4) == "Tesla T4 (GPU, 16 GB free), bf16 only emulated"
    assert str(MAC) == "an Apple GPU (Apple GPU), bf16 in hardware"
    one_thread = Machine("cpu", "a CPU", 1, True, memory_free=8 * 10**9)
    assert str(one_thread) == "a CPU (CPU, 1 thread, 8 GB free), bf16 in hardware"


def test_this_machine():
    machine = find_machine("here")
    assert machine.threads == torch.get_num_threads()
    assert machine.eight_bit, (
        "bitsandbytes keeps no 8-bit states here, and the kit's first promise is that it does"
    )
    assert 0 < machine.memory_free < psutil.virtual_memory().total
    assert machine.eight_bit_time > 0


def test_the_time_of_8_bits_is_measured_once(monkeypatch, tmp_path):
    monkeypatch.setenv("HPKIT_CACHE", str(tmp_path))
    first = probe().eight_bit_time
    assert probe().eight_bit_time == first  # two measurements never agree in every bit
    assert f"takes {first:.3g} times as long as fused AdamW" in str(why(probe(), what="optimizer"))
    (file,) = tmp_path.iterdir()
    file.write_text("[half a fi")
    assert probe().eight_bit_time > 0 and probe(try_optimizer=False).eight_bit_time is None


def test_looking_does_not_disturb_a_training():
    """bitsandbytes reads its overrides at an optimizer's first step.

    Emptied before it, embeddings would go to 8 bits.
    """
    import bitsandbytes

    overrides = bitsandbytes.optim.GlobalOptimManager.get_instance()
    overrides.initialize()
    overrides.index2config[(0, 0)] = {"optim_bits": 32}
    probe(try_optimizer=False)
    assert overrides.index2config


GPUS = {"t4": (7, 5), "l4": (8, 9), "a100": (8, 0), "a100-80gb": (8, 0), "h100": (9, 0)}


@pytest.mark.parametrize("name", GPUS)
def test_the_named_cards_are_what_probe_would_see(name, monkeypatch):
    """torch says of every one, a T4 too, that it supports bf16: it counts emulation."""
    card = MACHINES[name]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: card.name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: GPUS[name])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (card.memory_free, card.memory_free))
    monkeypatch.setattr(capability, "_keeps_8bit_states", lambda device: device == "cuda")
    monkeypatch.setattr(capability, "_eight_bit_time", lambda machine: None)
    assert probe() == dataclasses.replace(card, threads=torch.get_num_threads())
    assert card.native_bf16 == (name != "t4")


@pytest.mark.parametrize(
    "instructions, native",
    [
        ({"avx512_bf16": True}, True),
        ({"avx512_f": True}, False),
        ({"amx_bf16": True}, True),
        ({"bf16": True}, True),
        ({}, False),
    ],
)
def test_a_cpu_with_and_without_bf16(instructions, native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    machine = probe(try_optimizer=False)
    assert (machine.device, machine.native_bf16) == ("cpu", native)
    assert ("emulated" in str(why(dataclasses.replace(machine, eight_bit=True)))) == (not native)


def test_an_apple_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    machine = probe()
    assert machine.device == "mps"
    assert machine.eight_bit  # tried on its CPU, where hpkit then trains
    assert decide(STARTER, machine).settings["use_cpu"]


def test_a_machine_that_nobody_knows():
    with pytest.raises(
        BadInput, match=r"expected here, cpu, .*t4, .*; got 'a1000' \(did you mean a100\?\)"
    ):
        find_machine("a1000")


def test_without_bitsandbytes(monkeypatch):
    monkeypatch.setattr(capability.importlib.util, "find_spec", lambda name: None)
    assert not probe().eight_bit


def test_overrides_of_an_earlier_model_are_forgotten():
    """Once seen: a second fine-tune in a process.

    It found its first parameter kept at 32 bits, like the embedding of the model before.
    """
    import bitsandbytes

    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    manager.index2config[(0, 0)] = {"optim_bits": 32}
    assert probe().eight_bit
