"""What a run leaves behind: CadencePicture draws it, CadenceExplorer moves it.

That is when it logs, evaluates and saves, and the disk that its checkpoints fill.
"""

import ipywidgets

from hpkit.accounting import Accounting, account
from hpkit.figures.base import BLUE, GREY, MOST_POINTS, ORANGE, Picture, blank, rendered
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

#: The rules of preflight that speak of this; the others' findings belong to other widgets.
CADENCE_RULES = (
    "no-training-loss",
    "eval-beyond-run",
    "save-beyond-run",
    "best-model-mismatch",
)


class CadencePicture:
    """A row of marks for each thing that a run does now and then, over its updates."""

    def __init__(self):
        self.figure = blank(2.4, layout=None)
        self.axes = self.figure.add_axes((0.16, 0.2, 0.8, 0.75))
        self.rows = {
            "training loss": self._row(color=BLUE, marker="|", markersize=10),
            "evaluation": self._row(color=ORANGE, marker="s", markersize=6),
            # Hollow: all that were written; the full ones below are those that are still there.
            "checkpoint": self._row(color=GREY, marker="D", markersize=6, markerfacecolor="white"),
            "kept on disk": self._row(color="black", marker="D", markersize=6),
        }
        self.axes.set_yticks(range(len(ROWS)), list(ROWS))
        self.axes.set_ylim(len(ROWS) - 0.5, -0.5)  # the first row is at the top
        self.axes.set_xlabel("update")
        self.axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        self.axes.grid(alpha=0.3, axis="x")

    def _row(self, **look):
        return self.axes.plot([], [], linestyle="", **look)[0]

    def draw(self, counts: Accounting) -> Picture:
        parts = []
        for number, (row, field) in enumerate(ROWS.items()):
            updates = getattr(counts, field)
            points = updates[:: len(updates) // MOST_POINTS + 1]
            self.rows[row].set_data(points, [number] * len(points))
            part = f"{row}: {len(updates):,}"
            if updates:
                part += f", first at {updates[0]:,}, last at {updates[-1]:,}"
            parts.append(part)
        self.axes.set_xlim(-0.02 * counts.updates, 1.03 * counts.updates)
        return rendered(
            self.figure, f"What {counts.updates:,} updates leave behind: {'; '.join(parts)}."
        )


class CadenceExplorer(Interactive):
    """What a run will log, evaluate and keep, the disk it needs, and what preflight says of it.

    Attributes to set: `examples`, `logging_steps`, `eval_steps` and `save_total_limit` (0 for
    none), `save_steps`, `load_best_model_at_end`, and `model`, whose checkpoints are counted.
    `recipe`, `counts`, `findings` and `disk`, in bytes, follow from them.
    """

    counts = None
    findings = ()
    disk = 0

    def __init__(self, recipe: Recipe = NOTES, examples: int = 52_000):
        self._base = recipe
        self._figure = CadencePicture()
        self._checkpoint_bytes = {}
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
        values = dict(
            logging_steps=recipe.logging_steps,
            eval_steps=recipe.eval_steps or 0,
            save_steps=recipe.save_steps,
            save_total_limit=recipe.save_total_limit or 0,
            examples=examples,
            model="7B",
        )
        super().__init__(controls, values)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the controls, without `load_best_model_at_end`, which a Recipe has not."""
        return self._base.replace(
            logging_steps=self.logging_steps,
            eval_steps=self.eval_steps or None,
            save_steps=self.save_steps,
            save_total_limit=self.save_total_limit or None,
        )

    def _draw(self) -> tuple[Picture, str]:
        recipe = self.recipe
        self.counts = account(recipe, self.examples)
        # As a dict, because preflight takes arguments of transformers there that a Recipe lacks.
        settings = vars(recipe) | {"load_best_model_at_end": self.load_best_model_at_end}
        self.findings = [
            finding
            for finding in preflight(settings, self.examples)
            if finding.rule in CADENCE_RULES
        ]
        each = self._bytes_of_one_checkpoint(recipe)
        kept = len(self.counts.checkpoints)
        self.disk = each * kept
        checkpoints = "checkpoint" if kept == 1 else "checkpoints"
        cadence = self.counts.lines()[2]
        lines = [
            f"{self.counts.updates:,} updates: {cadence}",
            f"Disk at the end, for a model of {self.model}: "
            f"{kept} {checkpoints} of {shown_bytes(each)}, {shown_bytes(self.disk)} in all",
        ]
        found = [str(finding) for finding in self.findings]
        if not found:
            lines.append("preflight: nothing found")
        return self._figure.draw(self.counts), paragraphs(lines, found)

    def _bytes_of_one_checkpoint(self, recipe: Recipe) -> int:
        # Kept, because no control here changes it and it takes longer than a drawing.
        if self.model not in self._checkpoint_bytes:
            self._checkpoint_bytes[self.model] = checkpoint_bytes(self.model, recipe)
        return self._checkpoint_bytes[self.model]
