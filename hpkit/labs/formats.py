"""fp32, fp16, bf16 and, as an outlook, tf32 and two 8-bit formats, bit by bit.

Fields, range, spacing, rounding. torch does the rounding; the tests hold it against ml_dtypes and
exact fractions. Bit patterns are int64 tensors. Values are float64 tensors: float64 holds every
number of every format.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from hpkit.errors import BadInput
from hpkit.formatting import exact_number


class Fields(NamedTuple):
    """The three fields of bit patterns as int64 tensors, and the float64 values they make.

    Shapes are as the patterns'.
    """

    sign: object
    exponent: object
    mantissa: object
    value: object


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: one sign bit, then `exponent_bits`, then `mantissa_bits`.

    `dtype` is torch's name for it. tf32 has none: it is how a GPU reads fp32 for a product.
    `has_inf` is false where the largest exponent holds numbers too, and NaN alone has all bits set
    (E4M3). Methods take a number or a tensor of any shape, and raise BadInput for anything else.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    dtype: str | None
    has_inf: bool = True

    @property
    def bits(self) -> int:
        """Bits of a number, sign and all."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        """What is taken off the exponent field."""
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def largest(self) -> float:
        """The largest finite number."""
        if self.has_inf:
            return 2.0**self.bias * (2 - self.epsilon)
        return 2.0 ** (self.bias + 1) * (2 - 2 * self.epsilon)  # the very last pattern is NaN

    @property
    def smallest_normal(self) -> float:
        """The smallest number with all its significant bits."""
        return 2.0 ** (1 - self.bias)

    @property
    def smallest_subnormal(self) -> float:
        """The smallest number above 0."""
        return self.smallest_normal * self.epsilon

    @property
    def epsilon(self) -> float:
        """From 1 to the next number."""
        return 2.0**-self.mantissa_bits

    @property
    def digits(self) -> float:
        """Decimal digits of a normal number: fp32 7.2, fp16 3.3, bf16 2.4."""
        return (self.mantissa_bits + 1) * math.log10(2)

    @property
    def exact_integers(self) -> int:
        """Every whole number up to this one is kept; the next is not."""
        return 2 ** (self.mantissa_bits + 1)

    def decode(self, patterns) -> Fields:
        """The fields of bit patterns (whole numbers from 0), and what they make by IEEE 754."""
        import torch

        patterns = torch.as_tensor(patterns, dtype=torch.int64)
        # Of a negative number bits are left as well: the shift fills up with its sign.
        if (patterns >> self.bits).any():
            raise BadInput(
                f"{self.name}: expected patterns from 0 to {2**self.bits - 1}, "
                f"got {patterns.min()} to {patterns.max()}"
            )
        sign = patterns >> (self.bits - 1)
        exponent = (patterns >> self.mantissa_bits) & (2**self.exponent_bits - 1)
        mantissa = patterns & (2**self.mantissa_bits - 1)
        # An exponent field of 0 means subnormal: the exponent of 1, without the leading 1.
        power = 2.0 ** (exponent.clamp(min=1) - self.bias).double()
        value = power * ((exponent > 0).double() + mantissa.double() * self.epsilon)
        # The largest exponent is that of inf and NaN; E4M3 gives all of it but the last mantissa
        # to numbers.
        top = exponent == 2**self.exponent_bits - 1
        if self.has_inf:
            value = torch.where(top, torch.where(mantissa == 0, math.inf, math.nan), value)
        else:
            value = torch.where(top & (mantissa == 2**self.mantissa_bits - 1), math.nan, value)
        return Fields(sign, exponent, mantissa, torch.where(sign == 1, -value, value))

    def _convert(self, values):
        """As a tensor of the format's own dtype; of tf32, fp32 rounded."""
        import torch

        # A float64 goes through fp32, as in torch's and ml_dtypes' own conversions, and as weights
        # and gradients do.
        values = _float64(values).float()
        if self.dtype:
            return values.to(getattr(torch, self.dtype))
        # No library has tf32. In float64 nothing but torch.round rounds here, ties to even; beyond
        # the largest it is fp32's inf.
        steps = self.spacing(values)
        return ((values.double() / steps).round() * steps).float()

    def round(self, values):
        """The nearest number of this format, ties to even, as float64.

        Too large a number becomes inf. E4M3 has no inf: torch 2.13 stops at 448 there, ml_dtypes
        makes it NaN. A GPU's own rounding to tf32 may treat ties otherwise. A float64 is rounded to
        fp32 first.
        """
        return self._convert(values).double()

    def pattern(self, values):
        """The bits of the rounded values as whole numbers.

        NaN has many patterns, and libraries differ in which they take.
        """
        import torch

        converted = self._convert(values)
        whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[converted.element_size()]
        unused = 8 * converted.element_size() - self.bits  # tf32 leaves 13 bits of fp32 zero
        return (converted.view(whole).long() >> unused) & (2**self.bits - 1)

    def spacing(self, values):
        """From a magnitude to the next larger number; beyond the range, as at its end. float64."""
        import torch

        # Subnormal numbers are as far apart as the smallest normal ones.
        magnitude = _float64(values).abs().clamp(self.smallest_normal, self.largest)
        # frexp's mantissa lies below 1, IEEE 754's from 1 on: one off the exponent.
        step = 2.0 ** (torch.frexp(magnitude).exponent - 1 - self.mantissa_bits).double()
        return torch.where(magnitude.isnan(), math.nan, step)

    def neighbours(self, values):
        """(below, above): the nearest numbers strictly less and strictly greater, as float64.

        After the largest comes inf, and in E4M3 nothing: NaN. Of inf, inf is its own neighbour.
        """
        import torch

        values = _float64(values)
        nearest = self.round(values)
        place = self.place(values)
        end = int(self.place(self.largest)) + 1
        below = self.at((place - 1).clamp(-end, end))
        above = self.at((place + 1).clamp(-end, end))
        # Between two numbers the rounded value is one of the neighbours itself.
        below = torch.where(nearest < values, nearest, below)
        above = torch.where(nearest > values, nearest, above)
        below = torch.where(values.isnan(), math.nan, below)
        above = torch.where(values.isnan(), math.nan, above)
        return below, above

    def place(self, values):
        """Where the rounded value stands among the format's numbers; int64.

        Counted from 0, negative numbers below.
        """
        import torch

        # Without their sign, patterns rise with the numbers: IEEE 754 puts the exponent first.
        pattern = self.pattern(values)
        magnitude = pattern & (2 ** (self.bits - 1) - 1)
        return torch.where(pattern == magnitude, magnitude, -magnitude)

    def at(self, places):
        """The values at places that `place` gives."""
        import torch

        places = torch.as_tensor(places, dtype=torch.int64)
        return self.decode(torch.where(places < 0, 2 ** (self.bits - 1) - places, places)).value

    def relative_error(self, values):
        """|rounded - value| / |value|, float64.

        1 where a number becomes 0, inf where it becomes inf, 0 for 0 itself.
        """
        import torch

        values = _float64(values)
        rounded = self.round(values)
        error = (rounded - values).abs() / values.abs()
        # 0 / 0 and inf - inf would be NaN.
        exact = (values == 0) | (values.isinf() & (rounded == values))
        return torch.where(exact, 0.0, error)

    def written(self, pattern: int) -> str:
        """One pattern with its fields apart: `0 01111011 1001101`."""
        # In binary with leading zeros, so that each field has its full width.
        digits = f"{int(pattern):0{self.bits}b}"
        mantissa_at = 1 + self.exponent_bits
        return f"{digits[0]} {digits[1:mantissa_at]} {digits[mantissa_at:]}"

    def formula(self, pattern: int) -> str:
        """How the fields of one pattern make its value.

        Such as `2^(123 - 127) x (1 + 77/128) = 0.100097656`.
        """
        sign, exponent, mantissa, value = (part.item() for part in self.decode(pattern))
        if math.isnan(value):
            kind = "that is not 0" if self.has_inf else "of ones"
            return f"an exponent of ones and a mantissa {kind}: NaN"
        minus = "-" if sign else ""
        if math.isinf(value):
            return f"an exponent of ones and a mantissa of 0: {minus}inf"
        share = f"{mantissa}/{2**self.mantissa_bits}"
        if exponent:
            return f"{minus}2^({exponent} - {self.bias}) x (1 + {share}) = {exact_number(value)}"
        words = f"{minus}2^(1 - {self.bias}) x {share} = {exact_number(value)}"
        if mantissa:
            words += ", subnormal"
        return words


def _float64(values):
    import torch

    try:
        return torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise BadInput(
            f"expected a number, or a tensor of numbers, within float64's range; got {values!r:.60}"
        ) from None


FORMATS = {
    format.name: format
    for format in (
        Format("fp32", 8, 23, "float32"),
        Format("fp16", 5, 10, "float16"),
        Format("bf16", 8, 7, "bfloat16"),
        Format("tf32", 8, 10, None),
        Format("fp8 E4M3", 4, 3, "float8_e4m3fn", has_inf=False),
        Format("fp8 E5M2", 5, 2, "float8_e5m2"),
    )
}


class Rounding(NamedTuple):
    """What one number becomes in one format.

    The nearest number there, its bits, its neighbours, the spacing and the relative error.
    """

    format: Format
    value: float
    result: float
    pattern: int
    below: float
    above: float
    spacing: float
    error: float

    def __str__(self):
        if math.isnan(self.result):
            return "NaN"
        if abs(self.value) > self.format.largest and not self.format.has_inf:
            return f"{self.result:g}, its largest number: it has no inf"
        if self.value and not self.result:
            smallest = exact_number(self.format.smallest_subnormal)
            return f"{self.result:g}, for it is not above half the smallest number, {smallest}"
        if math.isinf(self.result) and math.isfinite(self.value):
            largest = exact_number(self.format.largest)
            return f"{self.result:g}, for it is too far beyond the largest number, {largest}"
        error = "exact" if self.error == 0 else f"relative error {self.error:.2g}"
        words = f"{exact_number(self.result)}, {error}"
        if 0 < abs(self.result) < self.format.smallest_normal:
            words += ", subnormal"
        return words


def rounding(value: float, format: Format) -> Rounding:
    """What `value` becomes in `format`. Raises BadInput for what is no number."""
    result = format.round(value)  # first: it refuses what float() would stumble over
    below, above = format.neighbours(value)
    return Rounding(
        format=format,
        value=float(value),
        result=result.item(),
        pattern=format.pattern(value).item(),
        below=below.item(),
        above=above.item(),
        spacing=format.spacing(value).item(),
        error=format.relative_error(value).item(),
    )


# What arithmetic in these formats does.


def running_sums(terms, format: Format):
    """The sum after each of `terms` (n, …), every sum rounded to the format; as terms, float64.

    As an accumulator of that format works: term by term. `torch.sum` keeps its accumulator in fp32,
    and adds in pieces.
    """
    import torch

    total = torch.zeros(terms.shape[1:], dtype=torch.float64)
    sums = torch.empty(terms.shape, dtype=torch.float64)
    for step, term in enumerate(terms.double()):
        total = format.round(total + term)
        sums[step] = total
    return sums


def split(values, parts: int) -> list:
    """fp32 values as `parts` bf16 tensors, each the rounding of what the ones before left over.

    Three make up fp32 exactly: 3 x 8 significant bits are its 24. Not so where the last part falls
    below bf16's smallest number, or a value is larger than bf16's largest. Raises BadInput for no
    parts.
    """
    if parts < 1:
        raise BadInput(f"parts: expected a whole number of 1 or more, got {parts}")
    result = []
    rest = values.float()
    for _ in range(parts):
        part = rest.bfloat16()
        result.append(part)
        rest = rest - part.float()
    return result


def matmul_in_parts(left, right, parts: int):
    """left @ right (fp32) from bf16 parts alone: 1, 3 or 6 products for 1, 2 or 3 parts.

    The smallest products are left out. Henry, Tang and Heinecke, Leveraging the bfloat16 Datatype
    (2019), arXiv 1904.06376. A bf16 x bf16 product is exact in fp32, so fp32 matrix products stand
    for hardware that takes bf16 and adds in fp32.
    """
    lefts = split(left, parts)
    rights = split(right, parts)
    total = 0
    # The products whose parts' numbers add up to `order` are of one size. Small ones come first, so
    # that only the last sums round at full size.
    for order in reversed(range(parts)):
        for part in range(order + 1):
            total = total + lefts[part].float() @ rights[order - part].float()
    return total
