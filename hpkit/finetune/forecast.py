"""`dry_run(...) -> Forecast`: what a run would do and take, without the run.

Updates, tokens and bytes are worked out; only the time is measured, where the model has room.
"""

import dataclasses
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hpkit.capability import probe
from hpkit.errors import BadInput
from hpkit.finetune import processes
from hpkit.finetune.checkpoints import Disk, Request, check_folder, check_room, disk_of
from hpkit.finetune.loading import load
from hpkit.finetune.throughput import AUTO, Throughput
from hpkit.finetune.timing import Timing, evaluations_of, time_parts
from hpkit.finetune.training import Job
from hpkit.formatting import plural, shown_bytes, shown_seconds
from hpkit.measured_memory import peak_memory_bytes, resident_memory_bytes
from hpkit.memory import (
    Memory,
    activation_bytes,
    all_parameters,
    multiplies_in_16_bits,
    optimizer_states,
    parameters_of,
    trained_dtype,
    without_activations,
)
from hpkit.model import quiet_transformers
from hpkit.recipe import STARTER, Recipe


@dataclass(frozen=True)
class Forecast:
    """What a run would do and take: memory and disk in bytes, time in seconds.

    `updates`, `tokens` and `optimizer_state_dtypes` (dtype -> bytes) are those that `run.json` will
    hold; the last is None for an optimizer whose states nobody predicts. `evaluations` counts those
    before and after the run too. `memory`: what the training holds; `peak_memory_bytes`: on a CPU
    with all that the process holds besides. `free_bytes`: what is still to be had, None where
    nobody can tell. `activations_known`: False for a model whose activations cannot be predicted,
    and are not in `memory`. `timing`, and the peak `measured_memory_bytes` that came with it, are
    None where the run lacks memory.
    """

    updates: int
    tokens: int
    evaluations: int
    optimizer_state_dtypes: dict[str, int] | None
    memory: Memory
    activations_known: bool
    peak_memory_bytes: int
    free_bytes: int | None
    disk: Disk
    timing: Timing | None = None
    measured_memory_bytes: int | None = None

    @property
    def optimizer_state_bytes(self) -> int | None:
        """The optimizer's states together; None where nobody predicts them."""
        if self.optimizer_state_dtypes is None:
            return None
        return sum(self.optimizer_state_dtypes.values())

    def lines(self) -> list[str]:
        """The forecast in words, one subject a line."""
        return [
            f"{plural(self.updates, 'update')} on {plural(self.tokens, 'token')}",
            f"optimizer state: {self._states_in_words()}",
            f"memory: {self._memory_in_words()}",
            f"disk: {self._disk_in_words()}",
            *self._time_in_words(),
        ]

    def to_json(self) -> str:
        """The forecast as JSON text, named tuples as objects."""
        values = dataclasses.asdict(self)
        values["optimizer_state_bytes"] = self.optimizer_state_bytes
        values["memory"] = self.memory._asdict()
        values["disk"] = self.disk._asdict() | {"left": self.disk.left, "needed": self.disk.needed}
        if self.timing is not None:
            values["timing"] = self.timing._asdict() | {"total": self.timing.total}
        return json.dumps(values, indent=1) + "\n"

    def _states_in_words(self) -> str:
        if self.optimizer_state_dtypes is None:
            return "not predicted for this optimizer"
        # To the byte, in the words in which the run will tell what it holds.
        words = f"{self.optimizer_state_bytes / 1e6:.3f} MB"
        for dtype, size in self.optimizer_state_dtypes.items():
            words += f", {size / 1e6:.3f} of it in {dtype}"
        return words

    def _memory_in_words(self) -> str:
        without = "temporary buffers and freed blocks that a CPU's process keeps"
        if not self.activations_known:
            without = f"activations, which this model does not let predict, {without}"
        predicted = (
            f"{shown_bytes(self.peak_memory_bytes)} predicted from the shapes, without {without}"
        )
        if self.measured_memory_bytes is None:
            return predicted
        return f"{shown_bytes(self.measured_memory_bytes)} at its peak while timed; {predicted}"

    def _disk_in_words(self) -> str:
        disk = self.disk
        kept = plural(disk.checkpoints, "checkpoint")
        return (
            f"{shown_bytes(disk.left)} in the end, {kept} of {shown_bytes(disk.checkpoint)} and "
            f"the model of {shown_bytes(disk.model)}; {shown_bytes(disk.needed)} on the way"
        )

    def _time_in_words(self) -> list[str]:
        timing = self.timing
        if timing is None:
            return [
                "time: not measured, for the training would need "
                f"{shown_bytes(self.memory.total)} and {shown_bytes(self.free_bytes)} are free"
            ]
        return [
            f"time: about {shown_seconds(timing.total)} once all is loaded: "
            f"training {shown_seconds(timing.training)}, "
            f"{plural(self.evaluations, 'evaluation')} {shown_seconds(timing.evaluations)}, "
            f"sampling at most {shown_seconds(timing.sampling)}, for samples may end early, "
            f"saving {shown_seconds(timing.saving)}",
            f"  scaled up from {timing.measured}",
        ]


def dry_run(
    recipe: Recipe = STARTER,
    model: str = "starter",
    corpus: str = "airdsAirs",
    out: str | Path = "runs/finetune",
    log=print,
    throughput: Throughput = AUTO,
    eval_corpus: str | None = None,
    text_column: str | None = None,
    merge: bool = False,
) -> Forecast:
    """What `finetune` with the same arguments would do and take. Nothing is kept or written.

    A few updates are timed on the model in memory, so it takes seconds; none where the run would
    not fit. `log` takes each line that the run would say before its first update; None silences
    them. Raises BadInput for what the run would refuse, and under torchrun.
    """
    if processes.count() > 1:
        raise BadInput(
            f"dry_run: expected one process, and torchrun started {processes.count()}; start it "
            "without torchrun, or count updates with `hpkit check --processes`"
        )
    out = Path(out)
    if eval_corpus is not None:
        eval_corpus = str(eval_corpus)
    request = Request(
        recipe,
        model,
        str(corpus),
        throughput=throughput,
        eval_corpus=eval_corpus,
        text_column=text_column,
        merge=merge,
    )
    check_folder(out, request, resume=False)
    # The Trainer makes its folder at once: not the run's, and gone in the end.
    with quiet_transformers(), tempfile.TemporaryDirectory() as nowhere:
        job = load(request, Path(nowhere), log or (lambda line: None), progress=log is not None)
        disk = disk_of(job, merge)
        check_room(out, disk)
        return _forecast(job, disk)


def _forecast(job: Job, disk: Disk) -> Forecast:
    memory = _memory_of(job)
    walked = _activations_of(job)
    if walked is not None:
        memory = memory._replace(activations=walked)
    still_needed = memory.total
    peak = memory.total
    if job.capability.device != "cuda":
        # The weights are in the process already, beside Python and its libraries.
        still_needed -= memory.weights
        loaded = resident_memory_bytes()
        peak = max(loaded + still_needed, peak_memory_bytes(job.capability.device))
    free = probe(try_optimizer=False).memory_free
    forecast = Forecast(
        updates=job.accounting.updates,
        tokens=job.accounting.tokens,
        evaluations=evaluations_of(job),
        optimizer_state_dtypes=_state_dtypes_of(job),
        memory=memory,
        activations_known=walked is not None,
        peak_memory_bytes=peak,
        free_bytes=free,
        disk=disk,
    )
    if free is not None and still_needed > free:
        return forecast
    timing = time_parts(job)
    measured = peak_memory_bytes(job.capability.device)
    return dataclasses.replace(forecast, timing=timing, measured_memory_bytes=measured)


def _memory_of(job: Job) -> Memory:
    """What the training holds, without activations."""
    recipe = _recipe_used(job)
    parameters = all_parameters(job.model, recipe)
    try:
        return without_activations(parameters, recipe)
    except BadInput:  # of an optimizer whose states nobody predicts, most hold no more than AdamW
        return without_activations(parameters, recipe.replace(optim="adamw_torch"))


def _activations_of(job: Job) -> int | None:
    """Bytes of activations, 0 where they are computed twice; None where nobody can predict them."""
    # Before transformers 5.20 it had the name that torch gives it.
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        if job.settings.get(name):
            return 0
    recipe = _recipe_used(job)
    try:
        return activation_bytes(
            job.model,
            recipe.per_device_train_batch_size,
            job.accounting.tokens_per_example,
            bf16=multiplies_in_16_bits(recipe),
            dtype=recipe.dtype,
            adapted_by=recipe,
        )
    except BadInput:
        return None


def _state_dtypes_of(job: Job) -> dict[str, int] | None:
    recipe = _recipe_used(job)
    try:
        parameters = parameters_of(job.model, recipe)
        states = optimizer_states(parameters, recipe.optim, trained_dtype(recipe))
    except BadInput:
        return None
    sizes = Counter()
    for state in states:
        sizes[state.dtype] += state.bytes
    return dict(sizes)


def _recipe_used(job: Job) -> Recipe:
    """The recipe with what this machine makes of it."""
    used = job.capability
    recipe = job.recipe.replace(optim=used.optim, bf16=used.bf16, fp16=used.fp16)
    if used.compute_dtype:
        recipe = recipe.replace(bnb_4bit_compute_dtype=used.compute_dtype)
    return recipe
