"""What a live training holds, against torch's rules for autocast and memory's prediction."""

import pytest
import torch

from hpkit.labs.dtypes import live_types, types_table
from hpkit.lessons import usual_point
from hpkit.memory import activation_bytes
from hpkit.model import load_model

pytestmark = pytest.mark.slow

RECIPE = usual_point().recipe.replace(
    max_seq_length=32, per_device_train_batch_size=2, optim="adamw_torch_fused"
)
SIZES = {"fp32": 4, "bf16": 2, "uint8": 1}


@pytest.fixture(scope="module")
def live():
    recipes = {
        "fp32": RECIPE.replace(bf16=False),
        "autocast": RECIPE,
        "weights": RECIPE.replace(dtype="bfloat16"),
    }
    return {name: live_types(recipe) for name, recipe in recipes.items()}


@pytest.fixture(scope="module")
def count():
    return load_model("starter")[0].num_parameters()


def test_autocast_changes_products_and_nothing_that_stays(live, count):
    for name in ("fp32", "autocast"):
        assert live[name].parameters == live[name].gradients == {"fp32": count}
        assert live[name].states == {"fp32": 2 * count}
    assert set(live["fp32"].saved) == {"fp32"}
    for kind, table in live["autocast"].activations.items():
        # torch's autocast has matrix products in its list, and neither norms nor look-ups
        products = ("Linear", "LlamaAttention", "LlamaMLP", "SiLUActivation")
        expected = "bf16" if kind in products else "fp32"
        assert list(table) == [expected], kind


def test_bf16_weights_make_all_of_it_bf16(live, count):
    assert live["weights"].parameters == live["weights"].gradients == {"bf16": count}
    assert live["weights"].states == {"bf16": 2 * count}


def test_the_trainers_autocast_is_torchs():
    layer = torch.nn.Linear(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(1, 4)).dtype == torch.bfloat16
        assert torch.nn.functional.layer_norm(torch.ones(1, 4), (4,)).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", "float32"), ("autocast", "float32"), ("weights", "bfloat16")]
)
def test_saved_tensors_are_those_that_memory_predicts(live, name, dtype):
    predicted = activation_bytes(load_model("starter")[0], 2, 32, bf16=name != "fp32", dtype=dtype)
    held = sum(SIZES[kind] * elements for kind, elements in live[name].saved.items())
    assert held == pytest.approx(predicted, rel=0.05)


def test_eight_bit_states_show_as_such(count):
    states = live_types(RECIPE.replace(optim="adamw_8bit")).states
    assert states["uint8"] > 1.9 * count and states["fp32"] < 0.1 * count


def test_the_table_has_a_column_for_each_set_up(live):
    table = types_table(live)
    header, *lines = table.splitlines()
    assert header.split() == list(live)
    (linear,) = [line for line in lines if line.startswith("out of Linear")]
    assert linear.split()[3:] == ["fp32", "bf16", "bf16"]
    (saved,) = [line for line in lines if line.startswith("saved")]
    assert "bf16" in saved and "%" in table
