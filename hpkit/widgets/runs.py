"""The widget over recorded runs: a lookup for every setting, and a real training, now, for any of them."""

import html
import math
import statistics
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise

import ipywidgets

from hpkit.errors import BadInput, did_you_mean
from hpkit.figures.base import BLUE, ORANGE, Picture, blank, key, rendered, say
from hpkit.finetune.run import Run
from hpkit.formatting import shown, shown_number, shown_rate
from hpkit.records.comparison import band, compare
from hpkit.records.grids import Grid, Point, load_grids
from hpkit.records.recording import record_point
from hpkit.records.table import Runs, load_runs
from hpkit.widgets.base import Interactive, paragraphs, slider

_CURVES = {
    "evaluation loss over the run": "eval_loss",
    "training loss over the run": "loss",
    "gradient norm over the run": "grad_norm",
    "learning rate over the run": "learning_rate",
}
_ALONG = "evaluation loss at the end, along "


class _Stopped(Exception):
    """Ends a training from within, as its owner wished."""


@dataclass
class LiveRun:
    """A run trained from the widget: what was logged so far and, when it has finished, the whole `run`."""

    point: Point
    done: int = 0
    history: list[dict] = field(default_factory=list)
    run: Run | None = None
    error: Exception | None = None

    @property
    def name(self) -> str:
        return f"seed {self.point.recipe.seed}" + (
            "" if self.run else " unfinished" if self.error else " running"
        )


class RunExplorer(Interactive):
    """The recorded runs of one grid: curves with the seeds' band, ends along an axis, and training of the point at hand.

    Attributes to set: each axis of the grid by its name, such as `learning_rate`; `show`, what is drawn; `setting`, which
    jumps to a recorded setting where not every combination was recorded; `seed`, of the next run to be trained.
    To read: `point`, the setting at hand; `recorded`, its runs; `live`, those trained here; `comparison` with `reference`.
    Nothing is interpolated: for what was not recorded nothing is drawn, until `train` has trained it.

    `grid` is a name in `data/grids.toml` or a Grid; `runs` by default the project's table; `compare_with` the values of
    the setting that others are compared with at first; other values set controls. Raises BadInput.
    """

    recorded, comparison, training = (), None, False

    def __init__(
        self, grid: str | Grid, runs: Runs | None = None, compare_with: dict | None = None, **values
    ):
        grids = load_grids()
        if not isinstance(grid, Grid) and grid not in grids:
            raise BadInput(
                f"grid: expected one of {', '.join(grids)}, got {grid!r}{did_you_mean(str(grid), grids)}"
            )
        self._grid = grid if isinstance(grid, Grid) else grids[grid]
        self._runs, self._axes = load_runs() if runs is None else runs, self._grid.axes
        self._live, self._logged, self._thread = [], 0, None
        self._lock, self._stop = threading.RLock(), threading.Event()
        self._curves, self._ends, self._jumping = CurvesPicture(), EndsPicture(), False
        controls = {name: self._axis(name, values) for name, values in self._axes.items()}
        for control in controls.values():
            control.observe(self._moved, "value")
        self._settings = {self._named(self._values_of(point)): point for point in self._grid.points}
        if math.prod(map(len, self._axes.values())) > len(self._grid.points):
            controls["setting"] = ipywidgets.Dropdown(
                options=tuple(self._settings), description="recorded settings"
            )
            controls["setting"].observe(self._jump, "value")
        views = (*_CURVES, *(_ALONG + name for name in self._axes))
        controls["show"] = ipywidgets.Dropdown(options=views, description="show")
        controls["seed"] = slider("seed of a run now", range(1, 51))
        buttons = (
            ("Compare with this", self.compare_with_this),
            ("Train this point now", self.train),
            ("Stop", self.stop),
        )
        self._buttons = [
            ipywidgets.Button(description=words, layout=ipywidgets.Layout(width="auto"))
            for words, _ in buttons
        ]
        for button, (_, action) in zip(self._buttons, buttons):
            button.on_click(lambda _, action=action: self._pressed(action))
        self._buttons[2].disabled = True
        self._bar = ipywidgets.IntProgress(layout=ipywidgets.Layout(width="98%"))
        self._status = ipywidgets.HTML()
        row = ipywidgets.Box(self._buttons, layout=ipywidgets.Layout(flex_flow="row wrap"))
        usual = grids["seeds"].points[0]  # the starter's recipe as short as the grids have it
        start = max(
            self._grid.points, key=lambda point: self._likeness(point.named(), usual.named())
        )
        self._reference = (
            start if compare_with is None else self._point(self._values_of(start) | compare_with)
        )
        # A seed that no grid has: a new draw, which may fall outside the band.
        values = self._values_of(start) | {"seed": 31} | values
        super().__init__(controls, values, self._grid.asks, (row, self._bar, self._status))
        self._say("")

    # Points.

    def _axis(self, name: str, values: list):
        """A slider where the values are numbers, with one more between each two, to be tried; else a list to choose from."""
        if any(isinstance(value, (bool, str)) or value is None for value in values):
            return ipywidgets.Dropdown(
                options=[(shown(value), value) for value in values], description=name
            )
        values = sorted(values)
        stops = [stop for low, high in pairwise(values) for stop in (low, _between(low, high))]
        control = slider(name, [*stops, values[-1]])
        control.options = [(self._label(name, value), value) for _, value in control.options]
        return control

    def _label(self, name: str, value) -> str:
        new = name in self._axes and value not in self._axes[name]
        return shown_number(value) + " (new)" * new

    def _values_of(self, point: Point) -> dict:
        return {name: value for name, value in point.named().items() if name in self._axes}

    def _likeness(self, values: dict, others: dict) -> int:
        return sum(values[name] == others[name] for name in self._axes)

    @staticmethod
    def _named(values: dict) -> str:
        """A setting in words."""
        return ", ".join(f"{name} {_shown(name, value)}" for name, value in values.items())

    def _point(self, values: dict) -> Point:
        """The setting with these values for all axes, recorded or not. Raises BadInput."""
        found = self._grid.find(**values)
        if found:
            return found[0]
        # Kwargs go with their schedule.
        points, schedule = self._grid.points, values.get("lr_scheduler_type")
        base = next(
            (point for point in points if schedule in (None, point.recipe.lr_scheduler_type)),
            points[0],
        )
        # transformers counts whole numbers and takes others as shares.
        changes = {
            name: int(value) if isinstance(value, float) and 1 <= value == int(value) else value
            for name, value in values.items()
        }
        rest = {name: changes.pop(name) for name in ("model", "corpus") if name in changes}
        return base._replace(recipe=base.recipe.replace(**changes), **rest)

    @property
    def point(self) -> Point:
        """The setting at hand; its recipe's seed is not the one to be trained with."""
        return self._point({name: self.controls[name].value for name in self._axes})

    @property
    def reference(self) -> Point:
        """The setting that the one at hand is compared with."""
        return self._reference

    @property
    def live(self) -> list[LiveRun]:
        """The runs of the setting at hand that were trained here."""
        return self._live_at(self.point)

    def _live_at(self, point: Point) -> list[LiveRun]:
        return [live for live in self._live if _same(live.point, point)]

    def _recorded_at(self, point: Point) -> list[Run]:
        return self._runs.at(*point, seeds=self._grid.seeds)

    # Moving.

    def _jump(self, change) -> None:
        """To a recorded setting: its axes move, and are drawn as one."""
        if change["new"] is None or self._jumping:
            return
        self._jumping = True
        try:
            with self._hold():
                for name, value in self._values_of(self._settings[change["new"]]).items():
                    self._put(name, value)
        finally:
            self._jumping = False

    def _moved(self, change) -> None:
        """An axis has moved: the list of recorded settings follows, or shows nothing."""
        if "setting" in self.__dict__.get("controls", {}) and not self._jumping:
            words = self._named({name: self.controls[name].value for name in self._axes})
            with self._hold():
                self._jumping = True
                self.controls["setting"].value = words if words in self._settings else None
                self._jumping = False

    def compare_with_this(self) -> None:
        """Make the setting at hand the one that others are compared with."""
        self._reference = self.point
        self._changed()

    def _pressed(self, action) -> None:
        try:
            action()
        except BadInput as error:
            self._fail(str(error))
            if self.raise_errors:
                raise

    # Training, in a thread: the kernel stays free for the stop button and for other cells.

    def train(self) -> None:
        """Train the setting at hand with `seed`, now. `wait` waits for the end, `stop` brings it about. Raises BadInput."""
        with self._lock:
            if self.training:
                raise BadInput("a run is being trained: wait for it, or stop it first")
            live = LiveRun(self.point.with_seed(self.seed))
            self._live = [other for other in self._live if other.point != live.point] + [live]
            self._set_training(True)
        self._stop.clear()
        self._bar.value, self._bar.max = 0, 1
        self._say("loading the model and measuring it before the run …")
        self._thread = threading.Thread(target=self._train, args=(live,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the run in training after the update at hand; what it has measured stays drawn. Without one, nothing happens."""
        self._stop.set()

    def wait(self) -> Run | None:
        """Wait for the run in training; returns the last run trained here, None where it was stopped. Raises what it raised."""
        if self._thread is None:
            raise BadInput("nothing has been trained here: call train() first")
        self._thread.join()
        live = self._live[-1]
        if live.error and not isinstance(live.error, _Stopped):
            raise live.error
        return live.run

    def _set_training(self, training: bool) -> None:
        self.training = training
        self._buttons[1].disabled, self._buttons[2].disabled = training, not training

    def _train(self, live: LiveRun) -> None:
        began = None

        def watch(update, updates, logged):
            nonlocal began
            if self._stop.is_set():
                raise _Stopped
            live.done, self._bar.max, self._bar.value = update, updates, update
            began = began or time.monotonic()
            left = (time.monotonic() - began) / update * (updates - update) if update else None
            self._say(
                f"update {update:,} of {updates:,}"
                + (f", {left:.0f} s left" if left is not None else "")
            )
            if logged:
                live.history.append({"step": update} | logged)
                self._redraw()

        try:
            live.run = record_point(live.point, watch)
            said = f"trained {live.name} in {live.run.train_seconds:.0f} s"
        except _Stopped as error:
            live.error, said = (
                error,
                f"stopped after update {live.done:,}: what was measured stays drawn, and Train starts anew",
            )
        except Exception as error:
            live.error, said = error, "the training failed: the reason stands above the picture"
        with self._lock:
            self._set_training(False)
            self._say(said)
            self._redraw()
            if live.error and not isinstance(live.error, _Stopped):
                self._fail(
                    str(live.error)
                    if isinstance(live.error, BadInput)
                    else f"{type(live.error).__name__}: {live.error}"
                )

    def _say(self, words: str) -> None:
        # A screen reader says what changes in an element of this role.
        self._status.value = f'<span role="status">{html.escape(words)}</span>'

    def _redraw(self) -> None:
        self._logged += 1
        self._changed()

    # Drawing.

    def _changed(self, change=None) -> None:
        with self._lock:  # a training draws too
            super()._changed(change)

    def _state(self):
        return super()._state(), self._logged, self._named(self._values_of(self._reference))

    def _draw(self):
        point, reference = self.point, self._reference
        self.recorded, others = self._recorded_at(point), self._recorded_at(reference)
        lines = [
            self._where(point),
            *self._against(point, reference, others),
            *map(self._verdict, self.live),
        ]
        if self.show.startswith(_ALONG):
            picture = self._draw_ends(self.show.removeprefix(_ALONG))
        else:
            picture = self._draw_curves(_CURVES[self.show], point, reference, others)
        return picture, paragraphs(lines)

    def _draw_curves(self, series: str, point: Point, reference: Point, others: list[Run]):
        here, there = self._values_of(point), self._values_of(reference)
        differ = [name for name in here if here[name] != there[name]] or list(here)
        names = [
            ", ".join(
                f"{name} " * isinstance(values[name], bool) + _shown(name, values[name])
                for name in differ
            )
            for values in (here, there)
        ]
        runs = [(f"this: {names[0]}" if names[0] else "the recorded seeds", self.recorded)]
        if not _same(point, reference):
            runs.append((f"against: {names[1]}", others))
        settings = [(name, band(found, series) if found else None) for name, found in runs]
        live = [
            (run.name, [(entry["step"], entry[series]) for entry in run.history if series in entry])
            for run in self.live
        ]
        what = series.replace("eval_loss", "evaluation loss (nats per token)").replace("_", " ")
        if series == "loss":
            what = "training loss (nats per token)"
        return self._curves.draw(what, settings, live)

    def _draw_ends(self, axis: str):
        here = self._values_of(self.point)
        values = [
            *self._axes[axis],
            here[axis],
            *(self._values_of(live.point)[axis] for live in self._live),
        ]
        values = list(dict.fromkeys(values))
        if not isinstance(values[0], (bool, str)):
            values.sort()
        columns = []
        for value in values:
            point = self._point(here | {axis: value})
            now = [_end(live.run) for live in self._live_at(point) if live.run]
            columns.append(
                (_shown(axis, value), [_end(run) for run in self._recorded_at(point)], now)
            )
        return self._ends.draw(
            "evaluation loss (nats per token)", axis, columns, values.index(here[axis])
        )

    def _where(self, point: Point) -> str:
        name = self._named(self._values_of(point)) or "the one setting of this grid"
        if not self.recorded:
            recorded = self._runs_of_grid()
            took = (
                f" (about {statistics.median(run.train_seconds for run in recorded):.0f} s where the others were recorded)"
                if recorded
                else ""
            )
            return f"{name}: not recorded, so nothing is drawn for it. Train this point now{took}"
        ends = [_end(run) for run in self.recorded]
        before = self.recorded[0].eval_loss_before
        worse = (
            f"; it ends worse than it began, {before:.5g}"
            if statistics.median(ends) > before
            else ""
        )
        seeds = f"{len(ends)} seed{'s' * (len(ends) > 1)}"
        return f"{name}: recorded with {seeds}; evaluation loss at the end {_range(ends)}{worse}"

    def _runs_of_grid(self) -> list[Run]:
        return [run for point in self._grid.points for run in self._recorded_at(point)]

    def _against(self, point: Point, reference: Point, others: list[Run]) -> list[str]:
        """The difference from the reference, held against the seeds' spread."""
        self.comparison = None
        if not self._axes:
            return []
        if _same(point, reference):
            return ["This is the setting that others are compared with: move a slider"]
        runs, now = self.recorded, ""
        if not runs:
            runs, now = [live.run for live in self.live if live.run], ", trained now"
        there = self._named(self._values_of(reference))
        if min(len(runs), len(others)) < 2:
            return [
                f"No verdict against {there}: a spread needs two seeds or more of each, here are {len(runs)} and {len(others)}"
            ]
        self.comparison = compare(runs, others)
        return [f"This{now}, against {there}: {self.comparison}"]

    def _verdict(self, live: LiveRun) -> str:
        if not live.run:
            return f"Trained now: {live.name}, at update {live.done:,}"
        end, ends = _end(live.run), [_end(run) for run in self.recorded]
        said = f"Trained now with {live.name}: evaluation loss at the end {end:.5g}"
        if not ends:
            return f"{said}; no recorded seed to hold it against"
        side = (
            "within" if min(ends) <= end <= max(ends) else "below" if end < min(ends) else "above"
        )
        return f"{said}, {side} the recorded seeds ({min(ends):.5g} to {max(ends):.5g})"


def _same(one: Point, other: Point) -> bool:
    """Are the two one setting? The seed does not count."""
    return one.with_seed(0) == other.with_seed(0)


def _end(run: Run) -> float:
    value = run.eval_loss_after
    return value if value is not None and math.isfinite(value) else math.inf


def _range(values: list[float]) -> str:
    return f"{statistics.median(values):.5g} ({min(values):.5g} to {max(values):.5g})"


def _shown(name: str, value) -> str:
    return shown_rate(value) if name == "learning_rate" else shown(value)


def _between(low: float, high: float) -> float:
    """A round number between two, to be tried: half-way by ratio, between powers of two another one or three quarters."""
    if (
        isinstance(low, int)
        and isinstance(high, int)
        and 0 < low
        and low & (low - 1) == high & (high - 1) == 0
    ):
        doubled = round(math.log2(high / low))
        return low * 2 ** (doubled // 2) if doubled % 2 == 0 else 3 * high // 4
    middle = float(f"{math.sqrt(low * high):.1g}") if low else high / 2
    return int(middle) if middle >= 1 and middle == int(middle) else middle


class CurvesPicture:
    """What was measured over the updates of a run: the band of a setting's seeds, of another to compare it with, runs of now.

    Nothing is smoothed: values are joined by straight lines, and a band goes from the lowest seed to the highest.
    """

    height = 3.6

    def __init__(self):
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes((0.105, 0.135, 0.865, 0.69))
        looks = (BLUE, "", "-", "o", 2.5), (ORANGE, "//", "--", "s", 2)
        self.bands = [
            self.axes.fill_between(
                [0, 1],
                0,
                1,
                facecolor=colour,
                edgecolor=colour,
                alpha=0.3,
                hatch=hatch,
                linewidth=1,
                zorder=order - 1,
            )
            for colour, hatch, _, _, order in looks
        ]
        self.medians = [
            self.axes.plot(
                [],
                [],
                color=colour,
                linestyle=style,
                linewidth=1.8,
                marker=marker,
                markersize=5,
                zorder=order,
            )[0]
            for colour, _, style, marker, order in looks
        ]
        self.live = [self._live_line()]
        self.axes.set_xlabel("update")
        self.axes.grid(alpha=0.3)
        self.axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        self.axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        self.empty = self.axes.text(
            0.5, 0.5, "nothing was recorded here", transform=self.axes.transAxes, ha="center"
        )
        self.key = key(self.figure, [*self.medians, self.live[0]])

    def _live_line(self):
        look = dict(
            color="black",
            linewidth=1.5,
            linestyle="-.",
            marker="D",
            markersize=5,
            markerfacecolor="white",
        )
        return self.axes.plot([], [], **look, zorder=3)[0]

    def draw(
        self, what: str, settings: list[tuple[str, tuple | None]], live: list[tuple[str, list]]
    ) -> Picture:
        """`what` is measured. `settings`: what the setting at hand is called, and its `records.Band`, None where nothing was
        recorded; then those of the one to compare it with, if it is another. `live`: what each run of now is called, and
        its (step, value) pairs.
        """
        texts, parts, points = [], [], []
        for number, (area, median) in enumerate(zip(self.bands, self.medians)):
            name, seeds = (
                settings[number] if number < len(settings) else ("against: the same", None)
            )
            shown = [at for at in zip(*seeds) if math.isfinite(at[3])] if seeds else []
            area.set_visible(bool(shown))
            median.set_visible(bool(shown))
            texts.append(
                name if len(name) < 50 else f"{name[:48]}…"
            )  # what fits; the alt text has it whole
            if shown:
                steps, low, middle, high = zip(*shown)
                points += [*zip(steps, low), *zip(steps, high)]
                area.set_verts([[*zip(steps, low), *zip(steps[::-1], high[::-1])]])
                median.set_data(steps, middle)
                parts.append(
                    f"{name}: {middle[0]:.5g} at update {steps[0]:,}, {middle[-1]:.5g} at update {steps[-1]:,}"
                )
                parts[-1] += f" ({low[-1]:.5g} to {high[-1]:.5g})" + ", after that no number" * (
                    len(shown) < len(seeds[0])
                )
            elif number < len(settings):
                nothing = "no number" if seeds else "not recorded"
                parts.append(f"{name}: {nothing}")
                texts[-1] = (
                    parts[-1] if len(parts[-1]) < 50 else f"{name.partition(':')[0]}: {nothing}"
                )
        self.live += [self._live_line() for _ in live[len(self.live) :]]
        for number, line in enumerate(self.live):
            name, values = live[number] if number < len(live) else ("", [])
            line.set_data(*zip(*values) if values else ([], []))
            points += values
            if values:
                parts.append(
                    f"trained now, {name}: {values[-1][1]:.5g} at update {values[-1][0]:,}"
                )
        names = [name for name, _ in live] if len(live) < 3 else [f"{len(live)} runs"]
        say(self.key, [*texts, f"trained now: {', '.join(names) or 'none yet'}"])
        self.empty.set_visible(not points)
        steps, heights = zip(*points or [(1, 0), (1, 1)])
        margin = 0.06 * (max(heights) - min(heights)) or 0.1 * abs(max(heights)) or 1
        self.axes.set_ylim(min(heights) - margin, max(heights) + margin)
        self.axes.set_xlim(-0.02 * max(1, *steps), 1.02 * max(1, *steps))
        self.axes.set_ylabel(what)
        return rendered(
            self.figure, f"{what[0].upper()}{what[1:]} over the updates; {'; '.join(parts)}."
        )


class EndsPicture:
    """Where runs end along one hyperparameter: a point for every seed at the recorded values, and nothing between them."""

    height = 3.6

    def __init__(self):
        from matplotlib.ticker import FuncFormatter

        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes((0.105, 0.135, 0.865, 0.69))
        self.here = self.axes.axvspan(-0.5, 0.5, facecolor="#dddddd")
        self.seeds = self.axes.plot(
            [], [], color=BLUE, marker="o", markersize=6, markerfacecolor="none", linestyle=""
        )[0]
        self.medians = self.axes.plot(
            [], [], color=BLUE, marker="_", markersize=22, markeredgewidth=2.5, linestyle=""
        )[0]
        self.live = self.axes.plot(
            [], [], color="black", marker="D", markersize=7, markerfacecolor="white", linestyle=""
        )[0]
        self.axes.grid(alpha=0.3, axis="y")
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        self.key = key(self.figure, [self.seeds, self.medians, self.here, self.live])
        say(
            self.key,
            [
                "a recorded seed",
                "median of the recorded seeds",
                "the setting at hand",
                "trained now",
            ],
        )

    def draw(
        self, what: str, along: str, columns: list[tuple[str, list[float], list[float]]], here: int
    ) -> Picture:
        """`columns`: how each value of `along` is written, what its recorded runs and its runs of now ended with.

        `here` is the column of the setting at hand. What is no finite number is told in words alone.
        """
        parts, seeds, medians, live = [], [], [], []
        for place, (label, recorded, now) in enumerate(columns):
            seeds += [(place, value) for value in recorded if math.isfinite(value)]
            live += [(place, value) for value in now if math.isfinite(value)]
            words = "no number" if recorded else "not recorded"
            if recorded and max(recorded) < math.inf:
                medians.append((place, statistics.median(recorded)))
                words = f"{medians[-1][1]:.5g} ({min(recorded):.5g} to {max(recorded):.5g})"
            parts.append(
                f"{label}: {words}" + "".join(f", trained now {value:.5g}" for value in now)
            )
        for line, values in ((self.seeds, seeds), (self.medians, medians), (self.live, live)):
            line.set_data(*zip(*values) if values else ([], []))
        self.here.set_x(here - 0.5)
        heights = [value for _, value in (*seeds, *live)] or [0, 1]
        margin = 0.06 * (max(heights) - min(heights)) or 0.1
        self.axes.set_ylim(min(heights) - margin, max(heights) + margin)
        self.axes.set_xlim(-0.6, len(columns) - 0.4)
        self.axes.set_xticks(range(len(columns)), [label for label, _, _ in columns])
        self.axes.set_xlabel(along)
        self.axes.set_ylabel(what)
        at = f"the setting at hand: {columns[here][0]}"
        return rendered(
            self.figure,
            f"{what[0].upper()}{what[1:]} at the end of a run, along {along}; {at}; {'; '.join(parts)}.",
        )
