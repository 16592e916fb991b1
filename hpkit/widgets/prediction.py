"""The widgets of the notebooks: what a control moves is drawn at once, said in words, and open as attributes."""

import contextlib
import math

import ipywidgets

from hpkit.errors import BadInput
from hpkit.figures.base import BLUE, ORANGE, Picture, blank, key, rendered, say
from hpkit.lessons.predictions import Question, Score, calibration
from hpkit.widgets.base import Interactive, paragraphs, slider


class Prediction(Interactive):
    """A guess that is committed before the answer shows, then scored and kept. Nothing can be changed afterwards.

    `name`, `text` and `question` make a predictions.Question: a number, an order, or a curve with a slider for each step.
    A guess committed once comes back committed, and its first answer counts. Attribute to set: `guess`, a number or a
    tuple; to read: `committed`, `truth`, `score`. `log` is for a number or curve over powers of ten; `unit` says what is
    guessed, and `along` what the steps are.
    """

    settable = ("guess",)
    committed, truth, score = False, None, None

    def __init__(
        self, name: str, text: str, log: bool = False, unit: str = "", along: str = "", **question
    ):
        asked = self._question = Question(name, text, **question)
        self._pending, self._unkept = None, ""
        self._button = ipywidgets.Button(description="Commit")
        self._button.on_click(lambda button: self.commit())
        if asked.order:
            self._figure = OrderPicture(asked.order)
            places = {f"place_{place}": first for place, first in enumerate(asked.order, 1)}
            controls = {
                key: ipywidgets.Dropdown(options=asked.order, value=first, description=key)
                for key, first in places.items()
            }
            for control in controls.values():
                control.observe(self._swap, "value")
        else:
            if log and asked.low <= 0:
                raise BadInput(f"prediction {name}: log expects low above 0, got {asked.low}")
            self._figure = GuessPicture(
                asked.low, asked.high, asked.steps or None, log, unit, along
            )
            sliders = {f"at_{step:g}": f"{along or 'at'} {step:g}" for step in asked.steps} or {
                "number": "your guess"
            }
            controls = {
                key: _guess_slider(words, asked.low, asked.high, log)
                for key, words in sliders.items()
            }
        super().__init__(controls, title=text, extra=(self._button,))
        guess, truth = asked.kept()
        if guess:
            with contextlib.suppress(BadInput):  # the question had another range then
                self.guess = guess
                self._lock()
                if truth:
                    self.answer(truth)

    def _swap(self, change) -> None:
        """A name put in one place leaves its old place to the name that was there: it stays an order."""
        for control in self.__dict__.get("controls", {}).values():
            if control is not change["owner"] and control.value == change["new"]:
                with self._hold():
                    control.value = change["old"]

    def _values(self) -> tuple:
        return tuple(control.value for control in self.controls.values())

    @property
    def guess(self):
        """A number, or a tuple of names or of numbers."""
        return self._values() if self._question.order or self._question.steps else self.number

    def set(self, **values) -> None:
        if self.committed:
            raise BadInput("the guess is committed: it cannot be changed")
        super().set(**values)

    def _put(self, name: str, value) -> None:
        if name != "guess":
            return super()._put(name, value)
        for control, part in zip(self.controls, self._question.values(value)):
            super()._put(control, part)

    def commit(self) -> None:
        """Fix the guess and keep it. Raises BadInput the second time."""
        if self.committed:
            raise BadInput("the guess is committed already")
        self._keep()
        self._lock()
        if self._pending:
            self.answer(self._pending)

    def answer(self, truth) -> Score | None:
        """Show and score the answer; before the commit it waits for that, and None is returned. Raises BadInput."""
        truth = self._question.values(truth)
        score = self._question.score(self._values(), truth)
        if not self.committed:
            self._pending = truth
        elif not self.score:
            self.truth, self.score = truth, score
            self._keep()
        self._changed()
        return self.score

    def _keep(self) -> None:
        try:
            self._question.keep(self._values(), self.truth, self.score)
        except OSError as error:
            self._unkept = f"This prediction could not be kept: {error}"

    def _lock(self) -> None:
        self.committed, self._committed = True, self._values()
        for control in (*self.controls.values(), self._button):
            control.disabled = True
        self._changed()

    def _changed(self, change=None) -> None:
        if not self.committed or self._values() == self._committed:
            return super()._changed(change)
        with self._hold():  # a message from outside can move even a disabled control
            for control, value in zip(self.controls.values(), self._committed):
                control.value = value
        self._fail("the guess is committed: it cannot be changed")
        if self.raise_errors:
            raise BadInput(self.error)

    def _state(self):
        return self._values(), self.committed, self._pending, self.truth

    def _draw(self):
        lines = ["Make your guess, then press Commit: the answer shows only afterwards"]
        if self.score:
            lines = [self._question.verdict(self.score), str(calibration())]
        elif self.committed:
            lines = ["Committed. The answer is not known yet"]
        elif self._pending:
            lines.insert(0, "The answer is known")
        picture = self._figure.draw(self._values(), self.truth)
        return picture, paragraphs([picture.alt, *lines, *filter(None, [self._unkept])])


def _guess_slider(description: str, low: float, high: float, log: bool):
    """In 200 steps, starting from the middle."""
    ends = (math.log10(low), math.log10(high)) if log else (low, high)
    between = [ends[0] + (ends[1] - ends[0]) * k / 200 for k in range(1, 200)]
    control = slider(
        description,
        [float(low), *(float(f"{10**x:.3g}" if log else f"{x:.6g}") for x in between), float(high)],
    )
    control.index = len(control.options) // 2
    return control


class GuessPicture:
    """A guess, and the answer once it is known: at `steps` as two lines, or without steps as two points on one line."""

    def __init__(
        self,
        low: float,
        high: float,
        steps: tuple | None = None,
        log: bool = False,
        unit: str = "",
        along: str = "",
    ):
        self.steps, self.height = steps, 3.4 if steps else 1.7
        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes(
            (0.105, 0.15, 0.865, 0.7) if steps else (0.04, 0.36, 0.92, 0.3)
        )
        self.guess = self.axes.plot(
            [], [], color=BLUE, marker="D", markersize=9, linestyle="--", clip_on=False
        )[0]
        self.truth = self.axes.plot(
            [], [], color=ORANGE, marker="o", markersize=9, linewidth=2, clip_on=False
        )[0]
        self.axes.grid(alpha=0.3)
        self.low, self.high = low, high
        if log:
            (self.axes.set_yscale if steps else self.axes.set_xscale)("log")
            # matplotlib's own powers of ten take many times as long.
            (self.axes.yaxis if steps else self.axes.xaxis).set_major_formatter(
                lambda value, _: f"{value:g}"
            )
        if steps:
            self.axes.set_ylabel(unit)
            self.axes.set_xlabel(along)
            self.axes.set_xticks(steps)
            margin = 0.03 * (max(steps) - min(steps)) or 1
            self.axes.set_xlim(min(steps) - margin, max(steps) + margin)
        else:
            self.axes.set_yticks([])
            self.axes.set_ylim(-1, 1)
            self.axes.set_xlabel(unit)
        self.key = key(self.figure, [self.guess, self.truth])

    def draw(self, guess: tuple, truth: tuple | None) -> Picture:
        for line, values, height in ((self.guess, guess, 0.4), (self.truth, truth or (), -0.4)):
            line.set_data(
                *(
                    (self.steps[: len(values)], values)
                    if self.steps
                    else (values, [height] * len(values))
                )
            )
        limits = min(self.low, *(truth or guess)), max(self.high, *(truth or guess))
        (self.axes.set_ylim if self.steps else self.axes.set_xlim)(*limits)
        words = [
            _values(self.steps, values) if values else "not yet shown" for values in (guess, truth)
        ]
        short = [
            "" if self.steps and values else f": {word}"
            for word, values in zip(words, (guess, truth))
        ]  # a curve shows itself
        say(self.key, ["your guess" + short[0], "the answer" + short[1]])
        return rendered(self.figure, f"Your guess: {words[0]}; the answer: {words[1]}.")


def _values(steps: tuple | None, values: tuple) -> str:
    if steps is None:
        return f"{values[0]:.4g}"
    return ", ".join(f"{value:.4g} at {step:g}" for step, value in zip(steps, values))


class OrderPicture:
    """A guessed order beside the true one, equal names joined: where lines cross, a pair is the wrong way round."""

    def __init__(self, names: tuple[str, ...]):
        self.height = 0.9 + 0.4 * len(names)
        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, 1)
        self.axes.set_ylim(len(names) + 0.7, -0.3)
        self.lines = [self.axes.plot([], [], marker="o")[0] for _ in names]
        self.left, self.right = (
            [self.axes.text(x, place + 1, "", ha=side, va="center") for place in range(len(names))]
            for x, side in ((0.36, "right"), (0.64, "left"))
        )
        self.heads = [
            self.axes.text(x, 0.25, "", ha=side, weight="bold")
            for x, side in ((0.36, "right"), (0.64, "left"))
        ]

    def draw(self, guess: tuple[str, ...], truth: tuple[str, ...] | None) -> Picture:
        for place, name in enumerate(guess):
            line, end = self.lines[place], truth.index(name) if truth else place
            line.set_data(*([0.38, 0.62], [place + 1, end + 1]) if truth else ([], []))
            moved = place != end
            line.set(color=ORANGE if moved else BLUE, linestyle="--" if moved else "-")
            self.left[place].set_text(f"{place + 1}. {name}")
            self.right[place].set_text(f"{place + 1}. {truth[place]}" if truth else "")
        self.heads[0].set_text("your order")
        self.heads[1].set_text("the answer" if truth else "the answer: not yet shown")
        return rendered(
            self.figure,
            f"Your order: {', '.join(guess)}; the answer: {', '.join(truth) if truth else 'not yet shown'}.",
        )
