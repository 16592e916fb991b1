"""From examples and a recipe to everything countable of a run: updates, tokens, learning rates, logs, checkpoints.

Pure Python, so that it answers at once. The arithmetic is that of transformers 5.23 (`set_initial_training_values`,
`DefaultFlowCallback`, `transformers.optimization`); a test draws recipes and compares with real Trainers.
"""

import math
from dataclasses import dataclass

from hpkit.errors import BadInput
from hpkit.formatting import shown_rate
from hpkit.recipe import Recipe

#: Schedules whose rate follows from what the run measures, so that nobody can tell it beforehand.
MEASURED = ("reduce_lr_on_plateau", "greedy")
#: Schedules without a warmup of their own: `warmup_steps` changes nothing.
WITHOUT_WARMUP = ("constant", *MEASURED)
#: More are taken for a slip of the pen. Pre-training runs have a million.
MOST_UPDATES = 5_000_000


@dataclass(frozen=True)
class Accounting:
    """What a run will do. Counts are of updates (optimizer steps) unless they say otherwise; updates count from 1.

    `learning_rates[k]` is the rate after `k` updates: update `k + 1` uses and logs it. It has `updates + 1` entries, the
    last one being where the schedule stands at the end, or none for a schedule that depends on measured losses.
    `last_accumulation` is how many micro-batches an epoch's last update sums up; `checkpoints` are those of `save_at`
    that stay on disk.
    """

    examples: int
    tokens_per_example: int
    processes: int
    effective_batch: int
    micro_batches_per_epoch: int
    last_accumulation: int
    updates_per_epoch: int
    updates: int
    tokens: int
    warmup_updates: int
    learning_rates: tuple[float, ...]
    log_at: tuple[int, ...]
    evaluate_at: tuple[int, ...]
    save_at: tuple[int, ...]
    checkpoints: tuple[int, ...]

    @property
    def peak_learning_rate(self) -> float | None:
        """The highest rate that the run reaches; None where the schedule depends on measured losses."""
        return max(self.learning_rates, default=None)

    @property
    def peak_at(self) -> int | None:
        """After how many updates the peak is first reached; 0 is from the start."""
        return self.learning_rates.index(self.peak_learning_rate) if self.learning_rates else None

    def lines(self) -> list[str]:
        """The accounting in words, one fact a line."""
        warmup = f"warmup ends at update {self.warmup_updates} of {self.updates}"
        if self.warmup_updates == 0:
            warmup = "no warmup"
        elif self.warmup_updates >= self.updates:
            warmup = f"warmup ({self.warmup_updates:,} updates) outlasts the run ({self.updates:,})"
        if self.learning_rates:
            warmup += f"; the learning rate's peak is {shown_rate(self.peak_learning_rate)}, after update {self.peak_at}"
        size = f" of {self.tokens_per_example} tokens" if self.tokens_per_example else ""
        tokens = f", {self.tokens:,} tokens" if self.tokens else ""
        return [
            f"{self.examples:,} examples{size}, {self.effective_batch} to an update: "
            f"{self.updates_per_epoch:,} updates an epoch, {self.updates:,} in all{tokens}",
            warmup,
            f"training loss at {_words(self.log_at)}; evaluation at {_words(self.evaluate_at)}; checkpoint at {_words(self.save_at)}",
        ]


def account(
    recipe: Recipe, examples: int, tokens_per_example: int = 0, processes: int = 1
) -> Accounting:
    """Count what `recipe` does on `examples` training examples, shared among `processes` devices.

    Raises BadInput where the schedule lacks a value in `lr_scheduler_kwargs`, or cannot use one, and for more than
    MOST_UPDATES.
    """
    micro_batches = math.ceil(math.ceil(examples / recipe.per_device_train_batch_size) / processes)
    accumulation = recipe.gradient_accumulation_steps
    updates_per_epoch = max(math.ceil(micro_batches / accumulation), 1)
    updates = (
        recipe.max_steps
        if recipe.max_steps > 0
        else math.ceil(recipe.num_train_epochs * updates_per_epoch)
    )
    if updates > MOST_UPDATES:
        raise BadInput(
            f"{updates:,} updates: expected at most {MOST_UPDATES:,}; check examples, num_train_epochs and max_steps"
        )
    effective_batch = recipe.per_device_train_batch_size * accumulation * processes
    epochs, rest = divmod(updates, updates_per_epoch)
    # The last update of an epoch takes what is left over, so whole epochs are counted by their examples.
    seen = epochs * examples + min(rest * effective_batch, examples)
    ratio = recipe.warmup_steps
    warmup = math.ceil(updates * ratio) if ratio < 1 else int(ratio)
    end_of_epoch = [*range(updates_per_epoch, updates, updates_per_epoch), updates]
    save_at = _at(recipe.save_strategy, recipe.save_steps, updates, end_of_epoch)
    return Accounting(
        examples=examples,
        tokens_per_example=tokens_per_example,
        processes=processes,
        effective_batch=effective_batch,
        micro_batches_per_epoch=micro_batches,
        last_accumulation=(micro_batches - 1) % accumulation + 1 if micro_batches else 0,
        updates_per_epoch=updates_per_epoch,
        updates=updates,
        tokens=seen * tokens_per_example,
        warmup_updates=0 if recipe.lr_scheduler_type in WITHOUT_WARMUP else warmup,
        learning_rates=_learning_rates(recipe, updates, warmup),
        log_at=_at(
            recipe.logging_strategy, recipe.logging_steps, updates, end_of_epoch, at_the_end=False
        ),
        evaluate_at=_at(
            recipe.eval_strategy, recipe.eval_steps or recipe.logging_steps, updates, end_of_epoch
        ),
        save_at=save_at,
        checkpoints=save_at[-recipe.save_total_limit :] if recipe.save_total_limit else save_at,
    )


def _at(
    strategy: str, interval: float, updates: int, end_of_epoch: list[int], at_the_end: bool = True
) -> tuple[int, ...]:
    if strategy == "no":
        return ()
    if strategy == "epoch":
        return tuple(end_of_epoch)
    every = math.ceil(updates * interval) if interval < 1 else int(interval)
    regular = tuple(range(every, updates + 1, every))
    return regular if not at_the_end or regular[-1:] == (updates,) else (*regular, updates)


def _words(steps: tuple[int, ...]) -> str:
    if not steps:
        return "no update"
    if len(steps) <= 4:
        return "update " + ", ".join(map(str, steps))
    return f"update {steps[0]}, {steps[1]}, … {steps[-1]} ({len(steps)} times)"


# The schedules of transformers, each as the share of `learning_rate` after `step` updates.


def _learning_rates(recipe: Recipe, updates: int, warmup: int) -> tuple[float, ...]:
    try:
        return _rates(recipe, updates, warmup)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        name, kwargs = recipe.lr_scheduler_type, recipe.lr_scheduler_kwargs
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise BadInput(f"lr_scheduler_kwargs: {name} cannot run with {kwargs}: {why}") from None


def _rates(recipe: Recipe, updates: int, warmup: int) -> tuple[float, ...]:
    name, kwargs, peak = (
        recipe.lr_scheduler_type,
        dict(recipe.lr_scheduler_kwargs or {}),
        recipe.learning_rate,
    )
    if name in MEASURED:
        return ()
    if name == "constant":
        return (peak,) * (updates + 1)
    if "min_lr" in kwargs:
        kwargs["min_lr_rate"] = kwargs.pop("min_lr") / peak
    kwargs["peak"] = peak
    after = _AFTER_WARMUP[name]
    start = kwargs.get("warmup_lr_rate")
    late = 0
    if name == "cosine_warmup_with_min_lr":  # this one counts each update as done when it begins
        late = 1
        start = 1 / max(warmup, 1) if start is None else start
    rates = []
    for step in range(updates + 1):
        if step >= warmup:
            share = after(step - warmup + late, updates - warmup, warmup, kwargs)
        elif late:
            share = start + (1 - start) * step / max(warmup - 1, 1)
        elif name == "warmup_stable_decay":
            lowest = kwargs.get("min_lr_ratio", 0)
            share = (
                _fall(kwargs.get("warmup_type", "linear"), 1 - step / warmup, 0.5) * (1 - lowest)
                + lowest
            )
        else:
            share = step / warmup
        rates.append(peak * max(share, 0.0))
    return tuple(rates)


def _linear(step, decay, warmup, kwargs):
    return (decay - step) / max(decay, 1)


def _cosine(step, decay, warmup, kwargs):
    lowest = kwargs.get("min_lr_rate", 0)
    return (
        _fall("cosine", step / max(decay, 1), kwargs.get("num_cycles", 0.5)) * (1 - lowest) + lowest
    )


def _restarts(step, decay, warmup, kwargs):
    progress = step / max(decay, 1)
    return (
        0.0
        if progress >= 1
        else (1 + math.cos(math.pi * (kwargs.get("num_cycles", 1) * progress % 1))) / 2
    )


def _polynomial(step, decay, warmup, kwargs):
    lowest = kwargs.get("lr_end", 1e-7) / kwargs["peak"]
    return (
        lowest
        if step > decay
        else (1 - lowest) * (1 - step / max(decay, 1)) ** kwargs.get("power", 1.0) + lowest
    )


def _inverse_sqrt(step, decay, warmup, kwargs):
    timescale = kwargs.get("timescale") or warmup or 10_000
    return math.sqrt(timescale / (step + timescale))


def _stable_decay(step, decay, warmup, kwargs):
    lowest = kwargs.get("min_lr_ratio", 0)
    falling = kwargs["num_decay_steps"]
    stable = kwargs.get("num_stable_steps")
    step -= decay - falling if stable is None else stable
    if step < 0:
        return 1.0
    if step >= falling:
        return lowest
    return (
        _fall(
            kwargs.get("decay_type", "linear"),
            step / max(falling, 1),
            kwargs.get("num_cycles", 0.5),
        )
        * (1 - lowest)
        + lowest
    )


def _fall(kind: str, progress: float, cycles: float) -> float:
    """From 1 at progress 0 to 0 at progress 1, in one of three shapes."""
    if kind == "cosine":
        return (1 + math.cos(math.pi * cycles * 2 * progress)) / 2
    return 1 - (math.sqrt(progress) if kind == "1-sqrt" else progress)


_AFTER_WARMUP = {
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _restarts,
    "polynomial": _polynomial,
    "constant_with_warmup": lambda step, decay, warmup, kwargs: 1.0,
    "inverse_sqrt": _inverse_sqrt,
    "cosine_with_min_lr": _cosine,
    "cosine_warmup_with_min_lr": _cosine,
    "warmup_stable_decay": _stable_decay,
}
