"""Formats: every 16-bit and 8-bit pattern and a million fp32 values.

Against torch, ml_dtypes and exact fractions.
"""

import functools
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch

from hpkit.errors import BadInput
from hpkit.labs.formats import FORMATS, matmul_in_parts, rounding, running_sums, split

FP32, FP16, BF16, TF32, E4M3, E5M2 = FORMATS.values()
#: The same formats in numpy's type system: float16 is numpy's own, the others are ml_dtypes'.
NUMPY = {
    "fp32": np.float32,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8 E4M3": ml_dtypes.float8_e4m3fn,
    "fp8 E5M2": ml_dtypes.float8_e5m2,
}
WHOLE = {1: (np.uint8, torch.uint8), 2: (np.uint16, torch.int16), 4: (np.uint32, torch.int32)}


def every_pattern(format) -> torch.Tensor:
    return torch.arange(2**format.bits)


@functools.cache
def a_million(kind: str) -> torch.Tensor:
    """fp32 values of random bits: every magnitude, subnormals, inf and NaN.

    `ties`: cut so that most lie half-way in some format.
    """
    bits = torch.randint(-(2**31), 2**31, (1_000_000,), generator=torch.Generator().manual_seed(7))
    if kind == "ties":
        kept = torch.randint(0, 24, bits.shape, generator=torch.Generator().manual_seed(8))
        bits = (bits >> kept | 1) << kept
    return bits.to(torch.int32).view(torch.float32)


def same(one, other) -> bool:
    """Equal, with the sign of zero; NaN equals NaN."""
    one = np.asarray(one, dtype=np.float64)
    other = np.asarray(other, dtype=np.float64)
    numbers = ~np.isnan(one)
    same_signs = np.array_equal(np.signbit(one[numbers]), np.signbit(other[numbers]))
    return same_signs and np.array_equal(one, other, equal_nan=True)


def nearest(value: float, format) -> Fraction | float:
    """Round half to even in exact fractions: Python's own `round` of a Fraction does it."""
    lowest = 2 - 2 ** (format.exponent_bits - 1)
    power = max(lowest, math.frexp(value)[1] - 1) - format.mantissa_bits
    step = Fraction(2) ** power
    rounded = round(Fraction(value) / step) * step
    bias = 2 ** (format.exponent_bits - 1) - 1
    most = (Fraction(2) - Fraction(1, 2**format.mantissa_bits)) * Fraction(2) ** bias
    if format.has_inf and abs(rounded) > most:
        return math.copysign(math.inf, value)
    return rounded


# Values, fields and range.


@pytest.mark.parametrize("format", [FP16, BF16, E4M3, E5M2], ids=lambda format: format.name)
def test_every_pattern_is_what_torch_and_ml_dtypes_say(format):
    patterns = every_pattern(format)
    numpy_whole, torch_whole = WHOLE[format.bits // 8]
    numbers = patterns.numpy().astype(numpy_whole).view(NUMPY[format.name])
    with np.errstate(all="ignore"):
        theirs = numbers.astype(np.float64)
    torchs = patterns.to(torch_whole).view(getattr(torch, format.dtype)).double()
    fields = format.decode(patterns)
    assert same(fields.value, theirs) and same(fields.value, torchs)
    sign = fields.sign << (format.bits - 1)
    exponent = fields.exponent << format.mantissa_bits
    assert torch.equal(sign | exponent | fields.mantissa, patterns)
    real = ~fields.value.isnan()
    assert torch.equal(format.pattern(fields.value)[real], patterns[real])
    # No rounding of a number that is there; none beyond the largest in a format without inf.
    assert same(format.round(fields.value), fields.value)


@pytest.mark.parametrize("format", [FP16, BF16, E4M3, E5M2], ids=lambda format: format.name)
def test_neighbours_and_spacing_of_every_pattern_are_what_ml_dtypes_says(format):
    patterns = every_pattern(format)
    numpy_whole, _ = WHOLE[format.bits // 8]
    numbers = patterns.numpy().astype(numpy_whole).view(NUMPY[format.name])
    highest = numbers.dtype.type(format.largest)
    with np.errstate(all="ignore"):
        up = np.nextafter(numbers, highest).astype(np.float64)
        down = np.nextafter(numbers, -highest).astype(np.float64)
        step = np.abs(np.spacing(np.abs(numbers)).astype(np.float64))
    fields = format.decode(patterns)
    below, above = format.neighbours(fields.value)
    inside = fields.value.abs() < format.largest
    assert int(inside.sum()) > 0.8 * len(patterns)
    assert np.array_equal(above[inside], up[inside]) and np.array_equal(below[inside], down[inside])
    assert np.array_equal(format.spacing(fields.value)[inside], step[inside])


def test_fp32_and_tf32_patterns():
    values = a_million("any")
    patterns = values.view(torch.int32).long() & 0xFFFFFFFF
    assert same(FP32.decode(patterns).value, values.double())
    assert torch.equal(FP32.pattern(values)[~values.isnan()], patterns[~values.isnan()])
    # tf32 is fp32 without its last 13 bits.
    every = every_pattern(TF32)
    assert same(TF32.decode(every).value, FP32.decode(every << 13).value)
    real = ~TF32.decode(every).value.isnan()
    assert torch.equal(TF32.pattern(TF32.decode(every).value)[real], every[real])


@pytest.mark.parametrize("format", FORMATS.values(), ids=list(FORMATS))
def test_the_range_is_what_the_libraries_say(format):
    if format is TF32:  # NVIDIA's description: the exponent of fp32, the mantissa of fp16
        assert format.smallest_normal == FP32.smallest_normal
        assert format.epsilon == FP16.epsilon
        assert format.bits == 19
        assert format.largest == float(nearest(FP32.largest - 2.0**117, format))
        return
    torchs = torch.finfo(getattr(torch, format.dtype))
    theirs = ml_dtypes.finfo(NUMPY[format.name])
    assert format.largest == torchs.max == float(theirs.max)
    assert format.bits == torchs.bits == theirs.bits
    assert format.smallest_normal == torchs.smallest_normal == float(theirs.smallest_normal)
    assert format.epsilon == torchs.eps == float(theirs.eps)
    assert format.smallest_subnormal == float(theirs.smallest_subnormal)
    assert (format.exponent_bits, format.mantissa_bits) == (theirs.nexp, theirs.nmant)
    count = format.exact_integers
    whole = torch.arange(max(1, count - 3000), count + 2, dtype=torch.float64)
    assert (format.round(whole) == whole).tolist() == [True] * (len(whole) - 1) + [False]
    assert f"{format.digits:.1f}" == f"{math.log10(2 / float(theirs.eps)):.1f}"


def test_neighbours_where_the_range_ends():
    for format in (FP32, FP16, BF16):
        dtype = getattr(torch, format.dtype)
        values = [0.0, -0.0, format.largest, -format.largest, math.inf]
        values += [format.smallest_normal, -format.smallest_subnormal]
        for value in values:
            there = torch.tensor(value, dtype=dtype)
            below, above = format.neighbours(value)
            assert below == torch.nextafter(there, torch.tensor(-math.inf, dtype=dtype))
            assert above == torch.nextafter(there, torch.tensor(math.inf, dtype=dtype))
    below, above = E4M3.neighbours(1e9)
    assert below == 448 and above.isnan()
    assert all(number.isnan() for number in BF16.neighbours(math.nan))
    between = [0.1, 257.0, -257.0]
    below, above = BF16.neighbours(between)
    assert (above - below).tolist() == [2.0**-11, 2, 2]
    assert (below < torch.tensor(between)).all()


# Rounding.


@pytest.mark.parametrize("kind", ["any", "ties"])
@pytest.mark.parametrize("format", [FP16, BF16, E4M3, E5M2], ids=lambda format: format.name)
def test_a_million_values_round_as_in_torch_and_ml_dtypes(format, kind):
    values = a_million(kind)
    with np.errstate(all="ignore"):
        theirs = values.numpy().astype(NUMPY[format.name]).astype(np.float64)
    ours = format.round(values)
    assert same(ours, values.to(getattr(torch, format.dtype)).double())
    if format is E4M3:
        # Where the libraries part: ml_dtypes has NaN from half-way to the next number on, torch
        # 2.13 stops at the largest.
        beyond = values.abs() > 464
        assert np.isnan(theirs[beyond]).all()
        assert set(ours[beyond].abs().nan_to_num(-1).tolist()) in ({448.0}, {-1.0})
        ours = ours[~beyond]
        theirs = theirs[~beyond]
    assert same(ours, theirs)


@pytest.mark.parametrize("format", FORMATS.values(), ids=list(FORMATS))
def test_rounding_is_to_nearest_even_in_exact_fractions(format):
    anywhere = torch.cat([a_million("any")[:4000], a_million("ties")[:4000]]).double()
    places = torch.linspace(0, int(format.place(format.largest)) - 1, 1000).long()
    half_way = (format.at(places) + format.at(places + 1)) / 2
    beyond = float(format.largest + format.spacing(format.largest) / 2)
    ends = [format.largest, beyond, format.smallest_subnormal / 2]
    values = torch.cat([anywhere, half_way, torch.tensor(ends, dtype=torch.float64)])
    values = values.float().double()  # of those half-way, what fp32 can say
    values = values[values.isfinite()]
    if not format.has_inf:
        values = values[values.abs() <= 448]
    values = torch.cat([values, -values])
    ours = format.round(values).tolist()
    assert len(ours) > 5000
    assert ours == [float(nearest(value, format)) for value in values.tolist()]


def test_fp64_goes_through_fp32_as_in_torch_and_ml_dtypes():
    value = 1 + 2**-8 + 2**-40  # just above the middle, which is what fp32 makes of it
    assert BF16.round(value).item() == 1 == float(np.float64(value).astype(ml_dtypes.bfloat16))
    assert nearest(value, BF16) > 1
    assert torch.tensor(value, dtype=torch.float64).bfloat16().item() == 1


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("fp16", 65504, "65504, exact"),
        ("fp16", 65520, "inf, for it is too far beyond the largest number, 65504"),
        ("fp16", 1e-8, "0, for it is not above half the smallest number, 5.96046448e-08"),
        ("fp16", -1e-6, "-1.01327896e-06, relative error 0.013, subnormal"),
        ("bf16", 1e-8, "1.00117177e-08, relative error 0.0012"),
        ("bf16", 257, "256, relative error 0.0039"),
        ("bf16", 3.4e38, "inf, for it is too far beyond the largest number, 3.38953139e+38"),
        ("fp32", 3.4e38, "3.39999995e+38, relative error 1.4e-08"),
        ("fp32", math.nan, "NaN"),
        ("bf16", -math.inf, "-inf, exact"),
        ("tf32", 0, "0, exact"),
    ],
)
def test_one_number_in_words(name, value, words):
    assert str(rounding(value, FORMATS[name])) == words


def test_relative_error_is_at_most_half_a_step_and_eight_times_larger_in_bf16():
    """The notes say that bf16 loses less precision than fp16."""
    generator = torch.Generator().manual_seed(1)
    powers = torch.rand(1_000_000, generator=generator, dtype=torch.float64) * 29 - 14
    values = torch.exp2(powers)
    means = {}
    for format in (FP32, FP16, BF16):
        error = format.relative_error(values)
        half_a_step = format.epsilon / 2
        assert 0.9 * half_a_step < error.max() <= half_a_step * (1 + 2**-20)
        means[format.name] = error.mean()
    assert means["bf16"] / means["fp16"] == pytest.approx(8, rel=0.01)
    special = FP16.relative_error([0.0, 1e-8, 1e6, math.inf, math.nan, 0.5])
    assert special.tolist() == pytest.approx([0, 1, math.inf, 0, math.nan, 0], nan_ok=True)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: BF16.round("much"), "expected a number"),
        (lambda: BF16.spacing(10**400), "within float64's range"),
        (lambda: FP16.decode(65536), "fp16: expected patterns from 0 to 65535, got 65536 to 65536"),
        (lambda: FP16.decode([3, -1]), "got -1 to 3"),
        (lambda: split(torch.ones(2), 0), "parts: expected"),
    ],
)
def test_bad_input_is_said_in_one_line(wrong, message):
    with pytest.raises(BadInput, match=message):
        wrong()


# Arithmetic.


@pytest.mark.parametrize("format", [FP32, FP16, BF16], ids=lambda format: format.name)
def test_running_sums_are_the_formats_own_additions(format):
    dtype = getattr(torch, format.dtype)
    terms = torch.randn(300, 50, generator=torch.Generator().manual_seed(2)).to(dtype)
    sums = running_sums(terms, format)
    total = torch.zeros(50, dtype=dtype)
    for step, term in enumerate(terms):
        total = total + term
        assert torch.equal(sums[step], total.double())
    ones = running_sums(torch.ones(3000), format)
    assert ones[-1] == min(3000, format.exact_integers)  # where a sum no longer moves


def test_bf16_products_are_exact_in_fp32():
    """Every pair of significands.

    And with it every pair of numbers whose product neither overflows nor underflows.
    """
    significands = BF16.decode(torch.arange(127 << 7, 128 << 7)).value  # from 1 to below 2
    products = significands[:, None] * significands[None, :]  # 16 bits: exact in float64
    assert torch.equal(products, FP32.round(products))
    assert not torch.equal(products, BF16.round(products))
    small = BF16.round([2.0**-75 * (1 + 1 / 128)])[0]
    assert FP32.round(small * small) != small * small  # and where it underflows, not


def test_three_bf16_parts_are_the_fp32_value():
    normal = torch.randn(100_000, generator=torch.Generator().manual_seed(3))
    values = torch.cat([normal, a_million("any")])
    values = values[(values.abs() > 1e-30) & (values.abs() < 1e38)]
    first, second, third = (part.double() for part in split(values, 3))
    assert torch.equal(first + second + third, values.double())
    # What one or two parts leave is below half a step of 8 and of 16 bits.
    after_one = values - first
    after_two = values - first - second
    assert (after_one.abs() <= 2.0**-8 * values.abs()).all() and after_one.any()
    assert (after_two.abs() <= 2.0**-16 * values.abs()).all() and after_two.any()
    assert all(part.dtype == torch.bfloat16 for part in split(values, 2))


@pytest.fixture
def matrices():
    generator = torch.Generator().manual_seed(4)
    left = torch.randn(96, 160, generator=generator)
    right = torch.randn(160, 80, generator=generator)
    return left, right


def test_products_of_parts_come_near_fp32(matrices):
    left, right = matrices
    true = left.double() @ right.double()

    def error(product) -> float:
        return float((product - true).norm() / true.norm())

    one, two, three = (error(matmul_in_parts(left, right, parts)) for parts in (1, 2, 3))
    fp32 = error(left @ right)
    rounded = error(left.bfloat16().double() @ right.bfloat16().double())
    assert one == pytest.approx(rounded, rel=1e-3)
    assert 100 < one / two < 2000 and 10 < two / fp32 < 100 and three < 1.5 * fp32
    lefts = split(left, 3)
    rights = split(right, 3)
    total = 0
    for first, second in ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0)):  # large products first
        total = total + lefts[first].float() @ rights[second].float()
    assert three < 0.96 * error(total)


@pytest.mark.parametrize(("parts", "products"), [(1, 1), (2, 3), (3, 6)])
def test_how_many_products_parts_take(parts, products, matrices, monkeypatch):
    called = []
    matmul = torch.Tensor.__matmul__

    def counted(left, right):
        called.append(1)
        return matmul(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", counted)
    matmul_in_parts(*matrices, parts)
    assert len(called) == products
