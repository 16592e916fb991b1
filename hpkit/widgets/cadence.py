"""The widget of what a run leaves behind: when it logs, evaluates and saves, and the disk that its checkpoints fill."""

import ipywidgets

from hpkit.accounting import account
from hpkit.figures.base import BLUE, GREY, ORANGE, Picture, blank, rendered
from hpkit.formatting import shown_bytes
from hpkit.memory import checkpoint_bytes
from hpkit.preflight.findings import preflight
from hpkit.recipe import NOTES, Recipe
from hpkit.widgets.base import Interactive, decades, paragraphs, slider

#: What the picture and its words call the rows, and the fields of Accounting that they show.
ROWS = {
    "training loss": "log_at",
    "evaluation": "evaluate_at",
    "checkpoint": "save_at",
    "kept on disk": "checkpoints",
}


class CadencePicture:
    """A row of marks for each thing that a run does now and then, over its updates."""

    def __init__(self):
        self.figure = blank(2.4, layout=None)
        self.axes = self.figure.add_axes((0.16, 0.2, 0.8, 0.75))
        looks = ((BLUE, "|"), (ORANGE, "s"), (GREY, "D"), ("black", "D"))
        self.rows = {
            row: self.axes.plot(
                [], [], color=colour, marker=mark, markersize=10 if mark == "|" else 6, linestyle=""
            )[0]
            for row, (colour, mark) in zip(ROWS, looks)
        }
        self.rows["checkpoint"].set_markerfacecolor("white")
        self.axes.set_yticks(range(len(ROWS)), list(ROWS))
        self.axes.set_ylim(len(ROWS) - 0.5, -0.5)
        self.axes.set_xlabel("update")
        self.axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        self.axes.grid(alpha=0.3, axis="x")

    def draw(self, counts) -> Picture:
        """`counts`: an accounting.Accounting."""
        parts = []
        for number, (row, field) in enumerate(ROWS.items()):
            updates = getattr(counts, field)
            shown = updates[:: len(updates) // 1500 + 1]
            self.rows[row].set_data(shown, [number] * len(shown))
            parts.append(
                f"{row}: {len(updates):,}"
                + (f", first at {updates[0]:,}, last at {updates[-1]:,}" if updates else "")
            )
        self.axes.set_xlim(-0.02 * counts.updates, 1.03 * counts.updates)
        return rendered(
            self.figure, f"What {counts.updates:,} updates leave behind: {'; '.join(parts)}."
        )


class CadenceExplorer(Interactive):
    """What a run will log, evaluate and keep, the disk it needs, and what preflight says of it.

    Attributes to set: `examples`, `logging_steps`, `eval_steps` and `save_total_limit` (0 for none), `save_steps`,
    `load_best_model_at_end`, and `model`, whose checkpoints are counted. `recipe`, `counts`, `findings` and `disk`, in
    bytes, follow from them.
    """

    RULES = ("no-training-loss", "eval-beyond-run", "save-beyond-run", "best-model-mismatch")
    counts, findings, disk = None, (), 0

    def __init__(self, recipe: Recipe = NOTES, examples: int = 52_000):
        self._base, self._figure, self._sizes = recipe, CadencePicture(), {}
        steps = decades(0, 4, int)
        controls = {
            "examples": slider("examples", decades(1, 6, int)),
            "logging_steps": slider("logging_steps", steps),
            "eval_steps": slider("eval_steps (0: not set)", [0, *steps]),
            "save_steps": slider("save_steps", steps),
            "save_total_limit": slider("save_total_limit (0: none)", range(11)),
            "load_best_model_at_end": ipywidgets.Checkbox(description="load_best_model_at_end"),
            "model": ipywidgets.Dropdown(
                options=("135M", "0.5B", "1B", "7B", "70B"), description="model"
            ),
        }
        values = {
            name: getattr(recipe, name) or 0
            for name in ("logging_steps", "eval_steps", "save_steps", "save_total_limit")
        }
        super().__init__(controls, values | {"examples": examples, "model": "7B"})

    @property
    def recipe(self) -> Recipe:
        steps = dict(logging_steps=self.logging_steps, save_steps=self.save_steps)
        return self._base.replace(
            eval_steps=self.eval_steps or None,
            save_total_limit=self.save_total_limit or None,
            **steps,
        )

    def _draw(self):
        recipe = self.recipe
        self.counts = account(recipe, self.examples)
        settings = vars(recipe) | {"load_best_model_at_end": self.load_best_model_at_end}
        self.findings = [
            finding for finding in preflight(settings, self.examples) if finding.rule in self.RULES
        ]
        if self.model not in self._sizes:
            self._sizes[self.model] = checkpoint_bytes(self.model, recipe)
        each, kept = self._sizes[self.model], len(self.counts.checkpoints)
        self.disk = each * kept
        lines = [
            f"{self.counts.updates:,} updates: {self.counts.lines()[2]}",
            f"Disk at the end, for a model of {self.model}: {kept} checkpoint{'s' * (kept != 1)} of {shown_bytes(each)}, "
            f"{shown_bytes(self.disk)} in all",
        ]
        found = [str(finding) for finding in self.findings]
        return self._figure.draw(self.counts), paragraphs(
            lines if found else [*lines, "preflight: nothing found"], found
        )
