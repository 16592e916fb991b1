"""MemoryExplorer: every control moved, and what is drawn and said held against predict_memory."""

import re

import pytest

from hpkit.capability import MACHINES, Machine
from hpkit.errors import BadInput
from hpkit.formatting import shown_bytes
from hpkit.memory import predict_memory
from hpkit.model import read_config
from hpkit.recipe import NOTES, STARTER
from hpkit.widgets import MemoryExplorer

from .conftest import positions


def check_memory(explorer) -> None:
    """What is drawn and said, against predict_memory."""
    at = {name: control.value for name, control in explorer.controls.items()}
    source = at["model"] if at["model"][0].isdigit() else read_config(at["model"])
    adapter = at["trains"] != "all weights"
    recipe = NOTES.replace(
        lora_r=at["lora_r"] if adapter else None,
        load_in_4bit=at["trains"] == "QLoRA",
        optim=at["optim"],
        bf16=at["precision"] != "fp32",
        dtype="bfloat16" if at["precision"] == "bf16 weights" else "float32",
    )
    memory = predict_memory(source, recipe, at["per_device_train_batch_size"], at["max_seq_length"])
    assert explorer.memory == memory
    picture = explorer._figure
    assert [bar.get_width() for bar in picture.bars] == list(memory)
    assert [bar.get_x() for bar in picture.bars] == [sum(memory[:k]) for k in range(4)]
    assert len({bar.get_hatch() for bar in picture.bars}) == 4
    free = explorer._machines[at["device"]].memory_free
    assert picture.device.get_width() == free
    assert picture.axes.get_xlim()[1] > max(free, memory.total)
    for number in (*memory, memory.total, free):
        assert shown_bytes(number) in explorer.picture.alt
    fits = memory.total <= free
    assert ("Does not fit" in explorer.summary) != fits
    assert shown_bytes(abs(free - memory.total)) in explorer.summary


@pytest.mark.slow
@pytest.mark.parametrize("name", MemoryExplorer("starter").controls)
def test_memory_follows_every_control(name):
    explorer = MemoryExplorer("starter")
    explorer.set(per_device_train_batch_size=2, max_seq_length=64)
    assert explorer.controls["lora_r"].layout.display == "none"
    if name == "lora_r":
        explorer.trains = "QLoRA"
        assert explorer.controls["lora_r"].layout.display is None
    control = explorer.controls[name]
    seen = set()
    for value in positions(control):
        control.value = value
        check_memory(explorer)
        seen.add(explorer.summary + explorer.picture.alt)
    assert len(seen) == len(positions(control))


def test_memory_takes_folders_and_machines(tiny_model):
    machine = Machine("cuda", "a small GPU", 2, True, memory_free=50_000_000)
    explorer = MemoryExplorer(tiny_model, STARTER.replace(optim="adamw_torch"), machine)
    check_memory(explorer)
    assert explorer.device == "a small GPU" and explorer.model == tiny_model
    with pytest.raises(BadInput, match="model nonsense"):
        explorer.model = "nonsense"
    assert explorer.model == tiny_model and "nonsense" not in explorer.controls["model"].options
    with pytest.raises(BadInput, match="device"):
        MemoryExplorer("starter", device="t44")
    with pytest.raises(BadInput, match="whose memory is known, such as here, t4"):
        MemoryExplorer("starter", device="cpu")
    with pytest.raises(BadInput, match="states of"):
        MemoryExplorer("starter", STARTER.replace(optim="lion_8bit"))


@pytest.mark.slow
def test_what_would_make_it_fit_does():
    explorer = MemoryExplorer("1B", NOTES.replace(optim="adamw_torch_fused"), "l4")
    explorer.per_device_train_batch_size = 32
    lines = explorer.summary.splitlines()
    ways = [line for line in lines if "per_device_train_batch_size=" in line]
    assert len(ways) == 4 and "optim=adamw_8bit" in ways[1]
    assert "LoRA (lora_r=16)" in ways[2] and "QLoRA (lora_r=16, load_in_4bit=True)" in ways[3]
    # By nvidia-smi it has a little less than an A100 80GB.
    assert "a larger device: NVIDIA H100 80GB" in explorer.summary
    free = MACHINES["l4"].memory_free
    for way in ways:
        batch = int(re.search(r"batch_size=(\d+)", way)[1])
        optim = "adamw_8bit" if "adamw_8bit" in way else "adamw_torch_fused"
        recipe = NOTES.replace(optim=optim)
        if "LoRA" in way:
            recipe = recipe.replace(lora_r=16, load_in_4bit="QLoRA" in way)
        advised = predict_memory("1B", recipe, batch, 512).total
        one_more = predict_memory("1B", recipe, batch + 1, 512).total
        assert advised <= free < one_more and shown_bytes(advised) in way
    explorer.set(model="70B", device="t4", per_device_train_batch_size=1)
    assert "a smaller model or several devices" in explorer.summary


@pytest.mark.slow
def test_7b_on_a_t4_in_full_with_lora_and_with_qlora():
    """What the picture is for: 7 billion parameters, and 15 GiB."""
    recipe = NOTES.replace(per_device_train_batch_size=1, max_seq_length=512)
    explorer = MemoryExplorer("7B", recipe, "t4")
    explorer.precision = "bf16 weights"
    needed = {}
    for trains in explorer.TRAINS:
        explorer.trains = trains
        needed[trains] = explorer.memory
        assert explorer.TRAINS[trains][0] in explorer.picture.alt
    full, lora, qlora = needed.values()
    assert full.total > 2 * lora.total and lora.weights > 3 * qlora.weights
    # An adapter's gradients and states hardly count.
    assert lora.gradients + lora.optimizer < 0.03 * lora.total
    free = MACHINES["t4"].memory_free
    assert qlora.total < free < lora.weights + lora.gradients + lora.optimizer + lora.activations
    assert "Fits" in explorer.summary or "Barely fits" in explorer.summary
