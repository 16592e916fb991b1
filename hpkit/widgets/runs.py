"""The widget over recorded runs: a lookup for every setting, and a real training, now, for any.

`RunExplorer` is the widget. What it does with others has a file each: the settings of a grid
(grid_settings), the pictures (run_pictures), a training beside it (live).
"""

import contextlib
import html
import math
import statistics
import threading
from collections.abc import Iterator
from itertools import pairwise

import ipywidgets

from hpkit.errors import BadInput, did_you_mean
from hpkit.figures.base import Picture
from hpkit.finetune.run import Run
from hpkit.formatting import plural, shown, shown_number
from hpkit.records.comparison import band, compare, number_or_infinity
from hpkit.records.grids import Grid, Point, load_grids
from hpkit.records.table import Runs, load_runs
from hpkit.widgets.base import Interactive, paragraphs, slider
from hpkit.widgets.grid_settings import (
    GridSettings,
    brief,
    same_setting,
    shown_value,
    stop_between,
)
from hpkit.widgets.live import LiveRun
from hpkit.widgets.run_pictures import CurvesPicture, EndsPicture, median_and_range

_EVALUATION_LOSS = "evaluation loss (nats per token)"

#: What can be shown over a run: the name in a run's history, and what the axis says.
_CURVES = {
    "evaluation loss over the run": ("eval_loss", _EVALUATION_LOSS),
    "training loss over the run": ("loss", "training loss (nats per token)"),
    "gradient norm over the run": ("grad_norm", "grad norm"),
    "learning rate over the run": ("learning_rate", "learning rate"),
}
_ALONG = "evaluation loss at the end, along "


class RunExplorer(Interactive):
    """The recorded runs of one grid, and training of the point at hand.

    Curves with the seeds' band, or the ends along an axis. Attributes to set: each axis of the grid
    by its name, such as `learning_rate`; `show`, what is drawn; `setting`, which jumps to a
    recorded setting where not every combination was recorded; `seed`, of the next run to be
    trained. To read: `point`, the setting at hand; `recorded`, its runs; `live`, those trained
    here; `comparison` with `reference`. Nothing is interpolated: for what was not recorded nothing
    is drawn, until `train` has trained it.

    `grid` is one of the project's own by its name, or a Grid; `runs` by default the project's;
    `compare_with` the values of the setting that others are compared with at first; other values
    set controls. Raises BadInput.
    """

    recorded = ()
    comparison = None
    training = False

    def __init__(
        self, grid: str | Grid, runs: Runs | None = None, compare_with: dict | None = None, **values
    ):
        grids = load_grids()
        if not isinstance(grid, Grid) and grid not in grids:
            hint = did_you_mean(str(grid), grids)
            raise BadInput(f"grid: expected one of {', '.join(grids)}, got {grid!r}{hint}")
        self._grid = grid if isinstance(grid, Grid) else grids[grid]
        self._axes = self._grid.axes
        self._settings = GridSettings(self._grid, load_runs() if runs is None else runs)
        self._listed = {self._settings.name_of(point): point for point in self._grid.points}
        self._live = []
        self._redraws = 0  # a part of the state, so that what a training logs is drawn
        self._jumping = False
        # The training's thread draws too. Reentrant, for `_ended` draws while it holds it.
        self._lock = threading.RLock()
        self._curves = CurvesPicture()
        self._ends = EndsPicture()
        controls = self._make_controls()
        below = self._make_buttons()
        # The starter's recipe, as short as the grids have it.
        start = self._settings.most_like(grids["seeds"].points[0])
        usual = self._settings.values_of(start)
        self._reference = start
        if compare_with is not None:
            self._reference = self._settings.point_of(usual | compare_with)
        # A seed that no grid has: a new draw, which may fall outside the band.
        values = usual | {"seed": 31} | values
        super().__init__(controls, values, self._grid.asks, below)
        self._say("")

    # Controls.

    def _make_controls(self) -> dict:
        controls = {name: self._axis(name, values) for name, values in self._axes.items()}
        for control in controls.values():
            control.observe(self._moved, "value")
        if math.prod(map(len, self._axes.values())) > len(self._grid.points):
            controls["setting"] = ipywidgets.Dropdown(
                options=tuple(self._listed), description="recorded settings"
            )
            controls["setting"].observe(self._jump, "value")
        views = (*_CURVES, *(_ALONG + name for name in self._axes))
        controls["show"] = ipywidgets.Dropdown(options=views, description="show")
        controls["seed"] = slider("seed of a run now", range(1, 51))
        return controls

    def _make_buttons(self) -> tuple:
        """What stands below the controls: the buttons, the training's progress, its words."""
        compare_button = self._button("Compare with this", self.compare_with_this)
        self._train_button = self._button("Train this point now", self.train)
        self._stop_button = self._button("Stop", self.stop)
        self._stop_button.disabled = True
        self._bar = ipywidgets.IntProgress(layout=ipywidgets.Layout(width="98%"))
        self._status = ipywidgets.HTML()
        row = ipywidgets.Box(
            [compare_button, self._train_button, self._stop_button],
            layout=ipywidgets.Layout(flex_flow="row wrap"),
        )
        return row, self._bar, self._status

    def _button(self, words: str, action) -> ipywidgets.Button:
        button = ipywidgets.Button(description=words, layout=ipywidgets.Layout(width="auto"))
        button.on_click(lambda _: self._pressed(action))
        return button

    def _axis(self, name: str, values: list):
        """A slider where the values are numbers, with one more between each two, to be tried.

        Else a list to choose from.
        """
        if any(isinstance(value, (bool, str)) or value is None for value in values):
            options = [(shown(value), value) for value in values]
            return ipywidgets.Dropdown(options=options, description=name)
        values = sorted(values)
        stops = values[:1]
        for low, high in pairwise(values):
            stops += [stop_between(low, high), high]
        control = slider(name, stops)
        # By default a slider's label is the number; here it says what was never recorded.
        control.options = [(self._label(name, value), value) for _, value in control.options]
        return control

    def _label(self, name: str, value) -> str:
        if name in self._axes and value not in self._axes[name]:
            return f"{shown_number(value)} (new)"
        return shown_number(value)

    # Settings and their runs.

    def _values_at_hand(self) -> dict:
        return {name: self.controls[name].value for name in self._axes}

    @property
    def point(self) -> Point:
        """The setting at hand; its recipe's seed is not the one to be trained with."""
        return self._settings.point_of(self._values_at_hand())

    @property
    def reference(self) -> Point:
        """The setting that the one at hand is compared with."""
        return self._reference

    @property
    def live(self) -> list[LiveRun]:
        """The runs of the setting at hand that were trained here."""
        return self._live_at(self.point)

    def _live_at(self, point: Point) -> list[LiveRun]:
        return [live for live in self._live if same_setting(live.point, point)]

    # Moving: the axes and the list of recorded settings say the same.

    @contextlib.contextmanager
    def _moving_together(self) -> Iterator[None]:
        """What moves within does not move the other, and is not drawn before the end."""
        self._jumping = True
        try:
            with self._hold():
                yield
        finally:
            self._jumping = False

    def _jump(self, change) -> None:
        """To a recorded setting: its axes move, and are drawn as one."""
        if change["new"] is None or self._jumping:
            return
        with self._moving_together():
            point = self._listed[change["new"]]
            for name, value in self._settings.values_of(point).items():
                self._put(name, value)

    def _moved(self, change) -> None:
        """An axis has moved: the list of recorded settings follows, or shows nothing."""
        if "setting" in self.controls and not self._jumping:
            words = self._settings.named(self._values_at_hand())
            with self._moving_together():
                self.controls["setting"].value = words if words in self._listed else None

    def compare_with_this(self) -> None:
        """Make the setting at hand the one that others are compared with."""
        self._reference = self.point
        self._changed()

    def _pressed(self, action) -> None:
        # ipywidgets writes what a button raises where few look: it is shown as of a control.
        try:
            action()
        except BadInput as error:
            self._fail(str(error))
            if self.raise_errors:
                raise

    # Training.

    def train(self) -> None:
        """Train the setting at hand with `seed`, now.

        `wait` waits for the end, `stop` brings it about. Raises BadInput.
        """
        with self._lock:
            if self.training:
                raise BadInput("a run is being trained: wait for it, or stop it first")
            live = LiveRun(self.point.with_seed(self.seed))
            # The same seed anew takes the place of what it was before.
            self._live = [other for other in self._live if other.point != live.point]
            self._bar.value = 0
            self._bar.max = 1
            self._say("loading the model and measuring it before the run …")
            self._set_training(True)
            self._live.append(live)
            # Started before anybody else can wait for it.
            live.start(self._progressed, self._ended)

    def stop(self) -> None:
        """End the run in training after the update at hand. Without one, nothing happens.

        What it has measured stays drawn.
        """
        if self._live:
            self._live[-1].stop()

    def wait(self) -> Run | None:
        """Wait for the run in training; returns the last run trained here.

        None where it was stopped. Raises what it raised.
        """
        if not self._live:
            raise BadInput("nothing has been trained here: call train() first")
        return self._live[-1].wait()

    def _set_training(self, training: bool) -> None:
        self.training = training
        self._train_button.disabled = training
        self._stop_button.disabled = not training

    def _progressed(self, live: LiveRun, logged: bool) -> None:
        # The end before the value: a value beyond the end is cut to it.
        self._bar.max = live.updates
        self._bar.value = live.done
        words = f"update {live.done:,} of {live.updates:,}"
        if live.seconds_left is not None:
            words += f", {live.seconds_left:.0f} s left"
        self._say(words)
        if logged:
            self._redraw()

    def _ended(self, live: LiveRun) -> None:
        with self._lock:
            self._set_training(False)
            self._say(live.outcome)
            self._redraw()
            # After the redraw, which takes away what was wrong before.
            if isinstance(live.error, BadInput):
                self._fail(str(live.error))
            elif live.error and not live.stopped:
                self._fail(f"{type(live.error).__name__}: {live.error}")

    def _say(self, words: str) -> None:
        # A screen reader says what changes in an element of this role.
        self._status.value = f'<span role="status">{html.escape(words)}</span>'

    def _redraw(self) -> None:
        self._redraws += 1
        self._changed()

    # Drawing.

    def _changed(self, change=None) -> None:
        with self._lock:
            super()._changed(change)

    def _state(self):
        return super()._state(), self._redraws, self._settings.name_of(self._reference)

    def _draw(self):
        point = self.point
        self.recorded = self._settings.recorded_at(point)
        others = self._settings.recorded_at(self._reference)
        lines = [
            self._about_recorded(point),
            *self._against_reference(point, others),
            *(live.verdict([_end(run) for run in self.recorded]) for live in self.live),
        ]
        if self.show.startswith(_ALONG):
            picture = self._draw_ends(self.show.removeprefix(_ALONG))
        else:
            picture = self._draw_curves(point, others)
        return picture, paragraphs(lines)

    def _draw_curves(self, point: Point, others: list[Run]) -> Picture:
        series, what = _CURVES[self.show]
        here = self._settings.values_of(point)
        there = self._settings.values_of(self._reference)
        # What both have in common is left out of their names; a key has little room.
        differ = [name for name in here if here[name] != there[name]] or list(here)
        name = "the recorded seeds"
        if differ:
            name = f"this: {brief(here, differ)}"
        found = [(name, self.recorded)]
        if not same_setting(point, self._reference):
            found.append((f"against: {brief(there, differ)}", others))
        settings = [(name, band(runs, series) if runs else None) for name, runs in found]
        live = []
        for run in self.live:
            values = [(entry["step"], entry[series]) for entry in run.history if series in entry]
            live.append((run.name, values))
        return self._curves.draw(what, settings, live)

    def _draw_ends(self, axis: str) -> Picture:
        here = self._settings.values_of(self.point)
        trained = [self._settings.values_of(live.point)[axis] for live in self._live]
        values = list(dict.fromkeys([*self._axes[axis], here[axis], *trained]))
        if not isinstance(values[0], (bool, str)):
            # Without a rank all weights train: more than with any.
            values.sort(key=lambda value: math.inf if value is None else value)
        columns = []
        for value in values:
            point = self._settings.point_of(here | {axis: value})
            recorded = [_end(run) for run in self._settings.recorded_at(point)]
            now = [_end(live.run) for live in self._live_at(point) if live.run]
            columns.append((shown_value(axis, value), recorded, now))
        return self._ends.draw(_EVALUATION_LOSS, axis, columns, values.index(here[axis]))

    # Words.

    def _about_recorded(self, point: Point) -> str:
        name = self._settings.name_of(point) or "the one setting of this grid"
        if not self.recorded:
            words = f"{name}: not recorded, so nothing is drawn for it. Train this point now"
            seconds = self._settings.usual_seconds()
            if seconds is not None:
                words += f" (about {seconds:.0f} s where the others were recorded)"
            return words
        ends = [_end(run) for run in self.recorded]
        words = (
            f"{name}: recorded with {plural(len(ends), 'seed')}; "
            f"evaluation loss at the end {median_and_range(ends)}"
        )
        before = self.recorded[0].eval_loss_before
        if statistics.median(ends) > before:
            words += f"; it ends worse than it began, {before:.5g}"
        return words

    def _against_reference(self, point: Point, others: list[Run]) -> list[str]:
        """The difference from the reference, held against the seeds' spread."""
        self.comparison = None
        if not self._axes:
            return []
        if same_setting(point, self._reference):
            return ["This is the setting that others are compared with: move a slider"]
        this = "This"
        runs = self.recorded
        if not runs:
            this = "This, trained now"
            runs = [live.run for live in self.live if live.run]
        reference = self._settings.name_of(self._reference)
        if min(len(runs), len(others)) < 2:
            return [
                f"No verdict against {reference}: a spread needs two seeds or more of each, "
                f"here are {len(runs)} and {len(others)}"
            ]
        self.comparison = compare(runs, others)
        return [f"{this}, against {reference}: {self.comparison}"]


def _end(run: Run) -> float:
    """The evaluation loss at the end in nats per token; what is no number counts as infinite."""
    return number_or_infinity(run.eval_loss_after)
