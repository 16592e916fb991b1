"""One number, bit by bit, in the formats that training uses: the widget over formats."""

import contextlib
import math
from decimal import Decimal
from typing import ClassVar

import ipywidgets

from hpkit.errors import BadInput
from hpkit.figures.base import BLUE, GREEN, GREY, ORANGE, Picture, blank, rendered, say
from hpkit.formatting import exact_number
from hpkit.labs.formats import FORMATS, Format, Rounding, rounding
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
            "format": ipywidgets.Dropdown(
                options=tuple(FORMATS), value="bf16", description="format of the bits"
            ),
        }
        self._buttons = [_bit() for _ in range(max(format.bits for format in FORMATS.values()))]
        self._fields = [
            ipywidgets.Box(layout=ipywidgets.Layout(flex_flow="row wrap", max_width="470px"))
            for _ in range(3)
        ]
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
                raise BadInput(
                    f"bits: expected {format.bits} of 0 and 1 for {format.name}, got {value!r}"
                )
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
        return int(
            "".join(
                str(int(button.value)) for button in self._buttons[: FORMATS[self.format].bits]
            ),
            2,
        )

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
        preset.value = next(
            (name for name, number in self.presets.items() if number == value), _OWN
        )
        if moved not in self._buttons:  # of NaN, the bits that were clicked stay
            self._show(f"{int(format.pattern(value)):0{format.bits}b}")

    def _arrange(self, format: Format) -> None:
        """One button for each bit, by field."""
        ends = (0, 1, 1 + format.exponent_bits, format.bits)
        for box, start, end in zip(self._fields, ends, ends[1:]):
            box.children = self._buttons[start:end]
        self._buttons[0].tooltip = "sign: 1 is minus"
        for place in range(format.exponent_bits):
            self._buttons[
                1 + place
            ].tooltip = f"exponent, worth {2 ** (format.exponent_bits - 1 - place)}"
        for place in range(format.mantissa_bits):
            self._buttons[
                1 + format.exponent_bits + place
            ].tooltip = f"mantissa, worth 1/{2 ** (1 + place)}"

    def _state(self):
        return (
            self.controls["value"].value,
            self.format,
            self._pattern(),
        )  # of NaN, the bits tell more than the value

    def _draw(self):
        value, format = self.value, FORMATS[self.format]
        shown = dict.fromkeys(("fp32", "fp16", "bf16", self.format))
        self.roundings = tuple(rounding(value, FORMATS[name]) for name in shown)
        items = []
        for found in self.roundings:
            near = (
                ""
                if math.isnan(value)
                else f"; neighbours {exact_number(found.below)} and {exact_number(found.above)}"
            )
            items.append(f"{found.format.name}: {found}{near}")
        lines = [
            f"{format.name} {self.bits}: {format.formula(self._pattern())}",
            f"{exact_number(value)} becomes",
        ]
        return self._figure.draw(list(self.roundings)), paragraphs(lines, items)


def _bit() -> ipywidgets.ToggleButton:
    return ipywidgets.ToggleButton(
        description="0",
        layout=ipywidgets.Layout(width="27px", height="28px", padding="0", margin="1px"),
    )


def _number(name: str, given) -> float:
    """What `float` makes of a number, a text or a tensor of one. Raises BadInput."""
    try:
        number = float(given)
        # A text beyond float64's range would silently be inf or 0.
        lost = isinstance(given, str) and (math.isinf(number), number == 0) != (
            Decimal(given).is_infinite(),
            Decimal(given) == 0,
        )
    except (TypeError, ValueError, RuntimeError, ArithmeticError):
        lost = True
    if lost or isinstance(given, bool):
        raise BadInput(
            f"{name}: expected a number such as 0.1, 1e-8 or inf, within float64's range; got {given!r:.60}"
        )
    return number


def _typed(number: float) -> str:
    return repr(number).removesuffix(".0")


class FormatPicture:
    """One number in several formats: its place in their ranges, and close up on rulers of the numbers they have."""

    height = 4.6
    most_marks = 130  # more on a ruler are drawn as a band

    def __init__(self):
        from matplotlib.collections import LineCollection

        # Texts of our own instead of ticks and titles, whose places matplotlib computes anew: that doubles a redraw.
        self.figure = blank(self.height, layout=None)
        self.ranges, self.rulers = (
            self.figure.add_axes((0.12, bottom, 0.86, height))
            for bottom, height in ((0.7, 0.24), (0.08, 0.5))
        )
        self.titles = [self.figure.text(0.12, y, "") for y in (0.955, 0.595)]
        self.asked = [
            axes.axvline(0, color="black", linestyle="--", linewidth=1.2)
            for axes in (self.ranges, self.rulers)
        ]
        self.rows = [
            self._row(LineCollection([], colors=colour, linewidths=1.6), colour)
            for colour in (BLUE, ORANGE, GREEN, GREY)
        ]
        self.scales = [_scale(axes, 10) for axes in (self.ranges, self.rulers)]
        tens = range(-40, 40, 10)
        _graduate(
            self.scales[0],
            {_ZERO: "0", **{ten: f"1e{ten}" if ten else "1" for ten in tens}, _INF: "inf"},
        )
        self.ranges.set_xlim(_ZERO - 2, _INF + 2)

    def _row(self, marks, colour: str) -> dict:
        marker = dict(
            color="black",
            marker="D",
            markersize=8,
            markerfacecolor="white",
            linestyle="",
            clip_on=False,
        )
        below = dict(facecolor="white", edgecolor=colour, hatch="////", linewidth=1)
        box = dict(facecolor="white", edgecolor="none", pad=1)
        across, name = self.rulers.get_yaxis_transform(), dict(ha="right", va="center")
        return {
            "normal": self.ranges.barh(0, 1, height=0.5, color=colour)[0],
            "subnormal": self.ranges.barh(0, 1, height=0.5, **below)[0],
            "place": self.ranges.plot([], [], **marker)[0],
            "marks": self.rulers.add_collection(marks),
            "band": self.rulers.barh(0, 1, height=0.36, color=colour, alpha=0.45)[0],
            "result": self.rulers.plot([], [], **marker)[0],
            "names": self.ranges.text(
                -0.015, 0, "", transform=self.ranges.get_yaxis_transform(), **name
            ),
            "name": self.rulers.text(-0.015, 0, "", transform=across, **name),
            "words": self.rulers.text(
                0.004, 0, "", transform=across, va="center", fontsize=9.5, bbox=box
            ),
        }

    def draw(self, roundings: list[Rounding]) -> Picture:
        """`roundings` are those of one number in three or four formats."""
        value, coarsest = roundings[0].value, max(roundings, key=lambda rounded: rounded.spacing)
        known = abs(value) < 2 * max(
            rounded.format.largest for rounded in roundings
        )  # not NaN, inf or far beyond every format
        ends = 0.0, 1.0
        if known:
            ends = value - 1.7 * coarsest.spacing, value + 1.7 * coarsest.spacing
        for row, artists in enumerate(self.rows):
            for artist in artists.values():
                artist.set_visible(row < len(roundings))
        for row, (artists, rounded) in enumerate(zip(self.rows, roundings)):
            for name in ("names", "name"):
                artists[name].set(text=rounded.format.name, y=row)
            self._draw_range(artists, rounded, row)
            self._draw_ruler(artists, rounded, row, *ends, known)
        for axes, top in ((self.ranges, 0.5), (self.rulers, 0.75)):
            axes.set_ylim(len(roundings) - 0.5, -top)
        for line, place in zip(self.asked, (_place(value), value)):
            line.set_xdata([place, place])
            line.set_visible(not math.isnan(value))
        self.asked[1].set_visible(known)
        self.rulers.set_xlim(*ends)
        numbers = (
            _between(
                coarsest.format, value - 1.4 * coarsest.spacing, value + 1.4 * coarsest.spacing, 9
            )
            if known
            else []
        )
        numbers = numbers[:: 1 + (len(numbers) > 4)]  # so that the labels do not meet
        _graduate(self.scales[1], {number: exact_number(number) for number in numbers})
        ranges = (
            f"range{' of magnitudes' * (math.copysign(1, value) < 0)}, subnormal numbers hatched"
        )
        ranges += f"; dashed: {exact_number(value)}" * (not math.isnan(value))
        close = (
            f"the numbers each has; below, those of {coarsest.format.name}"
            if known
            else "no numbers to show"
        )
        say(self.titles, [ranges, f"close up: {close}"])
        words = "; ".join(f"{rounded.format.name} {rounded}" for rounded in roundings)
        return rendered(self.figure, f"{exact_number(value)} in {len(roundings)} formats: {words}.")

    def _draw_range(self, artists: dict, rounded: Rounding, row: int) -> None:
        format = rounded.format
        lowest, normal, highest = (
            math.log10(end)
            for end in (format.smallest_subnormal, format.smallest_normal, format.largest)
        )
        artists["subnormal"].set(x=lowest, width=normal - lowest, y=row - 0.25)
        artists["normal"].set(x=normal, width=highest - normal, y=row - 0.25)
        artists["place"].set_data(
            *([], []) if math.isnan(rounded.result) else ([_place(rounded.result)], [row])
        )

    def _draw_ruler(
        self, artists: dict, rounded: Rounding, row: int, low: float, high: float, known: bool
    ) -> None:
        numbers = _between(rounded.format, low, high, self.most_marks) if known else []
        artists["band"].set_visible(numbers is None)
        if numbers is None:  # too many
            left, right = max(low, -rounded.format.largest), min(high, rounded.format.largest)
            artists["band"].set(x=left, width=right - left, y=row - 0.18)
        artists["marks"].set_segments(
            [[(number, row - 0.18), (number, row + 0.18)] for number in numbers or ()]
        )
        inside = known and low <= rounded.result <= high
        artists["result"].set_data(*([rounded.result], [row]) if inside else ([], []))
        artists["words"].set(text=f"becomes {rounded}", y=row - 0.46)


#: Where 0 and inf stand on an axis of powers of ten.
_ZERO, _INF = -51.0, 44.0


def _place(value: float) -> float:
    """log10 of the magnitude; what is beyond every format stands next to 0 or inf."""
    if not value or not math.isfinite(value):
        return _INF if value else _ZERO
    return min(max(math.log10(abs(value)), _ZERO + 2), _INF - 2)


def _scale(axes, most: int) -> list:
    """A line along the lower edge, its marks, and up to `most` texts below it."""
    axes.set_axis_off()
    axes.plot([0, 1], [0, 0], color="black", linewidth=1, transform=axes.transAxes, clip_on=False)
    along = dict(transform=axes.get_xaxis_transform(), clip_on=False)
    marks = axes.plot([], [], color="black", linestyle="", marker=3, markersize=4, **along)[
        0
    ]  # 3: a tick downwards
    y = -0.023 / axes.get_position().height  # as far below either axes
    return [marks, *(axes.text(0, y, "", ha="center", va="top", **along) for _ in range(most))]


def _graduate(scale: list, words: dict[float, str]) -> None:
    marks, *texts = scale
    marks.set_data(list(words), [0] * len(words))
    for text in texts:
        text.set_text("")
    for text, (place, said) in zip(texts, words.items()):
        text.set(text=said, x=place)


def _between(format: Format, low: float, high: float, most: int) -> list[float] | None:
    """The finite numbers from `low` to `high`; None when there are more than `most`."""
    first, last = format.place([low, high]).tolist()
    if last - first > most:
        return None
    return [
        number
        for number in format.at(range(first, last + 1)).tolist()
        if low <= number <= high and math.isfinite(number)
    ]
