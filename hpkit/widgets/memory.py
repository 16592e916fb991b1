""""""

import math
from typing import ClassVar

import ipywidgets

from hpkit.capability import MACHINES, Machine, find_machine
from hpkit.errors import BadInput
from hpkit.figures.base import BLUE, GREEN, ORANGE, SKY, Picture, blank, key, rendered, say
from hpkit.formatting import shown_bytes
from hpkit.memory import Memory, Predictor
from hpkit.model import read_config
from hpkit.recipe import NOTES, Recipe
from hpkit.widgets.base import Interactive, doublings, paragraphs, slider


class MemoryPicture:
    """Where the bytes of a fine-tune go, end to end, above the memory of a device."""

    height = 2.3
    parts = (
        ("weights", BLUE, ""),
        ("gradients", ORANGE, "//"),
        ("optimizer states", GREEN, ".."),
        ("activations", SKY, "xx"),
    )

    def __init__(self):
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        self.figure = blank(self.height, layout=None)
        self.axes = self.figure.add_axes((0.135, 0.14, 0.84, 0.62))
        self.bars = [
            self.axes.barh(
                1, 1, height=0.7, facecolor=colour, edgecolor="white", hatch=hatch, linewidth=1
            )[0]
            for _, colour, hatch in self.parts
        ]
        self.device = self.axes.barh(
            0, 1, height=0.7, facecolor="white", edgecolor="black", linewidth=1.5
        )[0]
        self.limit = self.axes.axvline(1, color="black", linestyle="--", linewidth=1.2)
        self.name = self.axes.text(0, 0, "", va="center")
        self.axes.set_ylim(-0.5, 1.5)
        self.axes.xaxis.set_major_locator(MaxNLocator(6))
        self.axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: shown_bytes(value) if value else "0")
        )
        self.key = key(self.figure, self.bars)

    def draw(self, memory: Memory, device: str, free: int) -> Picture:
        """`device` is its name and `free` its memory, all in bytes."""
        left, most = 0, 1.04 * max(memory.total, free)
        for bar, size in zip(self.bars, memory):
            bar.set(x=left, width=size)
            left += size
        self.device.set_width(free)
        self.limit.set_xdata([free, free])
        self.name.set_x(0.015 * most)
        self.name.set_text(device)
        self.axes.set_yticks(
            [1, 0], [f"needed\n{shown_bytes(memory.total)}", f"device\n{shown_bytes(free)}"]
        )
        self.axes.set_xlim(0, most)
        texts = [f"{name}: {shown_bytes(size)}" for (name, _, _), size in zip(self.parts, memory)]
        say(self.key, texts)
        needed = f"needed: {shown_bytes(memory.total)} ({', '.join(texts)})"
        return rendered(
            self.figure, f"Memory of a full fine-tune, {needed}; {device} has {shown_bytes(free)}."
        )


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
        self._machines = {
            name: machine for name, machine in MACHINES.items() if machine.memory_free
        }
        if isinstance(device, Machine) or device not in self._machines:
            machine = find_machine(device) if isinstance(device, str) else device
            if not machine.memory_free:
                known = ", ".join(["here", *self._machines])
                raise BadInput(
                    f"device: expected one whose memory is known, such as {known}; got {machine.name}"
                )
            device = device if isinstance(device, str) else machine.name
            self._machines[device] = machine
        optimizers = ("adamw_torch_fused", "adamw_8bit", "adafactor", "sgd")
        if recipe.optim not in optimizers:
            optimizers += (recipe.optim,)
        precision = (
            "bf16 weights"
            if recipe.dtype == "bfloat16"
            else "bf16 autocast"
            if recipe.bf16 or recipe.fp16
            else "fp32"
        )
        sizes = ("starter", "135M", "0.5B", "1B", "3B", "7B", "13B", "70B")
        controls = {
            "model": ipywidgets.Dropdown(options=sizes, description="model"),
            "optim": ipywidgets.Dropdown(options=optimizers, description="optim"),
            "precision": ipywidgets.Dropdown(
                options=tuple(self.PRECISIONS), description="precision"
            ),
            "per_device_train_batch_size": slider("per_device_train_batch_size", doublings(1, 256)),
            "max_seq_length": slider("max_seq_length", doublings(16, 32_768)),
            "device": ipywidgets.Dropdown(options=tuple(self._machines), description="device"),
        }
        values = dict(model=model, optim=recipe.optim, precision=precision, device=device)
        values |= dict(
            per_device_train_batch_size=recipe.per_device_train_batch_size,
            max_seq_length=recipe.max_seq_length or 512,
        )
        super().__init__(controls, values)

    def _put(self, name: str, value) -> None:
        if (
            name == "model"
            and isinstance(value, str)
            and value not in self.controls["model"].options
        ):
            self._predictor(value)  # raises BadInput
            with self.controls["model"].hold_sync():
                self.controls["model"].options = (*self.controls["model"].options, value)
                return super()._put(name, value)
        super()._put(name, value)

    @property
    def recipe(self) -> Recipe:
        length = dict(max_seq_length=self.max_seq_length, fp16=False)
        batch = dict(per_device_train_batch_size=self.per_device_train_batch_size)
        return self._base.replace(
            optim=self.optim, **batch, **length, **self.PRECISIONS[self.precision]
        )

    def _predictor(self, model: str) -> Predictor:
        if model not in self._predictors:
            try:
                self._predictors[model] = Predictor(model)
            except BadInput:  # no size: a name
                self._predictors[model] = Predictor(read_config(model))
        return self._predictors[model]

    def _draw(self):
        recipe, machine, predictor = (
            self.recipe,
            self._machines[self.device],
            self._predictor(self.model),
        )
        self.memory = memory = predictor.predict(recipe)
        free, count = (
            machine.memory_free,
            sum(parameter.elements for parameter in predictor.parameters),
        )
        fixed = f"{(memory.total - memory.activations) / count:.2f} bytes each"
        lines = [
            f"{count:,} parameters: weights, gradients and optimizer states take {fixed}; activations come on top"
        ]
        spare, ways = free - memory.total, []
        if spare < 0:
            lines.append(
                f"Does not fit {machine.name}: {shown_bytes(memory.total)} are {shown_bytes(-spare)} too much. To make it fit:"
            )
            ways = self._ways(predictor, recipe, free)
        else:
            fits = "Fits" if 0.15 * memory.total <= spare else "Barely fits"
            lines.append(
                f"{fits} {machine.name}: {shown_bytes(memory.total)} leave {shown_bytes(spare)} of {shown_bytes(free)}"
            )
            lines.append(
                "Temporary buffers are not counted: 10 to 15 % more where hpkit measured them"
            )
        if self.precision == "bf16 weights":
            lines.append(
                "bf16 weights have no fp32 copies: updates too small for their 8 significant bits are lost"
            )
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
                words += f"{' and ' * bool(words)}per_device_train_batch_size={batch} (accumulate {times} times as many for as large an update)"
            if batch:
                ways.append(f"{words}: {shown_bytes(predictor.predict(changed).total)}")
        larger = [
            machine
            for machine in self._machines.values()
            if machine.memory_free >= self.memory.total
        ]
        if larger:
            machine = min(larger, key=lambda machine: machine.memory_free)
            ways.append(f"a larger device: {machine.name} has {shown_bytes(machine.memory_free)}")
        return ways or [
            "a smaller model, LoRA or several devices: no batch is small enough, and no device here large enough"
        ]
