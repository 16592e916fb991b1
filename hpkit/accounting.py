"""Everything countable of a run, from examples and a recipe: updates, tokens, logs, checkpoints.

Pure Python, so that it answers at once. The arithmetic is that of transformers 5.23
(`set_initial_training_values`, `DefaultFlowCallback`); a test draws recipes and compares with real
Trainers.
"""

import math
from dataclasses import dataclass

from hpkit.errors import BadInput
from hpkit.formatting import shown_rate
from hpkit.recipe import Recipe
from hpkit.schedules import WITHOUT_WARMUP, rates_by_formula

#: More are taken for a slip of the pen. Pre-training runs have a million.
MOST_UPDATES = 5_000_000


@dataclass(frozen=True)
class Accounting:
    """What a run will do.

    Counts are of updates (optimizer steps) unless they say otherwise; updates count from 1.
    `learning_rates[k]` is the rate after `k` updates: update `k + 1` uses and logs it. It has
    `updates + 1` entries, the last one being where the schedule stands at the end, or none for a
    schedule that depends on measured losses. `last_accumulation` is how many micro-batches an
    epoch's last update sums up; `checkpoints` are those of `save_at` that stay on disk.
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
        """The highest rate of the run; None where the schedule depends on measured losses."""
        return max(self.learning_rates, default=None)

    @property
    def peak_at(self) -> int | None:
        """After how many updates the peak is first reached; 0 is from the start."""
        if not self.learning_rates:
            return None
        return self.learning_rates.index(self.peak_learning_rate)

    def lines(self) -> list[str]:
        """The accounting in words, one fact a line."""
        size = ""
        if self.tokens_per_example:
            size = f" of {self.tokens_per_example} tokens"
        tokens = ""
        if self.tokens:
            tokens = f", {self.tokens:,} tokens"
        return [
            f"{self.examples:,} examples{size}, {self.effective_batch} to an update: "
            f"{self.updates_per_epoch:,} updates an epoch, {self.updates:,} in all{tokens}",
            self._warmup_in_words(),
            f"training loss at {_updates_in_words(self.log_at)}; "
            f"evaluation at {_updates_in_words(self.evaluate_at)}; "
            f"checkpoint at {_updates_in_words(self.save_at)}",
        ]

    def _warmup_in_words(self) -> str:
        if self.warmup_updates == 0:
            warmup = "no warmup"
        elif self.warmup_updates >= self.updates:
            warmup = f"warmup ({self.warmup_updates:,} updates) outlasts the run ({self.updates:,})"
        else:
            warmup = f"warmup ends at update {self.warmup_updates} of {self.updates}"
        if not self.learning_rates:
            return warmup
        peak = f"{shown_rate(self.peak_learning_rate)}, after update {self.peak_at}"
        return f"{warmup}; the learning rate's peak is {peak}"


def account(
    recipe: Recipe, examples: int, tokens_per_example: int = 0, processes: int = 1
) -> Accounting:
    """Count what `recipe` does on `examples` training examples, shared among `processes` devices.

    Raises BadInput where the schedule lacks a value in `lr_scheduler_kwargs`, or cannot use one,
    and for more than MOST_UPDATES.
    """
    batch = recipe.per_device_train_batch_size
    accumulation = recipe.gradient_accumulation_steps
    # Batches are dealt out to the processes, and the last round is filled up for all of them.
    micro_batches = math.ceil(math.ceil(examples / batch) / processes)
    updates_per_epoch = max(math.ceil(micro_batches / accumulation), 1)
    last_accumulation = 0
    if micro_batches:
        last_accumulation = (micro_batches - 1) % accumulation + 1
    updates = _count_updates(recipe, updates_per_epoch)
    effective_batch = batch * accumulation * processes
    epochs, rest = divmod(updates, updates_per_epoch)
    # The last update of an epoch takes what is left over, so whole epochs are counted by examples.
    seen = epochs * examples + min(rest * effective_batch, examples)
    warmup = _whole_updates(recipe.warmup_steps, updates)
    cadence = _Cadence(updates, updates_per_epoch)
    save_at = cadence.at(recipe.save_strategy, recipe.save_steps)
    return Accounting(
        examples=examples,
        tokens_per_example=tokens_per_example,
        processes=processes,
        effective_batch=effective_batch,
        micro_batches_per_epoch=micro_batches,
        last_accumulation=last_accumulation,
        updates_per_epoch=updates_per_epoch,
        updates=updates,
        tokens=seen * tokens_per_example,
        warmup_updates=0 if recipe.lr_scheduler_type in WITHOUT_WARMUP else warmup,
        learning_rates=rates_by_formula(recipe, updates, warmup),
        # Of the three, the Trainer leaves out logging alone when the run ends between two times.
        log_at=cadence.at(recipe.logging_strategy, recipe.logging_steps, at_the_end=False),
        evaluate_at=cadence.at(recipe.eval_strategy, recipe.eval_steps or recipe.logging_steps),
        save_at=save_at,
        checkpoints=_checkpoints_left(save_at, recipe.save_total_limit),
    )


def _count_updates(recipe: Recipe, updates_per_epoch: int) -> int:
    if recipe.max_steps > 0:
        updates = recipe.max_steps
    else:
        updates = math.ceil(recipe.num_train_epochs * updates_per_epoch)
    if updates > MOST_UPDATES:
        raise BadInput(
            f"{updates:,} updates: expected at most {MOST_UPDATES:,}; "
            "check examples, num_train_epochs and max_steps"
        )
    return updates


def _whole_updates(steps: float, updates: int) -> int:
    """How many updates `steps` are: below 1 it is a share of the run, rounded up."""
    if steps < 1:
        return math.ceil(updates * steps)
    return int(steps)


def _checkpoints_left(save_at: tuple[int, ...], limit: int | None) -> tuple[int, ...]:
    """The checkpoints that stay when older ones than the last `limit` go."""
    if limit is None:
        return save_at
    return save_at[-limit:]


@dataclass(frozen=True)
class _Cadence:
    """The updates after which something happens, in a run of so many updates."""

    updates: int
    updates_per_epoch: int

    def at(self, strategy: str, steps: float, at_the_end: bool = True) -> tuple[int, ...]:
        """The updates after which it happens, every `steps` of them or once an epoch.

        `at_the_end`: also where the run ends between two regular times.
        """
        if strategy == "no":
            return ()
        if strategy == "epoch":
            # The end of the run counts as the end of an epoch, whole or not.
            whole_epochs = range(self.updates_per_epoch, self.updates, self.updates_per_epoch)
            return (*whole_epochs, self.updates)
        every = _whole_updates(steps, self.updates)
        regular = tuple(range(every, self.updates + 1, every))
        falls_on_the_end = bool(regular) and regular[-1] == self.updates
        if at_the_end and not falls_on_the_end:
            return (*regular, self.updates)
        return regular


def _updates_in_words(steps: tuple[int, ...]) -> str:
    if not steps:
        return "no update"
    if len(steps) <= 4:
        return "update " + ", ".join(map(str, steps))
    return f"update {steps[0]}, {steps[1]}, … {steps[-1]} ({len(steps)} times)"
