""""""

import json

import ipywidgets

from hpkit.accounting import Accounting, account
from hpkit.figures.base import (
    BLUE,
    GREY,
    MOST_POINTS,
    ORANGE,
    Picture,
    _rate,
    blank,
    key,
    rendered,
    say,
)
from hpkit.formatting import shown
from hpkit.hyperparameters import SCHEDULERS
from hpkit.preflight.findings import preflight
from hpkit.recipe import NOTES, Recipe, parse_value
from hpkit.schedules import MEASURED
from hpkit.widgets.base import Interactive, decades, doublings, paragraphs, slider


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
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _rate(value)))
        handles = [self.asked, self.reached, self.rates, self.end, self.warmup]
        self.key = key(self.figure, handles)

    def draw(self, counts: Accounting, asked: float) -> Picture:
        """`counts` must have learning rates; `asked` is the recipe's learning rate."""
        updates, warmup, rates = counts.updates, counts.warmup_updates, counts.learning_rates
        shown = sorted(
            {
                *range(0, updates + 1, updates // MOST_POINTS + 1),
                min(warmup, updates),
                counts.peak_at,
                updates,
            }
        )
        self.rates.set_data(shown, [rates[k] for k in shown])
        self.rates.set_marker("." if updates <= 40 else "")
        self.asked.set_ydata([asked, asked])
        self.reached.set_data([counts.peak_at], [counts.peak_learning_rate])
        self.end.set_xdata([updates, updates])
        self.warmup.set_xdata([warmup, warmup])
        self.warmup.set_visible(0 < warmup < updates)
        self.axes.set_xlim(-0.02 * updates, 1.03 * updates)
        top = max(asked, counts.peak_learning_rate)
        self.axes.set_ylim(-0.03 * top, 1.1 * top)  # so that a rate near 0 is seen
        share = f"{100 * counts.peak_learning_rate / asked:.3g} %"
        reached = f"{_rate(counts.peak_learning_rate)} ({share}), " + (
            f"after update {counts.peak_at:,}" if counts.peak_at else "at once"
        )
        texts = [
            f"asked for: {_rate(asked)}",
            f"reached: {reached}",
            "learning rate",
            f"the run ends: update {updates:,}",
        ]
        texts.append(f"warmup: {warmup:,} update{'s' * (warmup > 1)}" if warmup else "no warmup")
        say(self.key, texts)
        outlasts = ", as long as the run or longer" * (warmup >= updates)
        alt = f"Learning rate over {updates:,} update{'s' * (updates > 1)}: {'; '.join(texts[:2])}; at the end: {_rate(rates[-1])}; "
        alt += f"{texts[-1]}{outlasts}."
        return rendered(self.figure, alt)


class ScheduleExplorer(Interactive):
    """The learning rate of a whole run before it runs, where the run ends, and what preflight finds.

    Attributes to set: `learning_rate`, `warmup_steps` (below 1 a share of the run), `lr_scheduler_type`,
    `lr_scheduler_kwargs` (None: filled in), `examples`, `per_device_train_batch_size`, `gradient_accumulation_steps`,
    `num_train_epochs`. `recipe`, `counts` and `findings` follow from them; the rest of `recipe` stays as it was given.
    """

    settable = ("warmup_steps", "lr_scheduler_kwargs")
    counts, findings = None, ()

    def __init__(self, recipe: Recipe = NOTES, examples: int = 640):
        self._base, self._figure = recipe, SchedulePicture()
        schedules = [name for name in SCHEDULERS if name not in MEASURED]
        shares = [*(k / 100 for k in range(20)), *(k / 20 for k in range(4, 20))]
        controls = {
            "learning_rate": slider("learning_rate", decades(-7, 0)),
            "warmup": ipywidgets.Dropdown(
                options=("updates", "share of the run"), description="warmup_steps as"
            ),
            "warmup_updates": slider("updates", [0, *decades(0, 5, int)]),
            "warmup_share": slider("share of the run", shares),
            "lr_scheduler_type": ipywidgets.Dropdown(
                options=schedules, description="lr_scheduler_type"
            ),
            "kwargs": ipywidgets.Text(description="lr_scheduler_kwargs", continuous_update=False),
            "examples": slider("examples", decades(0, 6, int)),
            "per_device_train_batch_size": slider(
                "per_device_train_batch_size", doublings(1, 1024)
            ),
            "gradient_accumulation_steps": slider(
                "gradient_accumulation_steps", doublings(1, 1024)
            ),
            "num_train_epochs": slider(
                "num_train_epochs",
                [k / 10 for k in (1, 2, 5, *range(10, 50, 5), *range(50, 210, 10))],
            ),
        }
        controls["num_train_epochs"].disabled = recipe.max_steps > 0
        # What one schedule wants, another refuses. Observed before the base does, so that both are drawn as one.
        controls["lr_scheduler_type"].observe(self._forget_kwargs, "value")
        names = [name for name in (*controls, *self.settable) if hasattr(recipe, name)]
        super().__init__(
            controls, {name: getattr(recipe, name) for name in names} | {"examples": examples}
        )

    def _forget_kwargs(self, change) -> None:
        with self._hold():
            self.controls["kwargs"].value = ""

    def set(self, **values) -> None:
        """As Interactive.set; the kwargs come after the schedule, which empties them."""
        super().set(
            **dict(sorted(values.items(), key=lambda item: item[0] == "lr_scheduler_kwargs"))
        )

    def _put(self, name: str, value) -> None:
        if name in self.settable:
            self._base.replace(**{name: value})  # raises BadInput
        if name == "lr_scheduler_kwargs":
            self.controls["kwargs"].value = "" if value is None else json.dumps(value)
        elif name == "warmup_steps":
            share = 0 < value < 1
            super()._put("warmup", "share of the run" if share else "updates")
            super()._put("warmup_share" if share else "warmup_updates", value)
        else:
            super()._put(name, value)

    @property
    def warmup_steps(self) -> float:
        """As transformers takes it: updates from 1, below 1 a share of the run."""
        return self.warmup_updates if self.warmup == "updates" else self.warmup_share

    @property
    def lr_scheduler_kwargs(self) -> dict | None:
        """What was typed, else something sensible for a schedule that cannot do without, else None. Raises BadInput."""
        if self.kwargs.strip():
            return parse_value("lr_scheduler_kwargs", self.kwargs)
        if self.lr_scheduler_type in ("cosine_with_min_lr", "cosine_warmup_with_min_lr"):
            return {"min_lr_rate": 0.1}
        if self.lr_scheduler_type == "warmup_stable_decay":
            counts = account(self._recipe(lr_scheduler_type="constant_with_warmup"), self.examples)
            return {
                "num_decay_steps": max(
                    min(counts.updates // 5, counts.updates - counts.warmup_updates), 1
                )
            }
        return None

    @property
    def recipe(self) -> Recipe:
        return self._recipe(
            lr_scheduler_type=self.lr_scheduler_type, lr_scheduler_kwargs=self.lr_scheduler_kwargs
        )

    def _recipe(self, **schedule) -> Recipe:
        names = (
            "learning_rate",
            "warmup_steps",
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "num_train_epochs",
        )
        values = {name: getattr(self, name) for name in names}
        return self._base.replace(lr_scheduler_kwargs=None, **values).replace(**schedule)

    def _draw(self):
        self.controls["warmup_updates"].layout.display = (
            None if self.warmup == "updates" else "none"
        )
        self.controls["warmup_share"].layout.display = "none" if self.warmup == "updates" else None
        recipe = self.recipe
        self.controls["kwargs"].placeholder = shown(recipe.lr_scheduler_kwargs)
        self.counts = account(recipe, self.examples)
        self.findings = preflight(recipe, self.examples)
        lines = self.counts.lines()
        if recipe.lr_scheduler_kwargs:
            lines.append(
                f"lr_scheduler_kwargs of {recipe.lr_scheduler_type}: {shown(recipe.lr_scheduler_kwargs)}"
            )
        if recipe.max_steps > 0:
            lines.append(
                f"max_steps {recipe.max_steps} fixes the number of updates; num_train_epochs has no say"
            )
        found = [str(finding) for finding in self.findings]
        if not found:
            lines.append("preflight: nothing found")
        return self._figure.draw(self.counts, recipe.learning_rate), paragraphs(lines, found)
