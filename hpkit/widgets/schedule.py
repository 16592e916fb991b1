"""The learning rate of a run before it runs: SchedulePicture draws it, ScheduleExplorer moves it.

What is drawn and said comes from `account` and `preflight`; nothing is trained.
"""

import json

import ipywidgets

from hpkit.accounting import Accounting, account
from hpkit.figures.base import BLUE, GREY, MOST_POINTS, ORANGE, Picture, blank, key, rendered, say
from hpkit.formatting import plural, shown, shown_rate
from hpkit.hyperparameters import SCHEDULERS
from hpkit.preflight.findings import preflight
from hpkit.recipe import NOTES, Recipe, parse_value
from hpkit.schedules import MEASURED
from hpkit.widgets.base import Interactive, decades, doublings, paragraphs, slider

#: What the warmup can be counted in, and the slider that counts it.
WARMUP_SLIDERS = {"updates": "warmup_updates", "share of the run": "warmup_share"}

#: The fields of a Recipe that have a control, or a property over several, of their own name;
#: the schedule and its kwargs stand apart, because the one decides what the other may be.
RECIPE_FIELDS = (
    "learning_rate",
    "warmup_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
)


class SchedulePicture:
    """The learning rate over a run: what was asked for, what is reached, and where the run ends."""

    height = 3.6

    def __init__(self):
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        # Constrained layout would take twice the time and depend on the drawing before.
        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes((0.135, 0.135, 0.84, 0.64))
        self.rates = self.axes.plot([], [], color=BLUE, linewidth=2, markersize=5)[0]
        self.asked = self.axes.axhline(1, color=ORANGE, linestyle="--")
        self.reached = self.axes.plot(
            [],
            [],
            color=BLUE,
            marker="D",
            markersize=9,
            markerfacecolor="white",
            linestyle="",
            clip_on=False,
        )[0]
        self.warmup = self.axes.axvline(0, color=GREY, linestyle=":", linewidth=1.8)
        self.end = self.axes.axvline(0, color="black", linewidth=1.5)
        self.axes.set_xlabel("updates done")
        self.axes.set_ylabel("learning rate")
        self.axes.grid(alpha=0.3)
        self.axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        self.axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        self.axes.yaxis.set_major_locator(MaxNLocator(5))
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _rate_or_zero(value)))
        marks = [self.asked, self.reached, self.rates, self.end, self.warmup]
        self.key = key(self.figure, marks)

    def draw(self, counts: Accounting, asked: float) -> Picture:
        """`counts` must have learning rates; `asked` is the recipe's learning rate."""
        self._move(counts, asked)
        updates = counts.updates
        warmup = counts.warmup_updates

        share = f"{100 * counts.peak_learning_rate / asked:.3g} %"
        when = "at once"
        if counts.peak_at:
            when = f"after update {counts.peak_at:,}"
        asked_for = f"asked for: {_rate_or_zero(asked)}"
        reached = f"reached: {_rate_or_zero(counts.peak_learning_rate)} ({share}), {when}"
        warmup_lasts = "no warmup"
        if warmup:
            warmup_lasts = f"warmup: {plural(warmup, 'update')}"
        run_ends = f"the run ends: update {updates:,}"
        say(self.key, [asked_for, reached, "learning rate", run_ends, warmup_lasts])

        if warmup >= updates:
            warmup_lasts += ", as long as the run or longer"
        last_rate = _rate_or_zero(counts.learning_rates[-1])
        alt = (
            f"Learning rate over {plural(updates, 'update')}: {asked_for}; {reached}; "
            f"at the end: {last_rate}; {warmup_lasts}."
        )
        return rendered(self.figure, alt)

    def _move(self, counts: Accounting, asked: float) -> None:
        """Lines and marks to where the numbers are."""
        updates = counts.updates
        warmup = counts.warmup_updates
        peak = counts.peak_learning_rate
        # Thinned evenly, but never without the corners of the curve, which the words speak of.
        evenly = range(0, updates + 1, updates // MOST_POINTS + 1)
        points = sorted({*evenly, min(warmup, updates), counts.peak_at, updates})
        self.rates.set_data(points, [counts.learning_rates[point] for point in points])
        # A dot for each update while they can be told apart.
        self.rates.set_marker("." if updates <= 40 else "")
        self.asked.set_ydata([asked, asked])
        self.reached.set_data([counts.peak_at], [peak])
        self.end.set_xdata([updates, updates])
        self.warmup.set_xdata([warmup, warmup])
        self.warmup.set_visible(0 < warmup < updates)
        self.axes.set_xlim(-0.02 * updates, 1.03 * updates)
        top = max(asked, peak)
        self.axes.set_ylim(-0.03 * top, 1.1 * top)  # so that a rate near 0 is seen


def _rate_or_zero(rate: float) -> str:
    """A learning rate as people write it; 0, where the axis begins and a run may end, as `0`."""
    if rate == 0:
        return "0"
    return shown_rate(rate)


class ScheduleExplorer(Interactive):
    """The learning rate of a whole run before it runs, where the run ends, what preflight finds.

    Attributes to set: `learning_rate`, `warmup_steps` (below 1 a share of the run),
    `lr_scheduler_type`, `lr_scheduler_kwargs` (None: filled in), `examples`,
    `per_device_train_batch_size`, `gradient_accumulation_steps`, `num_train_epochs`. `recipe`,
    `counts` and `findings` follow from them; the rest of `recipe` stays as it was given.
    """

    settable = ("warmup_steps", "lr_scheduler_kwargs")
    counts = None
    findings = ()

    def __init__(self, recipe: Recipe = NOTES, examples: int = 640):
        self._base = recipe
        self._figure = SchedulePicture()
        controls = _schedule_controls()
        controls["num_train_epochs"].disabled = recipe.max_steps > 0
        # What one schedule wants, another refuses. Observed before the base does, so that both
        # are drawn as one.
        controls["lr_scheduler_type"].observe(self._forget_kwargs, "value")
        names = (*RECIPE_FIELDS, "lr_scheduler_type", "lr_scheduler_kwargs")
        values = {name: getattr(recipe, name) for name in names}
        super().__init__(controls, values | {"examples": examples})

    def _forget_kwargs(self, change) -> None:
        with self._hold():
            self.controls["kwargs"].value = ""

    def set(self, **values) -> None:
        """As Interactive.set; the kwargs come after the schedule, which empties them."""
        if "lr_scheduler_kwargs" in values:
            values["lr_scheduler_kwargs"] = values.pop("lr_scheduler_kwargs")  # now the last
        super().set(**values)

    def _put(self, name: str, value) -> None:
        if name in self.settable:
            self._base.replace(**{name: value})  # raises BadInput
        if name == "lr_scheduler_kwargs":
            # Nothing typed stands for None, which fills in what the schedule needs.
            text = "" if value is None else json.dumps(value)
            self.controls["kwargs"].value = text
        elif name == "warmup_steps":
            counted_in = "share of the run" if 0 < value < 1 else "updates"
            super()._put("warmup", counted_in)
            super()._put(WARMUP_SLIDERS[counted_in], value)
        else:
            super()._put(name, value)

    @property
    def warmup_steps(self) -> float:
        """As transformers takes it: updates from 1, below 1 a share of the run."""
        return self.controls[WARMUP_SLIDERS[self.warmup]].value

    @property
    def lr_scheduler_kwargs(self) -> dict | None:
        """What was typed, else something sensible for a schedule that cannot do without, else None.

        Raises BadInput.
        """
        if self.kwargs.strip():
            return parse_value("lr_scheduler_kwargs", self.kwargs)
        if self.lr_scheduler_type in ("cosine_with_min_lr", "cosine_warmup_with_min_lr"):
            return {"min_lr_rate": 0.1}
        if self.lr_scheduler_type == "warmup_stable_decay":
            # Counted with a schedule that needs no kwargs: how many updates there are, and how
            # many of them are warmup, is the same for all.
            counts = account(self._recipe(lr_scheduler_type="constant_with_warmup"), self.examples)
            after_warmup = counts.updates - counts.warmup_updates
            return {"num_decay_steps": max(min(counts.updates // 5, after_warmup), 1)}
        return None

    @property
    def recipe(self) -> Recipe:
        """The recipe of the controls. Raises BadInput."""
        return self._recipe(
            lr_scheduler_type=self.lr_scheduler_type, lr_scheduler_kwargs=self.lr_scheduler_kwargs
        )

    def _recipe(self, **schedule) -> Recipe:
        values = {name: getattr(self, name) for name in RECIPE_FIELDS}
        # In two steps: the kwargs of the recipe given belong to its own schedule.
        return self._base.replace(lr_scheduler_kwargs=None, **values).replace(**schedule)

    def _draw(self) -> tuple[Picture, str]:
        for counted_in, name in WARMUP_SLIDERS.items():
            layout = self.controls[name].layout
            layout.display = None if counted_in == self.warmup else "none"
        recipe = self.recipe
        self.controls["kwargs"].placeholder = shown(recipe.lr_scheduler_kwargs)
        self.counts = account(recipe, self.examples)
        self.findings = preflight(recipe, self.examples)
        lines = self.counts.lines()
        if recipe.lr_scheduler_kwargs:
            kwargs = shown(recipe.lr_scheduler_kwargs)
            lines.append(f"lr_scheduler_kwargs of {recipe.lr_scheduler_type}: {kwargs}")
        if recipe.max_steps > 0:
            lines.append(
                f"max_steps {recipe.max_steps} fixes the number of updates; "
                "num_train_epochs has no say"
            )
        found = [str(finding) for finding in self.findings]
        if not found:
            lines.append("preflight: nothing found")
        picture = self._figure.draw(self.counts, asked=recipe.learning_rate)
        return picture, paragraphs(lines, found)


def _schedule_controls() -> dict:
    # Schedules that wait for a measured loss have no rate that could be drawn before the run.
    schedules = [name for name in SCHEDULERS if name not in MEASURED]
    percents = [*range(20), *range(20, 100, 5)]
    tenths_of_epochs = [1, 2, 5, *range(10, 50, 5), *range(50, 210, 10)]
    return {
        "learning_rate": slider("learning_rate", decades(-7, 0)),
        "warmup": ipywidgets.Dropdown(options=tuple(WARMUP_SLIDERS), description="warmup_steps as"),
        "warmup_updates": slider("updates", [0, *decades(0, 5, int)]),
        "warmup_share": slider("share of the run", [percent / 100 for percent in percents]),
        "lr_scheduler_type": ipywidgets.Dropdown(
            options=schedules, description="lr_scheduler_type"
        ),
        "kwargs": ipywidgets.Text(description="lr_scheduler_kwargs", continuous_update=False),
        "examples": slider("examples", decades(0, 6, int)),
        "per_device_train_batch_size": slider("per_device_train_batch_size", doublings(1, 1024)),
        "gradient_accumulation_steps": slider("gradient_accumulation_steps", doublings(1, 1024)),
        "num_train_epochs": slider("num_train_epochs", [tenth / 10 for tenth in tenths_of_epochs]),
    }
