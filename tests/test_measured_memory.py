"""Measured bytes: an optimizer's states against what its parts must take, the process's peak."""

import io
import subprocess
import sys

import bitsandbytes
import pytest
import torch

from hpkit.capability import forget_32bit_overrides
from hpkit.measured_memory import optimizer_state_bytes, peak_memory_bytes

SHAPES = ((128, 64), (4096,), (4095,), (10,))


def stepped(make_optimizer):
    """An optimizer of tensors of SHAPES after its first step."""
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer = make_optimizer(weights)
    optimizer.step()
    return optimizer


def test_fp32_states():
    state = optimizer_state_bytes(stepped(torch.optim.AdamW).state)
    elements = 128 * 64 + 4096 + 4095 + 10
    # Two averages, a step counter each.
    assert state == {"float32": {"tensors": 4 * 3, "bytes": 2 * 4 * elements + 4 * 4}}


def test_8bit_states_live_and_loaded():
    forget_32bit_overrides()
    optimizer = stepped(lambda weights: bitsandbytes.optim.AdamW(weights, optim_bits=8))
    live = optimizer_state_bytes(optimizer.state)
    large = 128 * 64 + 4096
    small = 4095 + 10
    assert live["uint8"] == {"tensors": 2 * 2, "bytes": 2 * large}
    # Below 4,096 elements fp32; one scale per 256 elements and average; two code books of 256
    # numbers, shared by all.
    assert live["float32"]["bytes"] == 2 * 4 * small + 2 * 4 * large // 256 + 2 * 4 * 256
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert optimizer_state_bytes(torch.load(file, weights_only=True)["state"]) == live


def test_peak_memory_grows_with_use():
    before = peak_memory_bytes("cpu")
    block = torch.ones(300_000_000, dtype=torch.uint8)
    assert peak_memory_bytes("cpu") >= before + 50_000_000
    assert before > 10_000_000 and block[-1] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands the peak on")
def test_peak_memory_leaves_out_the_process_that_started_this_one():
    code = "from hpkit.measured_memory import peak_memory_bytes; print(peak_memory_bytes('cpu'))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600
    )
    # torch makes this process large.
    assert 1_000_000 < int(result.stdout) < 100_000_000 < peak_memory_bytes("cpu")
