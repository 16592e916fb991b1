"""When a loss or a weight is no number any more: since which update, and what to try."""

import math

from hpkit.finetune import processes
from hpkit.finetune.run import Run
from hpkit.formatting import shown_rate
from hpkit.recipe import Recipe

#: An update that no run reaches.
_NEVER = 2**62
#: A rate that few models diverge at.
USUAL_RATE = 1e-3


def noting_divergence(Trainer):
    """transformers' Trainer, which remembers the first update whose loss is no finite number."""
    import torch

    class Noting(Trainer):
        #: The update, counted from 1; 0 as long as every loss is a number.
        first_without_number = 0

        def training_step(self, *arguments, **options):
            loss = super().training_step(*arguments, **options)
            # Worked out on the device: to look at the number here would make a GPU wait.
            new = torch.where(torch.isfinite(loss), 0, self.state.global_step + 1)
            self.first_without_number = torch.where(
                torch.as_tensor(self.first_without_number, device=new.device) > 0,
                self.first_without_number,
                new,
            )
            return loss

        def _maybe_log_save_evaluate(self, summed_loss, *arguments, **options):
            logs_now = self.control.should_log
            super()._maybe_log_save_evaluate(summed_loss, *arguments, **options)
            if logs_now:
                # The Trainer takes the sum from itself, and NaN less NaN is NaN for ever.
                summed_loss.masked_fill_(~torch.isfinite(summed_loss), 0.0)

    return Noting


def length_of(weights: list) -> float:
    """The length of all weights as one vector."""
    import torch

    # In fp32 and then in Python's floats: a sum over bf16 weights would be rounded to three digits.
    return math.hypot(*[torch.linalg.vector_norm(weight.float()).item() for weight in weights])


def diverged_since(trainer, losses: list[float], weights_norm: float) -> int | None:
    """The update since which a loss or a weight is no finite number; None where all are.

    `losses`: those before and after the run. 0: the model was broken before its first update. Of
    several processes the earliest counts.
    """
    before, after = losses
    if not math.isfinite(before):
        return 0
    met = [int(trainer.first_without_number)]
    # What an earlier session of a resumed run has logged.
    for entry in trainer.state.log_history:
        if "loss" in entry and not math.isfinite(entry["loss"]):
            met.append(entry["step"])
    if not (math.isfinite(after) and math.isfinite(weights_norm)):
        met.append(trainer.state.global_step)
    first = processes.smallest(min(filter(None, met), default=_NEVER))
    return None if first == _NEVER else first


def what_to_try(recipe: Recipe, since: int | None) -> str | None:
    """What usually mends a run that has diverged, the likeliest first; None for any other."""
    if since is None:
        return None
    if since == 0:
        return (
            "another copy of the model: its loss was no finite number before anything was trained"
        )
    # A tenth of what is far beyond any that works would diverge as well.
    rate = min(recipe.learning_rate / 10, USUAL_RATE)
    ideas = [f"learning_rate={shown_rate(rate)}, which is less"]
    if recipe.fp16:
        ideas.append("bf16=true in place of fp16, whose largest number is 65,504")
    if recipe.dtype != "float32":
        ideas.append("dtype=float32, so that the weights have all their digits")
    if not recipe.max_grad_norm:
        ideas.append("max_grad_norm=1, which shortens a gradient that is far too long")
    if not recipe.warmup_steps:
        ideas.append("warmup_steps=0.1, so that the first updates are small")
    return "; ".join(ideas)


def divergence_in_words(run: Run) -> str:
    """What a run that has diverged says of it, and what to try."""
    since = f"since update {run.diverged_since} of {run.updates}"
    if run.diverged_since == 0:
        since = "before the first update"
    return f"diverged: {since} a loss or a weight is no finite number; try {run.what_to_try}"
