"""The base of all widgets: controls as attributes, one drawing for each change, errors shown.

Core ipywidgets from 7.7 (Colab) to 8. A picture is a kept figure rendered to PNG into an
`HTML('<img alt=…>')` of known size: the fastest way measured, and one that a screen reader can
read.
"""

import contextlib
import html
import numbers
import re
import struct
from base64 import b64encode
from collections.abc import Mapping
from types import MappingProxyType

import ipywidgets
from traitlets import TraitError

from hpkit.errors import BadInput, did_you_mean
from hpkit.figures.base import Picture
from hpkit.formatting import shown_number


class Interactive:
    """Controls, a picture and words about it. The base of all widgets here.

    `controls` maps names to ipywidgets. Each name is also an attribute:
    `explorer.learning_rate = 1e-3` moves the control and draws once, as a hand on it does; a value
    it cannot take raises BadInput. `picture`, `summary` and `error` are what is shown now. A
    BadInput while drawing is shown, and raised too where `raise_errors` is true, as under test; any
    other exception is shown and raised.

    A subclass makes its controls, calls `super().__init__` with them and the `values` to start
    from, and has `_draw`. Names in `settable` are properties that `_put` knows to spread over
    controls.
    """

    raise_errors = False
    settable = ()
    # Empty until a subclass hands its controls to `__init__`: what is set before is ordinary.
    controls: Mapping = MappingProxyType({})
    picture = None
    summary = ""
    error = ""

    def __init__(
        self, controls: dict, values: dict | None = None, title: str = "", extra: tuple = ()
    ):
        self._holding = False
        # A state that could not be drawn is tried once, and belongs to no picture.
        self._tried_state = None
        self._pictured_state = None
        self._image = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="100%"))
        self._words = ipywidgets.HTML()
        self._error = ipywidgets.HTML()
        self._mark = ipywidgets.HTML()
        self.box = self._laid_out(controls, title, extra)
        self.controls = controls
        for control in controls.values():
            control.observe(self._changed, "value")
        self.set(**values or {})

    def _laid_out(self, controls: dict, title: str, extra: tuple) -> ipywidgets.Box:
        """The controls on the left of the picture, or above it where the page is narrow."""
        for control in controls.values():
            # The longest names have 27 characters; ipywidgets' own 80 pixels cut them off.
            control.style = {"description_width": "205px"}
            control.layout.width = "480px"
            control.layout.max_width = "100%"
        column = [*controls.values(), *extra]
        if title:
            column.insert(0, ipywidgets.HTML(paragraphs([title])))
        left = ipywidgets.VBox(column, layout=ipywidgets.Layout(max_width="100%"))
        right = ipywidgets.VBox(
            [self._error, self._image, self._words],
            layout=ipywidgets.Layout(width="710px", max_width="100%"),
        )
        return ipywidgets.Box(
            [left, right, self._mark], layout=ipywidgets.Layout(flex_flow="row wrap")
        )

    # State as attributes.

    def __getattr__(self, name: str):
        # Python asks here only for a name that it has found nowhere else.
        if name not in self.controls:
            raise AttributeError(self._has_no(name, self.controls))
        return self.controls[name].value

    def __setattr__(self, name: str, value) -> None:
        if name in self.controls or (self.controls and name in self.settable):
            self.set(**{name: value})
        elif self._may_be_set(name):
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(self._has_no(name, self.controls))

    def _may_be_set(self, name: str) -> bool:
        """Whether an ordinary attribute may have this name: a slip of a control's may not."""
        return not self.controls or name.startswith("_") or hasattr(type(self), name)

    def _has_no(self, name: str, known) -> str:
        return f"{type(self).__name__} has no {name!r}{did_you_mean(name, known)}"

    def __dir__(self):
        return {*super().__dir__(), *self.controls}

    def set(self, **values) -> None:
        """Move several controls and draw once.

        Raises BadInput, and moves none, when one cannot take its value.
        """
        known = [*self.controls, *self.settable]
        for name in values:
            if name not in known:
                raise BadInput(self._has_no(name, known))
        before = {name: control.value for name, control in self.controls.items()}
        with self._hold():
            try:
                for name, value in values.items():
                    self._put(name, value)
            except BadInput:
                for name, control in self.controls.items():
                    control.value = before[name]
                raise
        self._changed()

    def _put(self, name: str, value) -> None:
        """Move one control, without drawing. Raises BadInput."""
        control = self.controls[name]
        if isinstance(control, ipywidgets.SelectionSlider):
            self._put_number(name, value)
        elif hasattr(control, "options"):
            self._put_choice(name, value)
        else:
            try:
                control.value = value
            except TraitError:
                raise BadInput(f"{name}: expected text, got {value!r}") from None

    def _put_number(self, name: str, value) -> None:
        control = self.controls[name]
        choices = _choices(control)
        whole = all(isinstance(choice, int) for choice in choices)
        # To Python True is the whole number 1, and NaN is a number: it lies between no two others.
        fits = isinstance(value, numbers.Real) and not isinstance(value, bool)
        fits = fits and choices[0] <= value <= choices[-1]
        if not fits or (whole and value != int(value)):
            kind = "whole number" if whole else "number"
            expected = f"a {kind} from {choices[0]:,g} to {choices[-1]:,g}"
            raise BadInput(f"{name}: expected {expected}, got {value!r}")
        value = int(value) if whole else float(value)
        # In one message: between two, the browser would send its own idea of the place.
        with control.hold_sync():
            if value not in choices:
                choices = sorted([*choices, value])
                control.options = [(self._label(name, choice), choice) for choice in choices]
            control.value = value

    def _put_choice(self, name: str, value) -> None:
        control = self.controls[name]
        choices = _choices(control)
        if value not in choices:
            names = list(map(str, choices))
            hint = did_you_mean(str(value), names)
            raise BadInput(f"{name}: expected one of {', '.join(names)}, got {value!r}{hint}")
        control.value = value

    def _label(self, name: str, value) -> str:
        """How a slider shows a value of its own."""
        return shown_number(value)

    @contextlib.contextmanager
    def _hold(self):
        """Changes within are not drawn."""
        held_before = self._holding  # one hold may stand within another
        self._holding = True
        try:
            yield
        finally:
            self._holding = held_before

    # Drawing.

    def _state(self):
        """What the picture depends on."""
        return {name: getattr(self, name) for name in self.controls}

    def _draw(self) -> tuple[Picture, str]:
        """The picture of the present state, and the summary as HTML. Raises BadInput."""
        raise NotImplementedError

    def _changed(self, change=None) -> None:
        if self._holding:
            return
        state = self._state()
        # `set` comes here whether it has moved anything or not.
        if state == self._tried_state:
            return
        self._tried_state = state
        try:
            picture, words = self._draw()
        except BadInput as error:
            self._fail(str(error))
            if self.raise_errors:
                raise
        except Exception as error:
            # Whoever moves a control sees no traceback: without this the widget would seem dead.
            self._fail(f"{type(error).__name__}: {error}")
            raise
        else:
            self.picture = picture
            self.error = ""
            self.summary = html.unescape(_without_tags(words))
            self._pictured_state = state
            self._error.value = ""
            self._words.value = words
            self._image.value = _img_element(picture)

    def _fail(self, message: str) -> None:
        """Show what is wrong; the picture of the state before stays, faded."""
        self.error = message
        stale = self.picture is not None and self._state() != self._pictured_state
        note = ""
        if stale:
            note = "The picture and the words below belong to the setting before."
        self._error.value = (
            f'<p role="alert"><b>Not possible:</b> {html.escape(message)}. {note}</p>'
        )
        if stale:
            outdated = Picture(self.picture.png, f"Out of date: {self.picture.alt}")
            self._image.value = _img_element(outdated, opacity=0.35)

    def _ipython_display_(self) -> None:
        """A still picture, which needs no kernel and no widget state; then the live widget.

        The live widget hides the still picture. The text of both is computed, so nbval compares it.
        """
        from IPython.display import display

        # Where a browser or a front end knows these names otherwise, both are seen.
        live = f"hpkit-live-{self.box.model_id}"
        output = ":is(.jp-OutputArea-child, .output_area, .display_data)"
        hides = f"{output}:has(+ {output} .{live}) {{display: none}}"
        self._mark.value = f'<i class="{live}"></i><style>{hides}</style>'
        if self.picture:
            data, metadata = self.picture._repr_mimebundle_()
            display(data, raw=True, metadata=metadata)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        words = self.error or self.summary
        display({"application/vnd.jupyter.widget-view+json": view, "text/plain": words}, raw=True)


def _choices(control) -> list:
    """The values of a control's options, which may be given as pairs of a label and a value."""
    return [option[1] if isinstance(option, tuple) else option for option in control.options]


def _img_element(picture: Picture, opacity: float = 1) -> str:
    source = b64encode(picture.png).decode()
    # A PNG says its size at bytes 16 to 23; the page is told, so that it does not jump.
    width, height = struct.unpack(">II", picture.png[16:24])
    style = f"display: block; max-width: 100%; height: auto; opacity: {opacity}; background: white"
    return (
        f'<img alt="{html.escape(picture.alt)}" width="{width}" height="{height}"'
        f' src="data:image/png;base64,{source}" style="{style}">'
    )


def paragraphs(lines, items=()) -> str:
    """Lines and list items, both plain text, as HTML."""
    body = "".join(
        f'<p style="margin: 0.3em 0; line-height: 1.4">{html.escape(line)}</p>' for line in lines
    )
    listed = "".join(f"<li>{html.escape(item)}</li>" for item in items)
    if not listed:
        return body
    style = "margin: 0.3em 0; padding-left: 1.4em; line-height: 1.4"
    return f'{body}<ul style="{style}">{listed}</ul>'


def _without_tags(words: str) -> str:
    lines = re.sub(r"</(p|li)>", "\n", words)
    return re.sub(r"<[^>]*>", "", lines).strip()


def slider(description: str, values) -> ipywidgets.SelectionSlider:
    """A slider over `values`, in rising order.

    By attribute it takes any number between their ends as well. Not a FloatSlider: in ipywidgets 8
    those move a number that is no whole count of steps to one that is, when shown.
    """
    values = list(dict.fromkeys(values))
    return ipywidgets.SelectionSlider(
        options=[(shown_number(value), value) for value in values],
        value=values[0],
        description=description,
    )


def decades(low: int, high: int, kind=float) -> list:
    """1, 1.5, 2, 3, 5 and 7 times the powers of ten from 10^low, up to 10^high.

    With `kind` int whole numbers alone.
    """
    # Read from decimal text, as a person would type it: 7 * 10**-5 is not the float 7e-05.
    texts = [f"{digits}e{power}" for power in range(low, high) for digits in (1, 1.5, 2, 3, 5, 7)]
    values = map(float, [*texts, f"1e{high}"])
    return [kind(value) for value in values if kind(value) == value]


def doublings(low: int, high: int) -> list[int]:
    """Powers of two from `low` to `high`, and what lies half-way between two of them."""
    counts = [low]
    power = 2
    while power < 2 * high:
        # Three quarters of a power lie half-way between it and the one before.
        for count in (power * 3 // 4, power):
            if low < count <= high:
                counts.append(count)
        power *= 2
    return counts
