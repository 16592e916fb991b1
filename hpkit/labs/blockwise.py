"""Block-wise 8-bit quantization on bitsandbytes' own kernels, and what an optimizer really holds.

A tensor is cut into blocks of consecutive values. Of each block the largest absolute value, its
scale, is kept in fp32, and of each value the place, one byte, of the nearest of 256 code points
times that scale. After Dettmers et al. 2021, 8-bit Optimizers via Block-wise Quantization (arXiv
2110.02861); bitsandbytes' AdamW takes blocks of 256.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from hpkit.errors import BadInput, did_you_mean
from hpkit.measured_memory import optimizer_state_bytes
from hpkit.memory import optimizer_states, parameters_of

#: Those that bitsandbytes' GPU kernels know; its CPU kernels take any.
BLOCK_SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
CODE_BOOKS = ("dynamic", "linear")
ROUNDINGS = ("nearest", "cpu")


def code_book(kind: str, signed: bool):
    """bitsandbytes' 256 code points in rising order, fp32, between -1 (`signed`) or 0 and 1.

    `dynamic` is what its 8-bit optimizers use, signed for the first average and unsigned for the
    second, which is never negative. `linear` has equal steps and an exact zero, which takes two of
    the signed book's codes. Raises BadInput.
    """
    from bitsandbytes.functional import create_dynamic_map, create_linear_map

    _refuse_unknown("code book", kind, CODE_BOOKS)
    if kind == "dynamic":
        return create_dynamic_map(signed=signed)
    return create_linear_map(signed=signed)


@dataclass(frozen=True)
class Quantized:
    """A tensor in 8 bits, in numpy and flat.

    `before` in fp32, its `codes` (uint8), the fp32 `scales`, one per block. `block_size` in values;
    the last block may be shorter. `book` is the code book, 256 values; `after` what comes back.
    """

    before: object
    codes: object
    scales: object
    book: object
    block_size: int
    after: object

    @cached_property
    def normalized(self):
        """Each value's size by its block's scale, 0 to 1: what is rounded to the code book."""
        import numpy

        # A block of zeros has the scale 0, by which nothing can be divided.
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
        """In the tensor's own unit."""
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
        """The share, 0 to 1, of the values not zero before that come back half wrong or worse.

        Wrong by half their size, that is.
        """
        return _mean(self.relative_error[self.before != 0] >= 0.5)

    @property
    def bytes(self) -> int:
        """A byte for each code and four for each scale.

        The code book, 1,024 bytes, serves all tensors and is left out.
        """
        return self.codes.nbytes + self.scales.nbytes


def _mean(values) -> float:
    if len(values) == 0:
        return float("nan")
    return float(values.mean(dtype=float))  # numpy would add fp32 numbers up in fp32


def quantize(
    tensor,
    block_size: int | None = 256,
    book: str = "dynamic",
    signed: bool = True,
    rounding: str = "nearest",
) -> Quantized:
    """`tensor` in blocks of `block_size` values (None: one block), by bitsandbytes' CPU kernels.

    `rounding`: `nearest` takes the nearest code point, by the kernel that bitsandbytes has for
    devices without one of their own. `cpu` is what its optimizers do on a CPU since 0.50: there a
    table of 65,536 equal steps from -1 to 1 names the code, which rounds as well above some 1e-4 of
    a block's scale; what is smaller, zero too, comes back as 2e-5 of it. Raises BadInput for an
    empty tensor, values that are not finite, and negative ones in an unsigned book.
    """
    import torch
    from bitsandbytes.functional import dequantize_blockwise  # and the operators are registered

    points = code_book(book, signed)
    _refuse_unknown("rounding", rounding, ROUNDINGS)
    values = _quantizable_values(tensor, signed)
    size = values.numel() if block_size is None else block_size
    if not isinstance(size, int) or size < 1:
        raise BadInput(
            "block_size: expected a whole number of values from 1, or None for the whole tensor, "
            f"got {block_size!r}"
        )
    size = min(size, values.numel())
    operator = torch.ops.bitsandbytes.quantize_blockwise.default
    if rounding == "cpu":
        codes, scales = operator(values, points, size)
    else:
        # The key of the kernel for any device passes by the one registered for the CPU.
        any_device = torch._C.DispatchKey.CompositeExplicitAutograd
        codes, scales = operator._op_dk(any_device, values, points, size)
    after = dequantize_blockwise(codes, absmax=scales, code=points, blocksize=size)
    return Quantized(
        before=values.numpy(),
        codes=codes.numpy(),
        scales=scales.numpy(),
        book=points.numpy(),
        block_size=size,
        after=after.numpy(),
    )


def _quantizable_values(tensor, signed: bool):
    """The tensor's values flat, in fp32 on the CPU. Raises BadInput for what has no code."""
    values = tensor.detach().float().cpu().flatten()
    if not values.numel():
        raise BadInput("tensor: expected finite values, got none")
    if not values.isfinite().all():
        raise BadInput("tensor: expected finite values, got some that are not")
    if not signed and values.min() < 0:
        raise BadInput(
            "tensor: expected no negative values for an unsigned code book, "
            f"got {values.min():.3g}; say signed=True"
        )
    return values


def with_outlier(tensor, factor: float):
    """(a copy of `tensor` with an outlier in the middle, the place of that value).

    The outlier is `factor` times as large as the tensor's largest value.
    """
    place = tensor.numel() // 2
    spoilt = tensor.detach().clone()
    spoilt.view(-1)[place] = factor * tensor.abs().max()
    return spoilt, place


class Harm(NamedTuple):
    """What an outlier does to the other values.

    How many come back changed, and the mean relative error in its block without it and with it.
    """

    changed: int
    error_before: float
    error_after: float


def harm(without: Quantized, spoilt: Quantized, place: int) -> Harm:
    """Compare the quantization of a tensor with that of the same tensor `with_outlier` at `place`.

    The outlier itself is left out.
    """
    import numpy

    places = numpy.arange(len(without.before))
    others = places != place
    in_its_block = places // without.block_size == place // without.block_size
    compared = others & in_its_block & (without.before != 0)  # zeros have no relative error
    return Harm(
        changed=int((without.after != spoilt.after)[others].sum()),
        error_before=_mean(without.relative_error[compared]),
        error_after=_mean(spoilt.relative_error[compared]),
    )


# What a live optimizer holds.


class Held(NamedTuple):
    """What an optimizer holds for the parameter `name` of `shape`.

    Mostly in `dtype`, all in all `bytes`, and why so.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    reason: str


def state_table(trainer) -> list[Held]:
    """The optimizer states of a live Trainer after its first update.

    One row a trained parameter, in the model's order. Names, dtypes and bytes are read off the live
    tensors; the reason is memory's, where the live dtype is as it predicts. Under 8 bits a last row
    has the code books that all tensors share. Raises BadInput before the first update.
    """
    model = trainer.model
    state = _live_state(trainer)
    if not state:
        raise BadInput(
            "trainer: expected one whose optimizer holds states, got one before its first update; "
            "train it, such as with trained"
        )
    dtype = str(model.dtype).removeprefix("torch.")
    reasons = {}
    for predicted in optimizer_states(parameters_of(model), trainer.args.optim.value, dtype):
        # Of several things in one dtype the first is the large one: averages before the counter.
        reasons.setdefault((predicted.name, predicted.dtype), predicted.reason)
    rows = []
    code_books = {}
    for name, weight in model.named_parameters():
        own = {}
        for key, value in state.get(weight, {}).items():
            # bitsandbytes enters the shared code books, qmap1 and qmap2, with each parameter.
            if key.startswith("qmap"):
                code_books[key] = value
            else:
                own[key] = value
        if own:
            rows.append(_measured_row(name, tuple(weight.shape), own, reasons))
    if code_books:
        rows.append(_measured_row("code books", (len(code_books), 256), code_books, reasons))
    return rows


def _live_state(trainer) -> dict:
    """The state of the Trainer's optimizer; empty before its first update."""
    if trainer.optimizer is None:
        return {}
    return trainer.optimizer.state


def _measured_row(name: str, shape: tuple, tensors: dict, reasons: dict) -> Held:
    measured = optimizer_state_bytes({0: tensors})
    dtype = max(measured, key=lambda dtype: measured[dtype]["bytes"])
    size = sum(entry["bytes"] for entry in measured.values())
    return Held(name, shape, dtype, size, reasons.get((name, dtype), "not as hpkit predicts"))


def averages(trainer) -> dict[str, dict]:
    """`{"exp_avg": …, "exp_avg_sq": …}` for the name of each parameter of a live Trainer.

    exp_avg is torch's AdamW's average of the gradients, exp_avg_sq that of their squares, both as
    fp32 copies in the weight's shape. Raises BadInput for an optimizer without them.
    """
    state = _live_state(trainer)
    copies = {}
    for name, weight in trainer.model.named_parameters():
        if weight not in state:
            continue
        own = state[weight]
        if "exp_avg" not in own or "exp_avg_sq" not in own:
            copies.clear()
            break
        copies[name] = {
            key: own[key].detach().float().cpu().clone() for key in ("exp_avg", "exp_avg_sq")
        }
    if not copies:
        raise BadInput(
            "trainer: expected one trained with optim adamw_torch, "
            f"got {trainer.args.optim.value}, which holds no exp_avg now"
        )
    return copies


class Saving(NamedTuple):
    """Optimizer bytes of AdamW in 32 and in 8 bits.

    And of the parameters how many stay at 32 bits, by the reason.
    """

    parameters: int
    bytes_32_bit: int
    bytes_8_bit: int
    in_embeddings: int
    in_small_tensors: int


def saving(source) -> Saving:
    """What adamw_8bit saves on `source`: a live model, a config or a size.

    As for memory.parameters_of. Of a tensor held in 8 bits a parameter takes 2 x 1 byte + 2 x 4/256
    for the scales = 2.03125 bytes, against 2 x 4. Raises BadInput.
    """
    parameters = parameters_of(source)
    full_states = optimizer_states(parameters, "adamw_torch")
    states = optimizer_states(parameters, "adamw_8bit")
    quantized = {state.name for state in states if state.dtype == "uint8"}
    in_embeddings = 0
    in_small_tensors = 0
    for parameter in parameters:
        if parameter.name in quantized:
            continue
        if parameter.embedding:
            in_embeddings += parameter.elements
        else:
            in_small_tensors += parameter.elements
    return Saving(
        parameters=sum(parameter.elements for parameter in parameters),
        bytes_32_bit=sum(state.bytes for state in full_states),
        bytes_8_bit=sum(state.bytes for state in states),
        in_embeddings=in_embeddings,
        in_small_tensors=in_small_tensors,
    )


def _refuse_unknown(name: str, value, choices: tuple) -> None:
    if value not in choices:
        raise BadInput(
            f"{name}: expected {' or '.join(choices)}, got {value!r}"
            f"{did_you_mean(str(value), choices)}"
        )
