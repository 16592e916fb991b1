"""Rules for small updates to bf16 weights, against float64 and ml_dtypes' neighbours."""

import ml_dtypes
import numpy as np
import pytest
import torch

from hpkit.errors import BadInput
from hpkit.labs.lost_updates import RULES, Weights, round_stochastically, walk


def test_stochastic_rounding_takes_one_of_the_two_neighbours_and_is_right_on_average():
    values = torch.tensor([1.001, -0.0123, 3e-9, 1e30]).repeat_interleave(40_000)
    rounded = round_stochastically(values, torch.Generator().manual_seed(0)).double()
    for value, found in zip(values[::40_000].tolist(), rounded.reshape(4, -1)):
        near = np.float32(value).astype(ml_dtypes.bfloat16)
        # The other neighbour lies beyond the value.
        beyond = np.copysign(np.inf, value - float(near)).astype(ml_dtypes.bfloat16)
        other = np.nextafter(near, beyond)
        assert set(found.tolist()) == {float(near), float(other)}
        step = abs(float(near) - float(other))
        assert found.mean().item() == pytest.approx(value, abs=0.02 * step)


def test_stochastic_rounding_leaves_what_bf16_has():
    exact = torch.tensor([0.0, 1.0, -256.0, 0.15625, float("inf")])
    assert torch.equal(round_stochastically(exact, torch.Generator()).float(), exact)


def test_a_small_update_is_lost_in_bf16_alone():
    for rule in RULES:
        weights = Weights(torch.ones(2000), rule)
        for _ in range(200):
            weights.add(torch.full((2000,), -1e-4))
        moved = 1 - weights.values.double().mean().item()
        if rule == "bf16":  # its numbers are 0.004 apart there
            assert moved == 0
        else:
            assert moved == pytest.approx(0.02, rel=0.11), rule


def test_all_rules_but_bf16_arrive():
    ends = {rule: walk(rule, updates=300, count=500)[-1] for rule in RULES}
    assert ends.pop("bf16") > 0.003 and max(ends.values()) < 2e-4
    assert walk("fp32", updates=10, count=50) == walk("fp32", updates=10, count=50)
    assert len(walk("bf16", updates=10, count=50)) == 11


def test_bytes_are_those_of_the_tensors_held():
    assert [Weights(torch.ones(1), rule).bytes_each for rule in RULES] == [4, 2, 6, 2, 4]


def test_an_unknown_rule_is_refused():
    with pytest.raises(BadInput, match="Kahan"):
        Weights(torch.ones(1), "kahan")
