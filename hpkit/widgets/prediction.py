"""The widgets of the notebooks: what a control moves is drawn at once, said in words, and open as attributes."""

import contextlib
import json
import math
from typing import ClassVar

import ipywidgets

from hpkit.accounting import MEASURED, account
from hpkit.capability import MACHINES, Machine, find_machine
from hpkit.errors import BadInput
from hpkit.figures.base import GuessPicture, MemoryPicture, OrderPicture, SchedulePicture
from hpkit.hyperparameters import SCHEDULERS, shown
from hpkit.lessons.predictions import Question, Score, calibration
from hpkit.memory import Predictor
from hpkit.model import read_config
from hpkit.preflight.plan import preflight
from hpkit.preflight.rules import shown_bytes
from hpkit.recipe import NOTES, Recipe, parse_value
from hpkit.widgets.base import Interactive, decades, doublings, paragraphs, slider


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
            "warmup": ipywidgets.Dropdown(options=("updates", "share of the run"), description="warmup_steps as"),
            "warmup_updates": slider("updates", [0, *decades(0, 5, int)]),
            "warmup_share": slider("share of the run", shares),
            "lr_scheduler_type": ipywidgets.Dropdown(options=schedules, description="lr_scheduler_type"),
            "kwargs": ipywidgets.Text(description="lr_scheduler_kwargs", continuous_update=False),
            "examples": slider("examples", decades(0, 6, int)),
            "per_device_train_batch_size": slider("per_device_train_batch_size", doublings(1, 1024)),
            "gradient_accumulation_steps": slider("gradient_accumulation_steps", doublings(1, 1024)),
            "num_train_epochs": slider("num_train_epochs", [k / 10 for k in (1, 2, 5, *range(10, 50, 5), *range(50, 210, 10))]),
        }
        controls["num_train_epochs"].disabled = recipe.max_steps > 0
        # What one schedule wants, another refuses. Observed before the base does, so that both are drawn as one.
        controls["lr_scheduler_type"].observe(self._forget_kwargs, "value")
        names = [name for name in (*controls, *self.settable) if hasattr(recipe, name)]
        super().__init__(controls, {name: getattr(recipe, name) for name in names} | {"examples": examples})

    def _forget_kwargs(self, change) -> None:
        with self._hold():
            self.controls["kwargs"].value = ""

    def set(self, **values) -> None:
        """As Interactive.set; the kwargs come after the schedule, which empties them."""
        super().set(**dict(sorted(values.items(), key=lambda item: item[0] == "lr_scheduler_kwargs")))

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
            return {"num_decay_steps": max(min(counts.updates // 5, counts.updates - counts.warmup_updates), 1)}
        return None

    @property
    def recipe(self) -> Recipe:
        return self._recipe(lr_scheduler_type=self.lr_scheduler_type, lr_scheduler_kwargs=self.lr_scheduler_kwargs)

    def _recipe(self, **schedule) -> Recipe:
        names = ("learning_rate", "warmup_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs")
        values = {name: getattr(self, name) for name in names}
        return self._base.replace(lr_scheduler_kwargs=None, **values).replace(**schedule)

    def _draw(self):
        self.controls["warmup_updates"].layout.display = None if self.warmup == "updates" else "none"
        self.controls["warmup_share"].layout.display = "none" if self.warmup == "updates" else None
        recipe = self.recipe
        self.controls["kwargs"].placeholder = shown(recipe.lr_scheduler_kwargs)
        self.counts = account(recipe, self.examples)
        self.findings = preflight(recipe, self.examples)
        lines = self.counts.lines()
        if recipe.lr_scheduler_kwargs:
            lines.append(f"lr_scheduler_kwargs of {recipe.lr_scheduler_type}: {shown(recipe.lr_scheduler_kwargs)}")
        if recipe.max_steps > 0:
            lines.append(f"max_steps {recipe.max_steps} fixes the number of updates; num_train_epochs has no say")
        found = [str(finding) for finding in self.findings]
        if not found:
            lines.append("preflight: nothing found")
        return self._figure.draw(self.counts, recipe.learning_rate), paragraphs(lines, found)


class MemoryExplorer(Interactive):
    """Where the bytes of a full fine-tune go, and whether a device holds them.

    Attributes to set: `model` (a size such as "7B", `starter`, a folder or a hub id), `optim`, `precision` (one of
    PRECISIONS), `per_device_train_batch_size`, `max_seq_length`, `device` (a name of capability.MACHINES). `memory` and
    `recipe` follow from them.
    """

    PRECISIONS: ClassVar = {
        "fp32": dict(bf16=False, dtype="float32"),
        "bf16 autocast": dict(bf16=True, dtype="float32"),
        "bf16 weights": dict(bf16=True, dtype="bfloat16"),
    }
    memory = None

    def __init__(self, model: str = "1B", recipe: Recipe = NOTES, device: Machine | str = "t4"):
        self._base, self._figure, self._predictors = recipe, MemoryPicture(), {}
        self._machines = {name: machine for name, machine in MACHINES.items() if machine.memory_free}
        if isinstance(device, Machine) or device not in self._machines:
            machine = find_machine(device) if isinstance(device, str) else device
            if not machine.memory_free:
                known = ", ".join(["here", *self._machines])
                raise BadInput(f"device: expected one whose memory is known, such as {known}; got {machine.name}")
            device = device if isinstance(device, str) else machine.name
            self._machines[device] = machine
        optimizers = ("adamw_torch_fused", "adamw_8bit", "adafactor", "sgd")
        if recipe.optim not in optimizers:
            optimizers += (recipe.optim,)
        precision = "bf16 weights" if recipe.dtype == "bfloat16" else "bf16 autocast" if recipe.bf16 or recipe.fp16 else "fp32"
        sizes = ("starter", "135M", "0.5B", "1B", "3B", "7B", "13B", "70B")
        controls = {
            "model": ipywidgets.Dropdown(options=sizes, description="model"),
            "optim": ipywidgets.Dropdown(options=optimizers, description="optim"),
            "precision": ipywidgets.Dropdown(options=tuple(self.PRECISIONS), description="precision"),
            "per_device_train_batch_size": slider("per_device_train_batch_size", doublings(1, 256)),
            "max_seq_length": slider("max_seq_length", doublings(16, 32_768)),
            "device": ipywidgets.Dropdown(options=tuple(self._machines), description="device"),
        }
        values = dict(model=model, optim=recipe.optim, precision=precision, device=device)
        values |= dict(per_device_train_batch_size=recipe.per_device_train_batch_size, max_seq_length=recipe.max_seq_length or 512)
        super().__init__(controls, values)

    def _put(self, name: str, value) -> None:
        if name == "model" and isinstance(value, str) and value not in self.controls["model"].options:
            self._predictor(value)  # raises BadInput
            with self.controls["model"].hold_sync():
                self.controls["model"].options = (*self.controls["model"].options, value)
                return super()._put(name, value)
        super()._put(name, value)

    @property
    def recipe(self) -> Recipe:
        length = dict(max_seq_length=self.max_seq_length, fp16=False)
        batch = dict(per_device_train_batch_size=self.per_device_train_batch_size)
        return self._base.replace(optim=self.optim, **batch, **length, **self.PRECISIONS[self.precision])

    def _predictor(self, model: str) -> Predictor:
        if model not in self._predictors:
            try:
                self._predictors[model] = Predictor(model)
            except BadInput:  # no size: a name
                self._predictors[model] = Predictor(read_config(model))
        return self._predictors[model]

    def _draw(self):
        recipe, machine, predictor = self.recipe, self._machines[self.device], self._predictor(self.model)
        self.memory = memory = predictor.predict(recipe)
        free, count = machine.memory_free, sum(parameter.elements for parameter in predictor.parameters)
        fixed = f"{(memory.total - memory.activations) / count:.2f} bytes each"
        lines = [f"{count:,} parameters: weights, gradients and optimizer states take {fixed}; activations come on top"]
        spare, ways = free - memory.total, []
        if spare < 0:
            lines.append(f"Does not fit {machine.name}: {shown_bytes(memory.total)} are {shown_bytes(-spare)} too much. To make it fit:")
            ways = self._ways(predictor, recipe, free)
        else:
            fits = "Fits" if 0.15 * memory.total <= spare else "Barely fits"
            lines.append(f"{fits} {machine.name}: {shown_bytes(memory.total)} leave {shown_bytes(spare)} of {shown_bytes(free)}")
            lines.append("Temporary buffers are not counted: 10 to 15 % more where hpkit measured them")
        if self.precision == "bf16 weights":
            lines.append("bf16 weights have no fp32 copies: updates too small for their 8 significant bits are lost")
        return self._figure.draw(memory, machine.name, free), paragraphs(lines, ways)

    def _ways(self, predictor: Predictor, recipe: Recipe, free: int) -> list[str]:
        """What would make it fit: each one predicted, none guessed."""
        tries, ways = {"": recipe}, []
        if recipe.optim in ("adamw_torch", "adamw_torch_fused"):
            tries["optim=adamw_8bit"] = recipe.replace(optim="adamw_8bit")
        for words, changed in tries.items():
            batch = predictor.largest_batch(changed, free)
            if batch and batch < recipe.per_device_train_batch_size:
                times = math.ceil(recipe.per_device_train_batch_size / batch)
                changed = changed.replace(per_device_train_batch_size=batch)
                words += (
                    f"{' and ' * bool(words)}per_device_train_batch_size={batch} (accumulate {times} times as many for as large an update)"
                )
            if batch:
                ways.append(f"{words}: {shown_bytes(predictor.predict(changed).total)}")
        larger = [machine for machine in self._machines.values() if machine.memory_free >= self.memory.total]
        if larger:
            machine = min(larger, key=lambda machine: machine.memory_free)
            ways.append(f"a larger device: {machine.name} has {shown_bytes(machine.memory_free)}")
        return ways or ["a smaller model, LoRA or several devices: no batch is small enough, and no device here large enough"]


class Prediction(Interactive):
    """A guess that is committed before the answer shows, then scored and kept. Nothing can be changed afterwards.

    `name`, `text` and `question` make a predictions.Question: a number, an order, or a curve with a slider for each step.
    A guess committed once comes back committed, and its first answer counts. Attribute to set: `guess`, a number or a
    tuple; to read: `committed`, `truth`, `score`. `log` is for a number or curve over powers of ten; `unit` says what is
    guessed, and `along` what the steps are.
    """

    settable = ("guess",)
    committed, truth, score = False, None, None

    def __init__(self, name: str, text: str, log: bool = False, unit: str = "", along: str = "", **question):
        asked = self._question = Question(name, text, **question)
        self._pending, self._unkept = None, ""
        self._button = ipywidgets.Button(description="Commit")
        self._button.on_click(lambda button: self.commit())
        if asked.order:
            self._figure = OrderPicture(asked.order)
            places = {f"place_{place}": first for place, first in enumerate(asked.order, 1)}
            controls = {key: ipywidgets.Dropdown(options=asked.order, value=first, description=key) for key, first in places.items()}
            for control in controls.values():
                control.observe(self._swap, "value")
        else:
            if log and asked.low <= 0:
                raise BadInput(f"prediction {name}: log expects low above 0, got {asked.low}")
            self._figure = GuessPicture(asked.low, asked.high, asked.steps or None, log, unit, along)
            sliders = {f"at_{step:g}": f"{along or 'at'} {step:g}" for step in asked.steps} or {"number": "your guess"}
            controls = {key: _guess_slider(words, asked.low, asked.high, log) for key, words in sliders.items()}
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
    control = slider(description, [float(low), *(float(f"{10**x:.3g}" if log else f"{x:.6g}") for x in between), float(high)])
    control.index = len(control.options) // 2
    return control
