"""The learning rate of every update for all twelve schedules, from transformers' own scheduler objects.

No formula stands here. `hpkit.accounting` has formulas for ten of the schedules, because it must answer without torch,
whose import takes seconds; this module is what those are held against, and it knows the two that follow measured losses.
"""

from collections.abc import Mapping

from hpkit.accounting import MEASURED
from hpkit.errors import BadInput
from hpkit.recipe import Recipe


def make_schedule(recipe: Recipe, updates: int):
    """(optimizer, scheduler): transformers' scheduler for a run of `updates`, on an optimizer of one weight.

    Raises BadInput where the schedule refuses its kwargs or breaks at one of its corners.
    """
    import torch
    from transformers import TrainingArguments, get_scheduler

    name, kwargs = recipe.lr_scheduler_type, recipe.lr_scheduler_kwargs
    warmup = TrainingArguments.get_warmup_steps(recipe, updates)  # it reads `warmup_steps` alone

    def make():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
        return optimizer, get_scheduler(name, optimizer, warmup, updates, kwargs)

    try:
        _, tried = make()
        if name in MEASURED:
            tried.step(1.0)
        for share in getattr(tried, "lr_lambdas", ()):
            for step in (0, min(warmup, updates), updates):
                share(step)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise BadInput(
            f"lr_scheduler_type {name} cannot run with learning_rate {recipe.learning_rate}, "
            f"{warmup} of {updates} updates warmup and lr_scheduler_kwargs {kwargs}: {error}"
        ) from None
    return make()


def learning_rates(
    recipe: Recipe, updates: int, eval_losses: Mapping[int, float] | None = None
) -> tuple[float, ...]:
    """`updates + 1` rates: entry k is the rate after k updates, which update k + 1 uses and logs.

    reduce_lr_on_plateau and greedy follow the evaluation loss: `eval_losses` says what was measured after which update.
    The ten others do not look at it. Raises BadInput as `make_schedule` does, and where the losses are missing.
    """
    measured = recipe.lr_scheduler_type in MEASURED
    if measured and not eval_losses:
        raise BadInput(
            f"lr_scheduler_type {recipe.lr_scheduler_type} follows measured losses: expected eval_losses, {{update: loss}}"
        )
    optimizer, schedule = make_schedule(recipe, updates)
    rates = [optimizer.param_groups[0]["lr"]]
    optimizer.step()  # torch warns when a schedule moves before its optimizer
    for update in range(1, updates + 1):
        if not measured:
            schedule.step()
        elif update in eval_losses:
            schedule.step(eval_losses[update])
        rates.append(optimizer.param_groups[0]["lr"])
    return tuple(rates)
