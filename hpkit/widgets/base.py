"""The base of all widgets: controls as attributes, one drawing for each change, a picture with its words, errors shown.

Core ipywidgets from 7.7 (Colab) to 8. A picture is a kept figure rendered to PNG into an `HTML('<img alt=…>')` of known
size: the fastest way measured, and one that a screen reader can read.
"""

import contextlib
import html
import numbers
import re
from base64 import b64encode

import ipywidgets
from traitlets import TraitError

from hpkit.errors import BadInput, did_you_mean
from hpkit.figures.base import Picture
from hpkit.formatting import shown_number


class Interactive:
    """Controls, a picture and words about it. The base of all widgets here.

    `controls` maps names to ipywidgets. Each name is also an attribute: `explorer.learning_rate = 1e-3` moves the control
    and draws once, as a hand on it does; a value it cannot take raises BadInput. `picture`, `summary` and `error` are what
    is shown now. A BadInput while drawing is shown, and raised too where `raise_errors` is true, as under test; any other
    exception is shown and raised.

    A subclass makes its controls, calls `super().__init__` with them and the `values` to start from, and has `_draw`.
    Names in `settable` are properties that `_put` knows to spread over controls.
    """

    raise_errors = False
    settable = ()
    picture, summary, error = None, "", ""

    def __init__(
        self, controls: dict, values: dict | None = None, title: str = "", extra: tuple = ()
    ):
        self._held, self._drawn, self._shown = (
            False,
            None,
            None,
        )  # the state last tried, and the one in the picture
        self._image = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="100%"))
        self._words, self._error, self._mark = (
            ipywidgets.HTML(),
            ipywidgets.HTML(),
            ipywidgets.HTML(),
        )
        for control in controls.values():
            control.style = {"description_width": "205px"}
            control.layout.width = "480px"
            control.layout.max_width = "100%"
        above = [ipywidgets.HTML(paragraphs([title]))] * bool(title)
        left = ipywidgets.VBox(
            [*above, *controls.values(), *extra], layout=ipywidgets.Layout(max_width="100%")
        )
        right = ipywidgets.VBox(
            [self._error, self._image, self._words],
            layout=ipywidgets.Layout(width="710px", max_width="100%"),
        )
        self.box = ipywidgets.Box(
            [left, right, self._mark], layout=ipywidgets.Layout(flex_flow="row wrap")
        )
        self.controls = controls
        for control in controls.values():
            control.observe(self._changed, "value")
        self.set(**values or {})

    # State as attributes.

    def __getattr__(self, name: str):
        controls = self.__dict__.get("controls", {})
        if name not in controls:
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}{did_you_mean(name, controls)}"
            )
        return controls[name].value

    def __setattr__(self, name: str, value) -> None:
        controls = self.__dict__.get("controls", {})
        if controls and (name in controls or name in self.settable):
            self.set(**{name: value})
        elif controls and not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}{did_you_mean(name, controls)}"
            )
        else:
            object.__setattr__(self, name, value)

    def __dir__(self):
        return {*super().__dir__(), *self.controls}

    def set(self, **values) -> None:
        """Move several controls and draw once. Raises BadInput, and moves none, when one cannot take its value."""
        for name in values:
            if name not in self.controls and name not in self.settable:
                raise BadInput(
                    f"{type(self).__name__} has no {name!r}{did_you_mean(name, [*self.controls, *self.settable])}"
                )
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
        """Move one control, without drawing."""
        control, hint = self.controls[name], ""
        choices = [
            option[1] if isinstance(option, tuple) else option
            for option in getattr(control, "options", ())
        ]
        if isinstance(control, ipywidgets.SelectionSlider):
            whole = all(isinstance(choice, int) for choice in choices)
            expected = f"a {'whole ' * whole}number from {choices[0]:,g} to {choices[-1]:,g}"
            number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if number and choices[0] <= value <= choices[-1] and (not whole or value == int(value)):
                value = int(value) if whole else float(value)
                # In one message: between two, the browser would send its own idea of the place.
                with control.hold_sync():
                    if value not in choices:
                        control.options = [
                            (self._label(name, choice), choice)
                            for choice in sorted([*choices, value])
                        ]
                    control.value = value
                return
        elif not choices or value in choices:
            with contextlib.suppress(TraitError):
                control.value = value
                return
            expected = "text"
        else:
            names = list(map(str, choices))
            expected, hint = f"one of {', '.join(names)}", did_you_mean(str(value), names)
        raise BadInput(f"{name}: expected {expected}, got {value!r}{hint}")

    def _label(self, name: str, value) -> str:
        """How a slider shows a value of its own."""
        return shown_number(value)

    @contextlib.contextmanager
    def _hold(self):
        """Changes within are not drawn."""
        held, self._held = self._held, True
        try:
            yield
        finally:
            self._held = held

    # Drawing.

    def _state(self):
        """What the picture depends on."""
        return {name: getattr(self, name) for name in self.controls}

    def _draw(self) -> tuple[Picture, str]:
        """The picture of the present state, and the summary as HTML. Raises BadInput."""
        raise NotImplementedError

    def _changed(self, change=None) -> None:
        if self._held:
            return
        state = self._state()
        if state == self._drawn:
            return
        self._drawn = state
        try:
            picture, words = self._draw()
        except BadInput as error:
            self._fail(str(error))
            if self.raise_errors:
                raise
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}")
            raise
        else:
            self.picture, self.error, self._shown = picture, "", state
            self.summary = html.unescape(_without_tags(words))
            self._error.value, self._words.value, self._image.value = "", words, _image(picture)

    def _fail(self, message: str) -> None:
        """Show what is wrong; the picture of the state before stays, faded."""
        self.error, stale = message, self.picture and self._state() != self._shown
        words = "The picture and the words below belong to the setting before." if stale else ""
        self._error.value = (
            f'<p role="alert"><b>Not possible:</b> {html.escape(message)}. {words}</p>'
        )
        if stale:
            self._image.value = _image(
                Picture(self.picture.png, f"Out of date: {self.picture.alt}"), opacity=0.35
            )

    def _ipython_display_(self) -> None:
        """A still picture, which needs no kernel and no widget state; then the live widget, which hides it.

        The text of both is computed, so nbval compares it.
        """
        from IPython.display import display

        # Where a browser or a front end knows these names otherwise, both are seen.
        live = f"hpkit-live-{self.box.model_id}"
        output = ":is(.jp-OutputArea-child, .output_area, .display_data)"
        self._mark.value = f'<i class="{live}"></i><style>{output}:has(+ {output} .{live}) {{display: none}}</style>'
        if self.picture:
            still = {
                "image/png": b64encode(self.picture.png).decode(),
                "text/plain": self.picture.alt,
            }
            display(still, raw=True, metadata={"image/png": {"alt": self.picture.alt}})
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        words = self.error or self.summary
        display({"application/vnd.jupyter.widget-view+json": view, "text/plain": words}, raw=True)


def _image(picture: Picture, opacity: float = 1) -> str:
    source = b64encode(picture.png).decode()
    width, height = (
        int.from_bytes(picture.png[at : at + 4], "big") for at in (16, 20)
    )  # said, so that the page does not jump
    style = f"display: block; max-width: 100%; height: auto; opacity: {opacity}; background: white"
    size = f'width="{width}" height="{height}"'
    return f'<img alt="{html.escape(picture.alt)}" {size} src="data:image/png;base64,{source}" style="{style}">'


def paragraphs(lines, items=()) -> str:
    """Lines and list items, both plain text, as HTML."""
    listed = "".join(f"<li>{html.escape(item)}</li>" for item in items)
    body = "".join(
        f'<p style="margin: 0.3em 0; line-height: 1.4">{html.escape(line)}</p>' for line in lines
    )
    return body + (
        f'<ul style="margin: 0.3em 0; padding-left: 1.4em; line-height: 1.4">{listed}</ul>'
        if listed
        else ""
    )


def _without_tags(words: str) -> str:
    return re.sub(r"<[^>]*>", "", re.sub(r"</(p|li)>", "\n", words)).strip()


def slider(description: str, values):
    """A slider over `values`, in rising order; by attribute it takes any number between their ends as well.

    Not a FloatSlider: in ipywidgets 8 those move a number that is no whole count of steps to one that is, when shown.
    """
    values = list(dict.fromkeys(values))
    return ipywidgets.SelectionSlider(
        options=[(shown_number(value), value) for value in values],
        value=values[0],
        description=description,
    )


def decades(low: int, high: int, kind=float) -> list:
    """1, 1.5, 2, 3, 5 and 7 times the powers of ten from 10^low, up to 10^high; with `kind` int whole numbers alone."""
    values = [
        float(f"{digits}e{power}") for power in range(low, high) for digits in (1, 1.5, 2, 3, 5, 7)
    ]
    return [kind(value) for value in [*values, float(f"1e{high}")] if kind(value) == value]


def doublings(low: int, high: int) -> list[int]:
    """Powers of two from `low` to `high`, and what lies half-way between two of them."""
    return [
        low,
        *(
            count
            for power in range(20)
            for count in (2**power * 3 // 2, 2 ** (power + 1))
            if low < count <= high
        ),
    ]
