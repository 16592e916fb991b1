"""One number, bit by bit, in the formats that training uses: the widget over formats.

A preset, a number and the bits of one format say the same and move one another; the picture is
format_picture's.
"""

import contextlib
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import ClassVar

import ipywidgets

from hpkit.errors import BadInput
from hpkit.formatting import exact_number
from hpkit.labs.formats import FORMATS, Format, rounding
from hpkit.widgets.base import Interactive, paragraphs
from hpkit.widgets.format_picture import FormatPicture

_OWN = "a number of your own"


class FormatExplorer(Interactive):
    """What a number becomes in fp32, fp16 and bf16, and the bits of one format to click.

    Attributes to set: `value` (a number), `format` (a name of formats.FORMATS; one beyond the
    three joins the picture), `bits` (0 and 1 of that format, spaces do not count), `preset` (a
    name of `presets`). Bits that are set make the value; a value that is set makes the bits.
    `gradient` adds a preset: a gradient of your own run, such as one entry of `weight.grad`.
    `roundings` follow. Raises BadInput.
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
        self._figure = FormatPicture()
        self._following = False
        self.presets = dict(self.PRESETS)
        if gradient is not None:
            number = _parsed_number("gradient", gradient)
            self.presets[f"{number:.3g}, a gradient of your run"] = number
        controls = {
            "preset": ipywidgets.Dropdown(options=(_OWN, *self.presets), description="preset"),
            "value": ipywidgets.Text(description="value", continuous_update=False),
            "format": ipywidgets.Dropdown(
                options=tuple(FORMATS), value="bf16", description="format of the bits"
            ),
        }
        # As many as the widest format has; `_arrange` shows those of the format at hand.
        self._buttons = [_bit() for _ in range(max(format.bits for format in FORMATS.values()))]
        self._fields = [_field() for _ in range(3)]
        # Observed before the base does, so that what moves together is drawn as one.
        for control in (*controls.values(), *self._buttons):
            control.observe(self._follow, "value")
        self._arrange(FORMATS["bf16"])
        board = []
        for name, field in zip(("sign", "exponent", "mantissa"), self._fields):
            board += [ipywidgets.HTML(name), field]
        start = {"value": value, "format": format}
        super().__init__(controls, start, extra=(ipywidgets.VBox(board),))
        # The base knows the controls alone, and the bits are part of what is drawn.
        for button in self._buttons:
            button.observe(self._changed, "value")

    def set(self, **values) -> None:
        """As Interactive.set; the bits come after their format."""
        if "bits" in values:
            values["bits"] = values.pop("bits")  # now the last
        super().set(**values)

    def _put(self, name: str, value) -> None:
        if name == "value":
            number = _parsed_number(name, value)
            # What is typed stays as it was typed: `1e-8`, not `1e-08`.
            text = value if isinstance(value, str) else _typed(number)
            self.controls[name].value = text
        elif name == "bits":
            self._put_bits(value)
        else:
            super()._put(name, value)

    def _put_bits(self, value) -> None:
        format = FORMATS[self.format]
        digits = str(value).replace(" ", "")
        if len(digits) != format.bits or set(digits) - {"0", "1"}:
            raise BadInput(
                f"bits: expected {format.bits} of 0 and 1 for {format.name}, got {value!r}"
            )
        self._show(digits)
        self._follow({"owner": self._buttons[0]})  # as a click on one of them

    @property
    def value(self) -> float:
        """The number as typed, in float64; `bits` and `roundings` have what a format makes of it.

        Raises BadInput.
        """
        return _parsed_number("value", self.controls["value"].value)

    @property
    def bits(self) -> str:
        """Sign, exponent and mantissa as in `0 01111011 1001101`."""
        return FORMATS[self.format].written(self._pattern())

    def _pattern(self) -> int:
        buttons = self._buttons[: FORMATS[self.format].bits]
        return int("".join(str(int(button.value)) for button in buttons), 2)

    # The preset, the number and the bits say the same: whichever moves takes the others with it.

    def _follow(self, change) -> None:
        # What `_move` moves is observed as well, and would come back here.
        if not self._following:
            with self._alone():
                self._move(change["owner"])

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """What is moved within takes nothing with it and is not drawn."""
        following = self._following
        self._following = True
        try:
            with self._hold():
                yield
        finally:
            self._following = following

    def _show(self, digits: str) -> None:
        with self._alone():
            for button, digit in zip(self._buttons, digits):
                button.value = digit == "1"
                button.description = digit

    def _move(self, moved) -> None:
        format = FORMATS[self.format]
        text = self.controls["value"]
        preset = self.controls["preset"]
        if moved in self._buttons:
            moved.description = str(int(moved.value))
            text.value = _typed(format.decode(self._pattern()).value.item())
        elif moved is preset and moved.value in self.presets:
            text.value = _typed(self.presets[moved.value])
        elif moved is self.controls["format"]:
            self._arrange(format)
        try:
            value = self.value
        except BadInput:  # what was typed is no number; drawing says so
            preset.value = _OWN
            return
        preset.value = self._preset_of(value)
        if moved not in self._buttons:  # of NaN, the bits that were clicked stay
            self._show(f"{int(format.pattern(value)):0{format.bits}b}")

    def _preset_of(self, value: float) -> str:
        for name, number in self.presets.items():
            if number == value:
                return name
        return _OWN

    def _arrange(self, format: Format) -> None:
        """One button for each bit, by field, each with a tooltip that says what it is worth."""
        sign = self._buttons[0]
        exponent = self._buttons[1 : 1 + format.exponent_bits]
        mantissa = self._buttons[1 + format.exponent_bits : format.bits]
        for box, buttons in zip(self._fields, ([sign], exponent, mantissa)):
            box.children = buttons
        sign.tooltip = "sign: 1 is minus"
        for power, button in enumerate(reversed(exponent)):
            button.tooltip = f"exponent, worth {2**power}"
        for power, button in enumerate(mantissa, start=1):
            button.tooltip = f"mantissa, worth 1/{2**power}"

    def _state(self):
        # The pattern too: of NaN, the bits tell more than the value.
        return self.controls["value"].value, self.format, self._pattern()

    def _draw(self):
        value = self.value
        format = FORMATS[self.format]
        # A dictionary for its order, and so that no format comes twice.
        shown = dict.fromkeys(("fp32", "fp16", "bf16", self.format))
        self.roundings = tuple(rounding(value, FORMATS[name]) for name in shown)
        items = []
        for found in self.roundings:
            item = f"{found.format.name}: {found}"
            if not math.isnan(value):
                below = exact_number(found.below)
                item += f"; neighbours {below} and {exact_number(found.above)}"
            items.append(item)
        lines = [
            f"{format.name} {self.bits}: {format.formula(self._pattern())}",
            f"{exact_number(value)} becomes",
        ]
        return self._figure.draw(list(self.roundings)), paragraphs(lines, items)


def _bit() -> ipywidgets.ToggleButton:
    layout = ipywidgets.Layout(width="27px", height="28px", padding="0", margin="1px")
    return ipywidgets.ToggleButton(description="0", layout=layout)


def _field() -> ipywidgets.Box:
    """A box for the bits of one field, which wrap where there are many."""
    return ipywidgets.Box(layout=ipywidgets.Layout(flex_flow="row wrap", max_width="470px"))


def _parsed_number(name: str, given) -> float:
    """What `float` makes of a number, a text or a tensor of one. Raises BadInput."""
    # A tensor of several raises RuntimeError; 10**400 an ArithmeticError, as Decimal does.
    with contextlib.suppress(TypeError, ValueError, RuntimeError, ArithmeticError):
        number = float(given)
        out_of_range = isinstance(given, str) and _beyond_float64(given, number)
        if not out_of_range and not isinstance(given, bool):
            return number
    raise BadInput(
        f"{name}: expected a number such as 0.1, 1e-8 or inf, within float64's range; "
        f"got {given!r:.60}"
    )


def _beyond_float64(text: str, number: float) -> bool:
    """Has `float` made inf or 0 of a text that says another number? It does so without a word."""
    exact = Decimal(text)
    return math.isinf(number) != exact.is_infinite() or (number == 0) != (exact == 0)


def _typed(number: float) -> str:
    """As a person types it: `257`, not `257.0`."""
    return repr(number).removesuffix(".0")
