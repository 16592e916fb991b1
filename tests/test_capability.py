"""What is used on machines that we do not have: their properties are given, the decisions are ours."""

import pytest
import torch

from hpkit import capability
from hpkit.capability import Machine, decide, probe
from hpkit.errors import BadInput
from hpkit.recipe import STARTER, Recipe

CPU = Machine("cpu", "a CPU", 2, native_bf16=True, eight_bit=True)
OLD_CPU = Machine("cpu", "an old CPU", 2, native_bf16=False, eight_bit=True)
T4 = Machine("cuda", "Tesla T4", 2, native_bf16=False, eight_bit=True)
A100 = Machine("cuda", "NVIDIA A100", 8, native_bf16=True, eight_bit=True)
MAC = Machine("mps", "Apple M3", 8, native_bf16=True, eight_bit=True)


def why(machine, recipe=STARTER, what="precision"):
    return next(choice for choice in decide(recipe, machine).choices if choice.what == what)


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


def test_this_machine():
    machine = probe()
    assert machine.threads == torch.get_num_threads()
    assert machine.eight_bit, "bitsandbytes keeps no 8-bit states here, and the kit's first promise is that it does"


def test_a_t4_is_not_native_though_torch_says_yes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "some GPU")
    monkeypatch.setattr(capability, "_keeps_8bit_states", lambda device: True)
    for level, native in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda level=level: level)
        assert probe().native_bf16 == native


def test_without_bitsandbytes(monkeypatch):
    monkeypatch.setattr(capability.importlib.util, "find_spec", lambda name: None)
    assert not probe().eight_bit


def test_overrides_of_an_earlier_model_are_forgotten():
    """Once seen: the second fine-tune in a process found its first parameter kept at 32 bits, like the last embedding."""
    import bitsandbytes

    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    manager.index2config[(0, 0)] = {"optim_bits": 32}
    assert probe().eight_bit
