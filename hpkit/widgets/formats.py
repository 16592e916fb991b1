"""One number, bit by bit, in the formats that training uses: the widget over formats."""

import contextlib
import math
from decimal import Decimal
from typing import ClassVar

import ipywidgets

from hpkit.errors import BadInput
from hpkit.figures.base import FormatPicture
from hpkit.labs.formats import FORMATS, Format, rounding, shown_number
from hpkit.widgets.base import Interactive, paragraphs

_OWN = "a number of your own"


class FormatExplorer(Interactive):
    """What a number becomes in fp32, fp16 and bf16, and the bits of one format to click.

    Attributes to set: `value` (a number), `format` (a name of formats.FORMATS; one beyond the three joins the picture),
    `bits` (0 and 1 of that format, spaces do not count), `preset` (a name of `presets`). Bits that are set make the value;
    a value that is set makes the bits. `gradient` adds a preset: a gradient of your own run, such as one entry of
    `weight.grad`. `roundings` follow. Raises BadInput.
    """

    PRESETS: ClassVar = {
        "0.1, a fraction none of them has": 0.1,
        "65504, the largest number of fp16": 65504.0,
        "65520, the first that is inf in fp16": 65520.0,
        "1e-8, a small gradient": 1e-8,
        "257 = 256 + 1": 257.0,
        "3.4e38, near the end of fp32": 3.4e38,
    }
    settable = ("bits",)
    roundings = ()

    def __init__(self, value: float = 0.1, format: str = "bf16", gradient: float | None = None):
        self._figure, self._following, self.presets = FormatPicture(), False, dict(self.PRESETS)
        if gradient is not None:
            number = _number("gradient", gradient)
            self.presets[f"{number:.3g}, a gradient of your run"] = number
        controls = {
            "preset": ipywidgets.Dropdown(options=(_OWN, *self.presets), description="preset"),
            "value": ipywidgets.Text(description="value", continuous_update=False),
            "format": ipywidgets.Dropdown(options=tuple(FORMATS), value="bf16", description="format of the bits"),
        }
        self._buttons = [_bit() for _ in range(max(format.bits for format in FORMATS.values()))]
        self._fields = [ipywidgets.Box(layout=ipywidgets.Layout(flex_flow="row wrap", max_width="470px")) for _ in range(3)]
        names = [ipywidgets.HTML(name) for name in ("sign", "exponent", "mantissa")]
        board = ipywidgets.VBox([part for pair in zip(names, self._fields) for part in pair])
        # Observed before the base does, so that what moves together is drawn as one.
        for control in controls.values():
            control.observe(self._follow, "value")
        for button in self._buttons:
            button.observe(self._follow, "value")
        self._arrange(FORMATS["bf16"])
        super().__init__(controls, dict(value=value, format=format), extra=(board,))
        for button in self._buttons:
            button.observe(self._changed, "value")

    def set(self, **values) -> None:
        """As Interactive.set; the bits come after their format."""
        super().set(**dict(sorted(values.items(), key=lambda item: item[0] == "bits")))

    def _put(self, name: str, value) -> None:
        if name == "value":
            _number(name, value)  # raises BadInput
            self.controls[name].value = value if isinstance(value, str) else _typed(float(value))
        elif name == "bits":
            format, digits = FORMATS[self.format], str(value).replace(" ", "")
            if len(digits) != format.bits or set(digits) - {"0", "1"}:
                raise BadInput(f"bits: expected {format.bits} of 0 and 1 for {format.name}, got {value!r}")
            self._show(digits)
            self._follow({"owner": self._buttons[0]})
        else:
            super()._put(name, value)

    @property
    def value(self) -> float:
        """The number as typed, in float64; `bits` and `roundings` have what a format makes of it. Raises BadInput."""
        return _number("value", self.controls["value"].value)

    @property
    def bits(self) -> str:
        """Sign, exponent and mantissa as in `0 01111011 1001101`."""
        return FORMATS[self.format].written(self._pattern())

    def _pattern(self) -> int:
        return int("".join(str(int(button.value)) for button in self._buttons[: FORMATS[self.format].bits]), 2)

    # The preset, the number and the bits say the same: whichever moves takes the others with it.

    def _follow(self, change) -> None:
        if not self._following:
            with self._alone():
                self._move(change["owner"])

    @contextlib.contextmanager
    def _alone(self):
        """What is moved within takes nothing with it and is not drawn."""
        following, self._following = self._following, True
        try:
            with self._hold():
                yield
        finally:
            self._following = following

    def _show(self, digits: str) -> None:
        with self._alone():
            for button, digit in zip(self._buttons, digits):
                button.value, button.description = digit == "1", digit

    def _move(self, moved) -> None:
        format, text, preset = FORMATS[self.format], self.controls["value"], self.controls["preset"]
        if moved in self._buttons:
            moved.description = str(int(moved.value))
            text.value = _typed(format.decode(self._pattern()).value.item())
        elif moved is preset and moved.value in self.presets:
            text.value = _typed(self.presets[moved.value])
        if moved is self.controls["format"]:
            self._arrange(format)
        try:
            value = self.value
        except BadInput:  # what was typed is no number; drawing says so
            preset.value = _OWN
            return
        preset.value = next((name for name, number in self.presets.items() if number == value), _OWN)
        if moved not in self._buttons:  # of NaN, the bits that were clicked stay
            self._show(f"{int(format.pattern(value)):0{format.bits}b}")

    def _arrange(self, format: Format) -> None:
        """One button for each bit, by field."""
        ends = (0, 1, 1 + format.exponent_bits, format.bits)
        for box, start, end in zip(self._fields, ends, ends[1:]):
            box.children = self._buttons[start:end]
        self._buttons[0].tooltip = "sign: 1 is minus"
        for place in range(format.exponent_bits):
            self._buttons[1 + place].tooltip = f"exponent, worth {2 ** (format.exponent_bits - 1 - place)}"
        for place in range(format.mantissa_bits):
            self._buttons[1 + format.exponent_bits + place].tooltip = f"mantissa, worth 1/{2 ** (1 + place)}"

    def _state(self):
        return self.controls["value"].value, self.format, self._pattern()  # of NaN, the bits tell more than the value

    def _draw(self):
        value, format = self.value, FORMATS[self.format]
        shown = dict.fromkeys(("fp32", "fp16", "bf16", self.format))
        self.roundings = tuple(rounding(value, FORMATS[name]) for name in shown)
        items = []
        for found in self.roundings:
            near = "" if math.isnan(value) else f"; neighbours {shown_number(found.below)} and {shown_number(found.above)}"
            items.append(f"{found.format.name}: {found}{near}")
        lines = [f"{format.name} {self.bits}: {format.formula(self._pattern())}", f"{shown_number(value)} becomes"]
        return self._figure.draw(list(self.roundings)), paragraphs(lines, items)


def _bit() -> ipywidgets.ToggleButton:
    return ipywidgets.ToggleButton(description="0", layout=ipywidgets.Layout(width="27px", height="28px", padding="0", margin="1px"))


def _number(name: str, given) -> float:
    """What `float` makes of a number, a text or a tensor of one. Raises BadInput."""
    try:
        number = float(given)
        # A text beyond float64's range would silently be inf or 0.
        lost = isinstance(given, str) and (math.isinf(number), number == 0) != (Decimal(given).is_infinite(), Decimal(given) == 0)
    except (TypeError, ValueError, RuntimeError, ArithmeticError):
        lost = True
    if lost or isinstance(given, bool):
        raise BadInput(f"{name}: expected a number such as 0.1, 1e-8 or inf, within float64's range; got {given!r:.60}")
    return number


def _typed(number: float) -> str:
    return repr(number).removesuffix(".0")
