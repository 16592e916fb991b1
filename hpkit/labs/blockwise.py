"""Block-wise 8-bit quantization made visible on bitsandbytes' own code books and kernels, and what an optimizer really holds.

A tensor is cut into blocks of consecutive values. Of each block the largest absolute value, its scale, is kept in fp32,
and of each value the place, one byte, of the nearest of 256 code points times that scale. After Dettmers et al. 2021,
8-bit Optimizers via Block-wise Quantization (arXiv 2110.02861); bitsandbytes' AdamW takes blocks of 256.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from hpkit.errors import BadInput, did_you_mean
from hpkit.memory import optimizer_state_bytes, optimizer_states, parameters_of

#: Those that bitsandbytes' GPU kernels know; its CPU kernels take any.
BLOCK_SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
CODE_BOOKS = ("dynamic", "linear")
ROUNDINGS = ("nearest", "cpu")


def code_book(kind: str, signed: bool):
    """bitsandbytes' 256 code points in rising order, fp32, between -1 (`signed`) or 0 and 1. Raises BadInput.

    `dynamic` is what its 8-bit optimizers use, signed for the first average and unsigned for the second, which is never
    negative. `linear` has equal steps and an exact zero, which takes two of the signed book's codes.
    """
    from bitsandbytes.functional import create_dynamic_map, create_linear_map

    _check("code book", kind, CODE_BOOKS)
    return (
        create_dynamic_map(signed=signed) if kind == "dynamic" else create_linear_map(signed=signed)
    )


@dataclass(frozen=True)
class Quantized:
    """A tensor in 8 bits, in numpy and flat: `before` in fp32, its `codes` (uint8), the fp32 `scales`, one per block.

    `block_size` in values; the last block may be shorter. `book` is the code book, 256 values; `after` what comes back.
    """

    before: object
    codes: object
    scales: object
    book: object
    block_size: int
    after: object

    @cached_property
    def normalized(self):
        """Each value's size divided by its block's scale, from 0 to 1: what is rounded to the code book."""
        import numpy

        scales = numpy.maximum(self.scales, numpy.float32(1e-38)).repeat(self.block_size)
        return abs(self.before) / scales[: len(self.before)]

    @cached_property
    def relative_error(self):
        """|after - before| / |before| of each value; NaN where a value was zero before."""
        import numpy

        error = numpy.full(len(self.before), numpy.nan, numpy.float32)
        return numpy.divide(
            abs(self.after - self.before), abs(self.before), out=error, where=self.before != 0
        )

    @property
    def mean_absolute_error(self) -> float:
        return float(abs(self.after - self.before).mean(dtype=float))

    @cached_property
    def mean_relative_error(self) -> float:
        """Over the values that are not zero before; NaN where none is."""
        return _mean(self.relative_error[self.before != 0])

    @property
    def became_zero(self) -> float:
        """The share, 0 to 1, of the values not zero before that come back as zero."""
        return _mean(self.after[self.before != 0] == 0)

    @property
    def half_wrong(self) -> float:
        """The share, 0 to 1, of the values not zero before that come back wrong by half their size or more."""
        return _mean(self.relative_error[self.before != 0] >= 0.5)

    @property
    def bytes(self) -> int:
        """A byte for each code and four for each scale; the code book, 1,024 bytes, serves all tensors and is left out."""
        return self.codes.nbytes + self.scales.nbytes


def _mean(values) -> float:
    return float(values.mean(dtype=float)) if len(values) else float("nan")


def quantize(
    tensor,
    block_size: int | None = 256,
    book: str = "dynamic",
    signed: bool = True,
    rounding: str = "nearest",
) -> Quantized:
    """`tensor` in blocks of `block_size` values, None being one block, by bitsandbytes' own kernels, on the CPU.

    `rounding`: `nearest` takes the nearest code point, by the kernel that bitsandbytes has for devices without one of
    their own. `cpu` is what its optimizers do on a CPU since 0.50: there a table of 65,536 equal steps from -1 to 1 names
    the code, which rounds as well above some 1e-4 of a block's scale; what is smaller, zero too, comes back as 2e-5 of
    it. Raises BadInput for an empty tensor, values that are not finite, and negative ones in an unsigned book.
    """
    import torch
    from bitsandbytes.functional import dequantize_blockwise  # and the operators are registered

    points = code_book(book, signed)
    _check("rounding", rounding, ROUNDINGS)
    values = tensor.detach().float().cpu().flatten()
    if not values.numel() or not values.isfinite().all():
        raise BadInput(
            f"tensor: expected finite values, got {'some that are not' if values.numel() else 'none'}"
        )
    if not signed and values.min() < 0:
        raise BadInput(
            f"tensor: expected no negative values for an unsigned code book, got {values.min():.3g}; say signed=True"
        )
    size = values.numel() if block_size is None else block_size
    if not isinstance(size, int) or size < 1:
        raise BadInput(
            f"block_size: expected a whole number of values from 1, or None for the whole tensor, got {block_size!r}"
        )
    size, operator = min(size, values.numel()), torch.ops.bitsandbytes.quantize_blockwise.default
    if rounding == "cpu":
        codes, scales = operator(values, points, size)
    else:  # passes by the kernel registered for the CPU
        codes, scales = operator._op_dk(
            torch._C.DispatchKey.CompositeExplicitAutograd, values, points, size
        )
    after = dequantize_blockwise(codes, absmax=scales, code=points, blocksize=size)
    return Quantized(
        values.numpy(), codes.numpy(), scales.numpy(), points.numpy(), size, after.numpy()
    )


def with_outlier(tensor, factor: float):
    """(a copy of `tensor` with one value of `factor` times its largest size, the place of that value): the middle one."""
    place, spoilt = tensor.numel() // 2, tensor.detach().clone()
    spoilt.view(-1)[place] = factor * tensor.abs().max()
    return spoilt, place


class Harm(NamedTuple):
    """What an outlier does to the other values: how many come back changed, and the mean relative error in its block."""

    changed: int
    error_before: float
    error_after: float


def harm(without: Quantized, spoilt: Quantized, place: int) -> Harm:
    """Compare the quantization of a tensor with that of the same tensor `with_outlier` at `place`, which is left out."""
    import numpy

    others = numpy.arange(len(without.before)) != place
    block = (
        others
        & (numpy.arange(len(without.before)) // without.block_size == place // without.block_size)
        & (without.before != 0)
    )
    changed = int((without.after != spoilt.after)[others].sum())
    return Harm(changed, _mean(without.relative_error[block]), _mean(spoilt.relative_error[block]))


# What a live optimizer holds.


class Held(NamedTuple):
    """What an optimizer holds for the parameter `name` of `shape`: mostly in `dtype`, all in all `bytes`, and why so."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    reason: str


def state_table(trainer) -> list[Held]:
    """The optimizer states of a live Trainer after its first update, one row a trained parameter, in the model's order.

    Names, dtypes and bytes are read off the live tensors; the reason is memory's, where the live dtype is as it predicts.
    Under 8 bits a last row has the code books that all tensors share. Raises BadInput before the first update.
    """
    model, state = trainer.model, trainer.optimizer.state if trainer.optimizer else {}
    if not state:
        raise BadInput(
            "trainer: expected one whose optimizer holds states, got one before its first update; train it, such as with trained"
        )
    reasons, rows, books = {}, [], {}
    for held in optimizer_states(
        parameters_of(model), trainer.args.optim.value, str(model.dtype).removeprefix("torch.")
    ):
        reasons.setdefault((held.name, held.dtype), held.reason)
    for name, weight in model.named_parameters():
        own = {
            key: value for key, value in state.get(weight, {}).items() if not key.startswith("qmap")
        }
        books |= {
            key: value for key, value in state.get(weight, {}).items() if key.startswith("qmap")
        }
        if own:
            rows.append(_held(name, tuple(weight.shape), own, reasons))
    if books:
        rows.append(_held("code books", (len(books), 256), books, reasons))
    return rows


def _held(name: str, shape: tuple, tensors: dict, reasons: dict) -> Held:
    measured = optimizer_state_bytes({0: tensors})
    dtype = max(measured, key=lambda dtype: measured[dtype]["bytes"])
    size = sum(entry["bytes"] for entry in measured.values())
    return Held(name, shape, dtype, size, reasons.get((name, dtype), "not as hpkit predicts"))


def averages(trainer) -> dict[str, dict]:
    """`{"exp_avg": …, "exp_avg_sq": …}` for the name of each parameter: fp32 copies off a live Trainer with torch's AdamW.

    exp_avg is the average of the gradients, exp_avg_sq that of their squares, both in the weight's shape. Raises
    BadInput for an optimizer without them.
    """
    keys, state = ("exp_avg", "exp_avg_sq"), trainer.optimizer.state if trainer.optimizer else {}
    held = {
        name: state[weight] for name, weight in trainer.model.named_parameters() if weight in state
    }
    if not held or not all(key in own for own in held.values() for key in keys):
        raise BadInput(
            f"trainer: expected one trained with optim adamw_torch, got {trainer.args.optim.value}, which holds no {keys[0]} now"
        )
    return {
        name: {key: own[key].detach().float().cpu().clone() for key in keys}
        for name, own in held.items()
    }


class Saving(NamedTuple):
    """Optimizer bytes of AdamW in 32 and in 8 bits, and of the parameters how many stay at 32 bits, by the reason."""

    parameters: int
    bytes_32_bit: int
    bytes_8_bit: int
    in_embeddings: int
    in_small_tensors: int


def saving(source) -> Saving:
    """What adamw_8bit saves on `source`: a live model, a config or a size, as for memory.parameters_of. Raises BadInput.

    Of a tensor held in 8 bits a parameter takes 2 x 1 byte + 2 x 4/256 for the scales = 2.03125 bytes, against 2 x 4.
    """
    parameters = parameters_of(source)
    full, eight = (
        optimizer_states(parameters, "adamw_torch"),
        optimizer_states(parameters, "adamw_8bit"),
    )
    narrow = {state.name for state in eight if state.dtype == "uint8"}
    kept = {
        embedding: sum(
            p.elements for p in parameters if p.name not in narrow and p.embedding == embedding
        )
        for embedding in (True, False)
    }
    bytes_32_bit, bytes_8_bit = (sum(state.bytes for state in states) for states in (full, eight))
    return Saving(
        sum(p.elements for p in parameters), bytes_32_bit, bytes_8_bit, kept[True], kept[False]
    )


def _check(name: str, value, choices: tuple) -> None:
    if value not in choices:
        raise BadInput(
            f"{name}: expected {' or '.join(choices)}, got {value!r}{did_you_mean(str(value), choices)}"
        )
