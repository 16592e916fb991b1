"""Where the bytes of a fine-tune go: MemoryPicture draws them, MemoryExplorer moves them."""

import math
from typing import ClassVar

import ipywidgets

from hpkit.capability import MACHINES, Machine, find_machine
from hpkit.errors import BadInput
from hpkit.figures.base import BLUE, GREEN, ORANGE, SKY, Picture, blank, key, rendered, say
from hpkit.formatting import shown_bytes
from hpkit.memory import Memory
from hpkit.model import read_config
from hpkit.predictor import Predictor
from hpkit.recipe import LORA, NOTES, Recipe
from hpkit.shapes import config_of
from hpkit.widgets.base import Interactive, doublings, paragraphs, slider

_MODELS = ("starter", "135M", "0.5B", "1B", "3B", "7B", "13B", "70B")
_OPTIMIZERS = ("adamw_torch_fused", "adamw_8bit", "adafactor", "sgd")


class MemoryPicture:
    """Where the bytes of a fine-tune go, end to end, above the memory of a device."""

    height = 2.3
    #: Name, colour and hatch of each part, in the order of Memory's fields.
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
        self.bars = []
        for _, colour, hatch in self.parts:
            look = dict(facecolor=colour, edgecolor="white", hatch=hatch, linewidth=1)
            self.bars.append(self.axes.barh(1, 1, height=0.7, **look)[0])
        look = dict(facecolor="white", edgecolor="black", linewidth=1.5)
        self.device = self.axes.barh(0, 1, height=0.7, **look)[0]
        self.limit = self.axes.axvline(1, color="black", linestyle="--", linewidth=1.2)
        self.name = self.axes.text(0, 0, "", va="center")
        self.axes.set_ylim(-0.5, 1.5)
        self.axes.xaxis.set_major_locator(MaxNLocator(6))
        self.axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: shown_bytes(value) if value else "0")
        )
        self.key = key(self.figure, self.bars)

    def draw(self, memory: Memory, device: str, free: int, what: str) -> Picture:
        """`device`: its name, `free`: its memory, all in bytes; `what`: the training in words."""
        most = 1.04 * max(memory.total, free)
        left = 0
        texts = []
        for bar, (name, _, _), size in zip(self.bars, self.parts, memory):
            bar.set(x=left, width=size)
            left += size
            texts.append(f"{name}: {shown_bytes(size)}")
        self.device.set_width(free)
        self.limit.set_xdata([free, free])
        self.name.set_x(0.015 * most)
        self.name.set_text(device)
        self.axes.set_yticks(
            [1, 0], [f"needed\n{shown_bytes(memory.total)}", f"device\n{shown_bytes(free)}"]
        )
        self.axes.set_xlim(0, most)
        say(self.key, texts)
        needed = f"needed: {shown_bytes(memory.total)} ({', '.join(texts)})"
        return rendered(
            self.figure, f"Memory of {what}, {needed}; {device} has {shown_bytes(free)}."
        )


class MemoryExplorer(Interactive):
    """Where the bytes of a fine-tune go, and whether a device holds them.

    Attributes to set: `model` (a size such as "7B", `starter`, a folder or a hub id), `trains` (one
    of TRAINS), `lora_r`, `optim`, `precision` (one of PRECISIONS), `per_device_train_batch_size`,
    `max_seq_length`, `device` (a name of capability.MACHINES). `memory` and `recipe` follow from
    them. Raises BadInput for a device whose memory is not known.
    """

    #: What is trained: in words, whether it is an adapter, and whether beside 4-bit weights.
    TRAINS: ClassVar = {
        "all weights": ("a full fine-tune", False, False),
        "LoRA": ("a fine-tune with LoRA", True, False),
        "QLoRA": ("a fine-tune with QLoRA", True, True),
    }

    PRECISIONS: ClassVar = {
        "fp32": dict(bf16=False, dtype="float32"),
        "bf16 autocast": dict(bf16=True, dtype="float32"),
        "bf16 weights": dict(bf16=True, dtype="bfloat16"),
    }
    memory = None

    def __init__(self, model: str = "1B", recipe: Recipe = NOTES, device: Machine | str = "t4"):
        self._base = recipe
        self._figure = MemoryPicture()
        self._predictors = {}
        self._machines = {
            name: machine for name, machine in MACHINES.items() if machine.memory_free
        }
        device_name = self._known_machine(device)
        optimizers = _OPTIMIZERS
        if recipe.optim not in optimizers:
            optimizers += (recipe.optim,)
        controls = {
            "model": ipywidgets.Dropdown(options=_MODELS, description="model"),
            "trains": ipywidgets.Dropdown(options=tuple(self.TRAINS), description="trains"),
            "lora_r": slider("lora_r", doublings(1, 256)),
            "optim": ipywidgets.Dropdown(options=optimizers, description="optim"),
            "precision": ipywidgets.Dropdown(
                options=tuple(self.PRECISIONS), description="precision"
            ),
            "per_device_train_batch_size": slider("per_device_train_batch_size", doublings(1, 256)),
            "max_seq_length": slider("max_seq_length", doublings(16, 32_768)),
            "device": ipywidgets.Dropdown(options=tuple(self._machines), description="device"),
        }
        # Activations need a length: where a recipe leaves it to the model, 512 stands for it.
        values = dict(
            model=model,
            trains=_trained_by(recipe),
            lora_r=recipe.lora_r or LORA.lora_r,
            optim=recipe.optim,
            precision=_precision_of(recipe),
            device=device_name,
            per_device_train_batch_size=recipe.per_device_train_batch_size,
            max_seq_length=recipe.max_seq_length or 512,
        )
        super().__init__(controls, values)

    def _known_machine(self, device: Machine | str) -> str:
        """The name of `device` among the machines on offer, which it joins. Raises BadInput."""
        if isinstance(device, Machine):
            machine = device
            name = device.name
        elif device in self._machines:
            return device
        else:
            # `here` is looked at only where it is asked for: that takes seconds.
            machine = find_machine(device)
            name = device
        if not machine.memory_free:
            known = ", ".join(["here", *self._machines])
            raise BadInput(
                f"device: expected one whose memory is known, such as {known}; got {machine.name}"
            )
        self._machines[name] = machine
        return name

    def _put(self, name: str, value) -> None:
        control = self.controls[name]
        if name == "model" and isinstance(value, str) and value not in control.options:
            self._predictor(value)  # raises BadInput
            # In one message: ipywidgets moves a list with new options to the first of them.
            with control.hold_sync():
                control.options = (*control.options, value)
                super()._put(name, value)
        else:
            super()._put(name, value)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the controls."""
        _, adapter, in_4_bits = self.TRAINS[self.trains]
        return self._base.replace(
            lora_r=self.lora_r if adapter else None,
            load_in_4bit=in_4_bits,
            optim=self.optim,
            per_device_train_batch_size=self.per_device_train_batch_size,
            max_seq_length=self.max_seq_length,
            fp16=False,  # of the precisions here none has it, and beside bf16 it is refused
            **self.PRECISIONS[self.precision],
        )

    def _predictor(self, model: str) -> Predictor:
        # Kept: each remembers its walks through the model, which take up to seconds.
        if model not in self._predictors:
            try:
                source = config_of(model)
            except BadInput:  # no size: a name
                source = read_config(model)
            self._predictors[model] = Predictor(source)
        return self._predictors[model]

    def _draw(self) -> tuple[Picture, str]:
        recipe = self.recipe
        # A rank moves nothing where all weights train.
        hidden = recipe.lora_r is None
        self.controls["lora_r"].layout.display = "none" if hidden else None
        machine = self._machines[self.device]
        predictor = self._predictor(self.model)
        self.memory = predictor.predict(recipe)
        lines = [self._parameters_in_words(predictor, recipe), *self._fit(machine)]
        ways = []
        if self.memory.total > machine.memory_free:
            ways = self._ways(predictor, recipe, machine.memory_free)
        if self.precision == "bf16 weights":
            lines.append(
                "bf16 weights have no fp32 copies: "
                "updates too small for their 8 significant bits are lost"
            )
        what, _, _ = self.TRAINS[self.trains]
        picture = self._figure.draw(self.memory, machine.name, machine.memory_free, what)
        return picture, paragraphs(lines, ways)

    def _parameters_in_words(self, predictor: Predictor, recipe: Recipe) -> str:
        count = sum(parameter.elements for parameter in predictor.all_parameters())
        fixed = f"{(self.memory.total - self.memory.activations) / count:.2f} bytes each"
        taken = f"weights, gradients and optimizer states take {fixed}; activations come on top"
        if recipe.lora_r is None:
            return f"{count:,} parameters: {taken}"
        trained = sum(p.elements for p in predictor.all_parameters(recipe) if p.trained)
        return (
            f"{count:,} parameters, frozen, and {trained:,} that are trained beside them: {taken}"
        )

    def _fit(self, machine: Machine) -> list[str]:
        """Whether the device holds the bytes, in words."""
        needed = self.memory.total
        spare = machine.memory_free - needed
        if spare < 0:
            return [
                f"Does not fit {machine.name}: {shown_bytes(needed)} are "
                f"{shown_bytes(-spare)} too much. To make it fit:"
            ]
        # 15 % is the most that the temporary buffers took.
        fits = "Fits" if 0.15 * needed <= spare else "Barely fits"
        return [
            f"{fits} {machine.name}: {shown_bytes(needed)} leave "
            f"{shown_bytes(spare)} of {shown_bytes(machine.memory_free)}",
            "Temporary buffers are not counted: 10 to 15 % more where hpkit measured them",
        ]

    def _ways(self, predictor: Predictor, recipe: Recipe, free: int) -> list[str]:
        """What would make it fit: each one predicted, none guessed."""
        tries = [([], recipe)]
        if recipe.optim in ("adamw_torch", "adamw_torch_fused") and recipe.lora_r is None:
            tries.append((["optim=adamw_8bit"], recipe.replace(optim="adamw_8bit")))
        adapter = recipe.replace(lora_r=self.lora_r)
        if recipe.lora_r is None:
            tries.append(([f"LoRA (lora_r={self.lora_r})"], adapter))
        if not recipe.load_in_4bit:
            in_4_bits = adapter.replace(load_in_4bit=True)
            tries.append(([f"QLoRA (lora_r={self.lora_r}, load_in_4bit=True)"], in_4_bits))
        ways = []
        for changes, changed in tries:
            batch = predictor.largest_batch(changed, free)
            if batch == 0:
                continue
            if batch < recipe.per_device_train_batch_size:
                # As large an update from smaller batches: it costs time and nothing else.
                times = math.ceil(recipe.per_device_train_batch_size / batch)
                changed = changed.replace(per_device_train_batch_size=batch)
                changes.append(
                    f"per_device_train_batch_size={batch} "
                    f"(accumulate {times} times as many for as large an update)"
                )
            needed = predictor.predict(changed).total
            ways.append(f"{' and '.join(changes)}: {shown_bytes(needed)}")
        larger = [
            machine
            for machine in self._machines.values()
            if machine.memory_free >= self.memory.total
        ]
        if larger:
            machine = min(larger, key=lambda machine: machine.memory_free)
            ways.append(f"a larger device: {machine.name} has {shown_bytes(machine.memory_free)}")
        if not ways:
            ways.append(
                "a smaller model or several devices: no batch is small enough, and no device here "
                "large enough"
            )
        return ways


def _trained_by(recipe: Recipe) -> str:
    """The name in TRAINS of what the recipe trains."""
    if recipe.lora_r is None:
        return "all weights"
    return "QLoRA" if recipe.load_in_4bit else "LoRA"


def _precision_of(recipe: Recipe) -> str:
    """The name in PRECISIONS that is nearest to the recipe: fp16 takes the bytes of bf16."""
    if recipe.dtype == "bfloat16":
        return "bf16 weights"
    if recipe.bf16 or recipe.fp16:
        return "bf16 autocast"
    return "fp32"
