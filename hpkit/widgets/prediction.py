"""A guess before the answer: Prediction asks, commits and scores; two pictures draw both.

GuessPicture is for a number or a curve, OrderPicture for an order. What is asked, scored and kept
without a widget stands in hpkit.lessons.predictions.
"""

import contextlib
import math

import ipywidgets

from hpkit.errors import BadInput
from hpkit.figures.base import BLUE, ORANGE, Picture, blank, key, rendered, say
from hpkit.lessons.predictions import Question, Score, calibration
from hpkit.widgets.base import Interactive, paragraphs, slider

#: How many steps a slider for a guess has.
GUESS_STEPS = 200


class GuessPicture:
    """A guess, and the answer once it is known.

    At `steps` they are two lines, without steps two points on one line from `low` to `high`.
    """

    def __init__(
        self,
        low: float,
        high: float,
        steps: tuple | None = None,
        log: bool = False,
        unit: str = "",
        along: str = "",
    ):
        self.low = low
        self.high = high
        self.steps = steps
        self.height = 3.4 if steps else 1.7
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
        if steps:
            self._make_curve_axes(log, unit, along)
        else:
            self._make_number_axis(log, unit)
        self.key = key(self.figure, [self.guess, self.truth])

    def _make_curve_axes(self, log: bool, unit: str, along: str) -> None:
        """Steps along, values up."""
        if log:
            self.axes.set_yscale("log")
            # matplotlib's own powers of ten take many times as long.
            self.axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        self.axes.set_ylabel(unit)
        self.axes.set_xlabel(along)
        self.axes.set_xticks(self.steps)
        margin = 0.03 * (max(self.steps) - min(self.steps))
        self.axes.set_xlim(min(self.steps) - margin, max(self.steps) + margin)

    def _make_number_axis(self, log: bool, unit: str) -> None:
        """Values along, nothing up."""
        if log:
            self.axes.set_xscale("log")
            self.axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        self.axes.set_yticks([])
        self.axes.set_ylim(-1, 1)
        self.axes.set_xlabel(unit)

    def draw(self, guess: tuple, truth: tuple | None) -> Picture:
        """Both with a value for each step, or with the one number; `truth` None until it shows."""
        answer = truth or ()
        # A guess lies between the ends; an answer may lie beyond them.
        low = min([self.low, *answer])
        high = max([self.high, *answer])
        if self.steps:
            self.guess.set_data(self.steps, guess)
            self.truth.set_data(self.steps[: len(answer)], answer)
            self.axes.set_ylim(low, high)
        else:
            # Beside one another up and down, so that a guess hides no answer that it hits.
            self.guess.set_data(guess, [0.4])
            self.truth.set_data(answer, [-0.4] * len(answer))
            self.axes.set_xlim(low, high)
        say(self.key, [self._label("your guess", guess), self._label("the answer", truth)])
        return rendered(
            self.figure,
            f"Your guess: {self._in_words(guess)}; the answer: {self._in_words(truth)}.",
        )

    def _label(self, name: str, values: tuple | None) -> str:
        if self.steps and values:
            return name  # a curve shows itself
        return f"{name}: {self._in_words(values)}"

    def _in_words(self, values: tuple | None) -> str:
        if values is None:
            return "not yet shown"
        if not self.steps:
            return f"{values[0]:.4g}"
        return ", ".join(f"{value:.4g} at {step:g}" for step, value in zip(self.steps, values))


class OrderPicture:
    """A guessed order beside the true one, equal names joined.

    Where lines cross, a pair is the wrong way round.
    """

    def __init__(self, names: tuple[str, ...]):
        self.height = 0.9 + 0.4 * len(names)
        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, 1)
        self.axes.set_ylim(len(names) + 0.7, -0.3)  # the first place is at the top
        self.lines = [self.axes.plot([], [], marker="o")[0] for _ in names]
        self.left = self._column(0.36, "right", len(names))
        self.right = self._column(0.64, "left", len(names))
        self.left_head = self.axes.text(0.36, 0.25, "", ha="right", weight="bold")
        self.right_head = self.axes.text(0.64, 0.25, "", ha="left", weight="bold")

    def _column(self, x: float, side: str, places: int) -> list:
        return [
            self.axes.text(x, place, "", ha=side, va="center") for place in range(1, places + 1)
        ]

    def draw(self, guess: tuple[str, ...], truth: tuple[str, ...] | None) -> Picture:
        """Both have the same names; `truth` is None until it shows."""
        answer = "not yet shown"
        self.left_head.set_text("your order")
        self.right_head.set_text("the answer: not yet shown")
        if truth:
            answer = ", ".join(truth)
            self.right_head.set_text("the answer")
        for place, name in enumerate(guess):
            self.left[place].set_text(f"{place + 1}. {name}")
            if truth:
                self.right[place].set_text(f"{place + 1}. {truth[place]}")
                self._join(place, truth.index(name))
            else:
                self.right[place].set_text("")
                self.lines[place].set_data([], [])
        return rendered(self.figure, f"Your order: {', '.join(guess)}; the answer: {answer}.")

    def _join(self, guessed_place: int, true_place: int) -> None:
        line = self.lines[guessed_place]
        line.set_data([0.38, 0.62], [guessed_place + 1, true_place + 1])
        if guessed_place == true_place:
            line.set(color=BLUE, linestyle="-")
        else:
            line.set(color=ORANGE, linestyle="--")


class Prediction(Interactive):
    """A guess that is committed before the answer shows, then scored and kept.

    Nothing can be changed afterwards: a guess committed once comes back committed, and its first
    answer counts.

    `name`, `text` and `question` make a predictions.Question: a number, an order, or a curve with a
    slider for each step. Attribute to set: `guess`, a number or a tuple; to read: `committed`,
    `truth`, `score`. `log` is for a number or curve over powers of ten; `unit` says what is
    guessed, and `along` what the steps are. Raises BadInput.
    """

    settable = ("guess",)
    committed = False
    truth = None
    score = None

    def __init__(
        self, name: str, text: str, log: bool = False, unit: str = "", along: str = "", **question
    ):
        asked = Question(name, text, **question)
        self._question = asked
        self._pending = None  # an answer that waits for the commit
        self._unkept = ""  # why the guess could not be stored, in words
        self._button = ipywidgets.Button(description="Commit")
        self._button.on_click(lambda button: self.commit())
        if asked.order:
            self._figure = OrderPicture(asked.order)
            controls = self._order_controls()
        else:
            if log and asked.low <= 0:
                raise BadInput(f"prediction {name}: log expects low above 0, got {asked.low}")
            self._figure = GuessPicture(
                asked.low, asked.high, asked.steps or None, log=log, unit=unit, along=along
            )
            controls = self._number_controls(log, along)
        super().__init__(controls, title=text, extra=(self._button,))
        self._come_back()

    def _order_controls(self) -> dict:
        """A list for each place, which begin in the order of the question."""
        controls = {}
        for place, name in enumerate(self._question.order, 1):
            control = ipywidgets.Dropdown(
                options=self._question.order, value=name, description=f"place_{place}"
            )
            control.observe(self._swap, "value")
            controls[f"place_{place}"] = control
        return controls

    def _number_controls(self, log: bool, along: str) -> dict:
        """One slider for a number, one for each step of a curve."""
        values = _guess_values(self._question.low, self._question.high, log)
        words = {f"at_{step:g}": f"{along or 'at'} {step:g}" for step in self._question.steps}
        if not words:
            words = {"number": "your guess"}
        controls = {}
        for name, description in words.items():
            controls[name] = slider(description, values)
            controls[name].index = len(controls[name].options) // 2  # no end suggests itself
        return controls

    def _come_back(self) -> None:
        """A guess that was kept is committed again, and its answer shown."""
        guess, truth = self._question.kept()
        if not guess:
            return
        with contextlib.suppress(BadInput):  # the question had another range then
            self.guess = guess
            self._lock()
            if truth:
                self.answer(truth)

    def _swap(self, change) -> None:
        """A name put in one place leaves its old place to the name that was there.

        So it stays an order.
        """
        for control in self.controls.values():
            if control is not change["owner"] and control.value == change["new"]:
                with self._hold():
                    control.value = change["old"]

    def _values(self) -> tuple:
        return tuple(control.value for control in self.controls.values())

    @property
    def guess(self):
        """A number, or a tuple of names or of numbers."""
        if self._question.order or self._question.steps:
            return self._values()
        return self.number

    def set(self, **values) -> None:
        """As Interactive.set; after the commit it raises BadInput."""
        if self.committed:
            raise BadInput("the guess is committed: it cannot be changed")
        super().set(**values)

    def _put(self, name: str, value) -> None:
        if name == "guess":
            for control, part in zip(self.controls, self._question.values(value)):
                super()._put(control, part)
        else:
            super()._put(name, value)

    def commit(self) -> None:
        """Fix the guess and keep it. Raises BadInput the second time."""
        if self.committed:
            raise BadInput("the guess is committed already")
        # Kept first, because the words that are drawn with the lock say where that failed.
        self._keep()
        self._lock()
        if self._pending:
            self.answer(self._pending)

    def answer(self, truth) -> Score | None:
        """Show and score the answer; before the commit it waits for that, and None is returned.

        Raises BadInput.
        """
        truth = self._question.values(truth)
        # Scored before it waits: what cannot be scored is refused to the cell that answers, not to
        # the reader who commits.
        score = self._question.score(self._values(), truth)
        if not self.committed:
            self._pending = truth
        elif not self.score:
            self.truth = truth
            self.score = score
            self._keep()
        self._changed()
        return self.score

    def _keep(self) -> None:
        try:
            self._question.keep(self._values(), self.truth, self.score)
        except OSError as error:
            self._unkept = f"This prediction could not be kept: {error}"

    def _lock(self) -> None:
        self.committed = True
        self._committed = self._values()
        for control in (*self.controls.values(), self._button):
            control.disabled = True
        self._changed()

    def _changed(self, change=None) -> None:
        if not self.committed or self._values() == self._committed:
            super()._changed(change)
            return
        # The browser moves no disabled control, but code and messages of other front ends can.
        with self._hold():
            for control, value in zip(self.controls.values(), self._committed):
                control.value = value
        self._fail("the guess is committed: it cannot be changed")
        if self.raise_errors:
            raise BadInput(self.error)

    def _state(self):
        # The words depend on more than the controls: committing moves none of them.
        return self._values(), self.committed, self._pending, self.truth

    def _draw(self) -> tuple[Picture, str]:
        picture = self._figure.draw(self._values(), self.truth)
        lines = [picture.alt, *self._standing()]
        if self._unkept:
            lines.append(self._unkept)
        return picture, paragraphs(lines)

    def _standing(self) -> list[str]:
        """How far the prediction has come, in words."""
        if self.score:
            return [self._question.verdict(self.score), str(calibration())]
        if self.committed:
            return ["Committed. The answer is not known yet"]
        lines = ["Make your guess, then press Commit: the answer shows only afterwards"]
        if self._pending:
            lines.insert(0, "The answer is known")
        return lines


def _guess_values(low: float, high: float, log: bool) -> list[float]:
    """From `low` to `high` in GUESS_STEPS even steps, on a log axis even in their logarithms.

    Rounded to what can be read; the ends themselves are not, so that no step lies beyond them.
    """
    values = [float(low)]
    for step in range(1, GUESS_STEPS):
        if log:
            start = math.log10(low)
            exponent = start + (math.log10(high) - start) * step / GUESS_STEPS
            values.append(float(f"{10**exponent:.3g}"))
        else:
            value = low + (high - low) * step / GUESS_STEPS
            values.append(float(f"{value:.6g}"))
    values.append(float(high))
    return values
