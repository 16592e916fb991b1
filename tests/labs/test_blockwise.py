"""Block-wise quantization against a second implementation in float64, and the paper's claims.

What optimizers hold, against live ones.
"""

import functools
import itertools
import math
from collections import defaultdict

import bitsandbytes
import numpy
import pytest
import torch
from transformers import GPT2Config

from hpkit.capability import forget_32bit_overrides
from hpkit.errors import BadInput
from hpkit.finetune import trained
from hpkit.labs.blockwise import (
    BLOCK_SIZES,
    averages,
    code_book,
    harm,
    quantize,
    saving,
    state_table,
    with_outlier,
)
from hpkit.measured_memory import optimizer_state_bytes
from hpkit.recipe import STARTER

BOOKS = list(itertools.product(("dynamic", "linear"), (True, False)))


@pytest.fixture(scope="module")
def train(tiny_model, few_tunes):
    recipe = STARTER.replace(max_steps=10, max_seq_length=64, bf16=False)

    @functools.cache
    def trained_with(optim: str):
        return trained(recipe.replace(optim=optim), tiny_model, few_tunes)

    return trained_with


@pytest.fixture(scope="module")
def full(train):
    return train("adamw_torch")


def heavy_tailed(signed: bool, count: int = 10_000):
    """Sizes over some 12 powers of ten, zeros among them; no whole number of blocks."""
    values = torch.randn(count, generator=torch.Generator().manual_seed(1)) ** 7
    values[::97] = 0
    if signed:
        return values
    return values.abs()


def second_implementation(values, book, block_size: int):
    """(nearest code points, distances of all values to theirs), in float64.

    Both scaled by each block's largest.
    """
    values = values.numpy().astype(float)
    points = book.numpy().astype(float)
    back = numpy.empty_like(values)
    scaled = numpy.empty_like(values)
    for start in range(0, len(values), block_size):
        block = slice(start, start + block_size)
        scale = abs(values[block]).max()
        scaled[block] = values[block] / scale
        nearest = abs(scaled[block, None] - points).argmin(1)
        back[block] = points[nearest] * scale
    return back, abs(scaled[:, None] - points).min(1)


@pytest.mark.parametrize("block_size", [64, 256, 2048, 333, None])
@pytest.mark.parametrize(("kind", "signed"), BOOKS)
def test_nearest_is_the_nearest_code_point(kind, signed, block_size):
    values = heavy_tailed(signed)
    quantized = quantize(values, block_size, kind, signed)
    size = block_size or len(values)
    back, _ = second_implementation(values, code_book(kind, signed), size)
    assert len(quantized.scales) == math.ceil(len(values) / size)
    # Half-way between two points fp32 may take the other one: then both are as near.
    agree = numpy.isclose(quantized.after, back, rtol=1e-6, atol=0)
    assert agree.mean() > 0.999
    assert abs(quantized.after - values.numpy())[~agree] == pytest.approx(
        abs(back - values.numpy())[~agree], rel=1e-4
    )
    error = abs(back - values.numpy())[values != 0] / abs(values.numpy())[values != 0]
    assert quantized.mean_relative_error == pytest.approx(error.mean(), rel=1e-3)
    assert quantized.mean_absolute_error == pytest.approx(
        abs(back - values.numpy()).mean(), rel=1e-3
    )
    assert quantized.became_zero == pytest.approx((back == 0)[values != 0].mean(), abs=1e-3)
    assert quantized.half_wrong == pytest.approx((error >= 0.5).mean(), abs=1e-3)


@pytest.mark.parametrize(("kind", "signed"), BOOKS)
def test_on_a_cpu_a_table_of_65536_steps_names_the_code(kind, signed):
    # Should a later bitsandbytes round to the nearest here too, the docstring of quantize and the
    # widget must say so.
    values = heavy_tailed(signed)
    step = 2 / 65535
    quantized = quantize(values, 256, kind, signed, rounding="cpu")
    _, nearest = second_implementation(values, code_book(kind, signed), 256)
    scales = numpy.repeat(quantized.scales, 256)[: len(values)].astype(float)
    excess = abs(quantized.after - values.numpy()) / scales - nearest
    assert excess.max() <= step * 1.01  # never further off than a step
    if kind == "dynamic":
        assert excess.max() > step / 4
        zeros = quantized.after[values == 0] / scales[values == 0]
        assert (zeros > 0).all() and zeros.max() < 3e-5
        assert quantized.became_zero == 0 < quantize(values, 256, kind, signed).became_zero


def test_dynamic_points_reach_seven_powers_of_ten_and_linear_ones_have_equal_steps():
    for signed, smallest in ((True, 5.5e-7), (False, 3.25e-7)):
        dynamic = code_book("dynamic", signed)
        linear = code_book("linear", signed)
        assert len(dynamic) == len(linear) == 256
        assert dynamic.max() == linear.max() == 1
        assert 0 in dynamic and 0 in linear
        assert dynamic[dynamic > 0].min().item() == pytest.approx(smallest, rel=1e-3)
        steps = linear[linear.abs() > 1e-6].diff()  # without the zeros
        assert steps[steps < 1.5 * steps.median()].std() < 1e-6


@pytest.mark.parametrize("block_size", [64, 256, None])
@pytest.mark.parametrize("signed", [True, False])
def test_what_came_back_once_comes_back_the_same(signed, block_size):
    values = heavy_tailed(signed).abs()  # each block's largest is +1 in the book; -1 is not in it
    once = quantize(values, block_size, "dynamic", signed)
    twice = quantize(torch.from_numpy(once.after), block_size, "dynamic", signed)
    assert numpy.array_equal(once.codes, twice.codes) and numpy.array_equal(once.after, twice.after)


def test_bytes_are_a_code_per_value_and_a_scale_per_block():
    values = torch.randn(512, 192)
    for size in BLOCK_SIZES:
        assert quantize(values, size).bytes / values.numel() == 1 + 4 / size
    assert 2 * quantize(values).bytes / values.numel() == 2.03125  # both averages, blocks of 256


# The paper's claims: Dettmers et al. 2021, arXiv 2110.02861, section 2.


@pytest.mark.parametrize("rounding", ["nearest", "cpu"])
def test_an_outlier_harms_its_block_alone(full, rounding):
    tensor = averages(full)["model.layers.0.mlp.gate_proj.weight"]["exp_avg"]
    spoilt, place = with_outlier(tensor, 1000)
    assert spoilt.flatten()[place] == 1000 * tensor.abs().max() and (spoilt != tensor).sum() == 1
    blocks = quantize(tensor, 256, rounding=rounding)
    spoilt_blocks = quantize(spoilt, 256, rounding=rounding)
    changed = numpy.flatnonzero(blocks.after != spoilt_blocks.after) // 256
    assert set(changed) == {place // 256}
    in_block = harm(blocks, spoilt_blocks, place)
    assert in_block.changed <= 255 and in_block.error_after > 5 * in_block.error_before

    whole = quantize(tensor, None, rounding=rounding)
    spoilt_whole = quantize(spoilt, None, rounding=rounding)
    in_whole = harm(whole, spoilt_whole, place)
    assert in_whole.changed > 0.99 * tensor.numel()
    assert in_whole.error_after > 5 * in_whole.error_before

    share_of_the_block = in_block.error_after / len(blocks.scales)
    most = 1.2 * blocks.mean_relative_error + share_of_the_block
    assert spoilt_blocks.mean_relative_error < most
    assert spoilt_whole.mean_relative_error > 3 * spoilt_blocks.mean_relative_error


def test_dynamic_errs_less_than_linear_on_real_averages_and_small_blocks_less_than_large(full):
    keys = ("exp_avg", "exp_avg_sq")
    kinds = ("dynamic", "linear")
    errors = defaultdict(list)
    for name, own in averages(full).items():
        # What bitsandbytes quantizes: large tensors that are no embedding.
        if own["exp_avg"].numel() < 4096 or "embed" in name:
            continue
        for key, kind, size in itertools.product(keys, kinds, (64, 256, None)):
            quantized = quantize(own[key], size, kind, signed=key == "exp_avg")
            errors[key, kind, size].append(quantized.mean_relative_error)
    means = {case: numpy.mean(values) for case, values in errors.items()}
    for size in (64, 256, None):
        assert means["exp_avg", "dynamic", size] < 0.7 * means["exp_avg", "linear", size], means
    assert means["exp_avg_sq", "dynamic", None] < 0.5 * means["exp_avg_sq", "linear", None], means
    for key, kind in itertools.product(keys, kinds):
        assert means[key, kind, 64] < means[key, kind, 256] < means[key, kind, None], means


# Live optimizers.


def test_adamw_8bit_holds_what_quantize_says():
    weight = torch.nn.Parameter(torch.zeros(100, 77))
    weight.grad = heavy_tailed(True, 7700).view(100, 77)
    torchs_weight = torch.nn.Parameter(torch.zeros(100, 77))
    torchs_weight.grad = weight.grad.clone()
    forget_32bit_overrides()
    optimizer = bitsandbytes.optim.AdamW([weight], optim_bits=8)
    optimizer.step()
    torchs = torch.optim.AdamW([torchs_weight])
    torchs.step()
    held = optimizer.state[weight]
    full = torchs.state[torchs_weight]
    for number, key, signed in ((1, "exp_avg", True), (2, "exp_avg_sq", False)):
        quantized = quantize(full[key], 256, "dynamic", signed, rounding="cpu")
        assert numpy.allclose(quantized.scales, held[f"absmax{number}"], rtol=1e-5)
        assert (quantized.codes == held[f"state{number}"].flatten().numpy()).mean() > 0.999
        assert torch.equal(code_book("dynamic", signed), held[f"qmap{number}"])


def held_bytes(state) -> int:
    return sum(entry["bytes"] for entry in optimizer_state_bytes(state).values())


@pytest.mark.parametrize(
    ("optim", "average"), [("adamw_torch", "exp_avg"), ("adamw_8bit", "state1")]
)
def test_state_table_is_what_the_live_optimizer_holds(optim, average, train):
    trainer = train(optim)
    rows = state_table(trainer)
    state = trainer.optimizer.state
    assert sum(row.bytes for row in rows) == held_bytes(state)
    named = dict(trainer.model.named_parameters())
    assert [row.name for row in rows if row.name != "code books"] == list(named)
    for row in rows[: len(named)]:
        kept = state[named[row.name]][average]
        assert (row.shape, row.dtype) == (tuple(kept.shape), str(kept.dtype).removeprefix("torch."))


def test_the_reasons_are_what_bitsandbytes_is_configured_to_do(train):
    trainer = train("adamw_8bit")
    rows = state_table(trainer)
    row_of = {row.name: row for row in rows}
    name_of = {weight: name for name, weight in trainer.model.named_parameters()}
    optimizer = trainer.optimizer.optimizer  # bitsandbytes' own, without accelerate's wrapper
    for group_number, group in enumerate(optimizer.param_groups):
        for number, weight in enumerate(group["params"]):
            config = optimizer.get_config(group_number, number, group)
            if config["optim_bits"] == 32:
                why = "embedding"
            elif weight.numel() < config["min_8bit_size"]:
                why = "under 4,096"
            else:
                why = "8-bit"
            row = row_of[name_of[weight]]
            assert row.reason.startswith(why), row
    assert {row.reason.split()[0] for row in rows} == {"embedding:", "8-bit:", "under", "what"}


def test_averages_are_copies_of_the_live_ones(full):
    taken = averages(full)
    for name, weight in full.model.named_parameters():
        for key, tensor in taken[name].items():
            live = full.optimizer.state[weight][key]
            assert torch.equal(tensor, live) and tensor.data_ptr() != live.data_ptr()
    assert min(own["exp_avg_sq"].min() for own in taken.values()) >= 0


def test_saving_of_known_shapes(full):
    gpt2 = saving(GPT2Config())
    assert gpt2.parameters == 124_439_808 and round(gpt2.bytes_8_bit / gpt2.parameters, 2) == 3.93
    assert gpt2.in_embeddings == (50257 + 1024) * 768
    # In each of 12 layers two norms, the biases of three projections and of one to 3,072; the last
    # norm.
    assert gpt2.in_small_tensors == 12 * (4 * 768 + 2 * 768 + 3 * 768 + 3072) + 2 * 768
    live = saving(full.model)
    assert live.bytes_32_bit == held_bytes(full.optimizer.state)


def test_nonsense_is_bad_input(full):
    values = torch.tensor([1.0, -2.0])
    for wrong, message in (
        (lambda: quantize(torch.empty(0)), "expected finite values, got none"),
        (
            lambda: quantize(torch.tensor([1.0, float("nan")])),
            "expected finite values, got some that are not",
        ),
        (lambda: quantize(values, signed=False), "no negative values .* got -2"),
        (lambda: quantize(values, 0), "block_size: expected a whole number"),
        (lambda: quantize(values, book="dynamical"), "did you mean dynamic"),
        (lambda: quantize(values, rounding="gpu"), "rounding: expected nearest or cpu"),
    ):
        with pytest.raises(BadInput, match=message):
            wrong()


def test_a_trainer_without_states_is_bad_input(train):
    trainer = train("sgd")
    with pytest.raises(BadInput, match="optim adamw_torch, got sgd"):
        averages(trainer)
    with pytest.raises(BadInput, match="before its first update"):
        state_table(trainer)
