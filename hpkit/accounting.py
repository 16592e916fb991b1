"""From examples and a recipe to updates, tokens, warmup and the updates at which the run logs, evaluates and saves.

The arithmetic is that of transformers' Trainer (`set_initial_training_values` and `DefaultFlowCallback` in 5.23).
"""

import math
from dataclasses import dataclass

from hpkit.recipe import Recipe


@dataclass(frozen=True)
class Accounting:
    """What a run will do. Counts are of updates (optimizer steps) unless they say otherwise; updates count from 1."""

    examples: int
    tokens_per_example: int
    effective_batch: int
    updates_per_epoch: int
    updates: int
    tokens: int
    warmup_updates: int
    log_at: tuple[int, ...]
    evaluate_at: tuple[int, ...]
    save_at: tuple[int, ...]

    def lines(self) -> list[str]:
        """The accounting in words, one fact a line."""
        warmup = f"warmup ends at update {self.warmup_updates} of {self.updates}"
        if self.warmup_updates == 0:
            warmup = "no warmup"
        elif self.warmup_updates >= self.updates:
            warmup = f"warmup ({self.warmup_updates} updates) outlasts the run ({self.updates}): the peak is never held"
        return [
            f"{self.examples:,} examples of {self.tokens_per_example} tokens, {self.effective_batch} to an update: "
            f"{self.updates_per_epoch} updates an epoch, {self.updates} in all, {self.tokens:,} tokens",
            warmup,
            f"training loss at {_words(self.log_at)}; evaluation at {_words(self.evaluate_at)}; checkpoint at {_words(self.save_at)}",
        ]


def account(recipe: Recipe, examples: int, tokens_per_example: int = 0, processes: int = 1) -> Accounting:
    """Count what `recipe` does on `examples` training examples, shared among `processes` devices."""
    micro_batches = math.ceil(math.ceil(examples / recipe.per_device_train_batch_size) / processes)
    updates_per_epoch = max(math.ceil(micro_batches / recipe.gradient_accumulation_steps), 1)
    updates = recipe.max_steps if recipe.max_steps > 0 else math.ceil(recipe.num_train_epochs * updates_per_epoch)
    effective_batch = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * processes
    epochs, rest = divmod(updates, updates_per_epoch)
    # The last update of an epoch takes what is left over, so whole epochs are counted by their examples.
    seen = epochs * examples + min(rest * effective_batch, examples)
    ratio = recipe.warmup_steps
    warmup = math.ceil(updates * ratio) if ratio < 1 else int(ratio)
    end_of_epoch = [*range(updates_per_epoch, updates, updates_per_epoch), updates]
    return Accounting(
        examples=examples,
        tokens_per_example=tokens_per_example,
        effective_batch=effective_batch,
        updates_per_epoch=updates_per_epoch,
        updates=updates,
        tokens=seen * tokens_per_example,
        warmup_updates=warmup,
        log_at=_at(recipe.logging_strategy, recipe.logging_steps, updates, end_of_epoch, at_the_end=False),
        evaluate_at=_at(recipe.eval_strategy, recipe.eval_steps or recipe.logging_steps, updates, end_of_epoch),
        save_at=_at(recipe.save_strategy, recipe.save_steps, updates, end_of_epoch),
    )


def _at(strategy: str, interval: float, updates: int, end_of_epoch: list[int], at_the_end: bool = True) -> tuple[int, ...]:
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
