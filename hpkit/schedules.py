"""The learning rate of every update, by formula and from transformers' own scheduler objects.

`rates_by_formula` answers without torch, whose import takes seconds, for the ten schedules that can
be told beforehand. `learning_rates` asks the objects: the formulas are held against it, and it
knows the two schedules that follow measured losses.
"""

import math
from collections.abc import Mapping

from hpkit.errors import BadInput
from hpkit.recipe import Recipe

#: Schedules whose rate follows from what the run measures, so that nobody can tell it beforehand.
MEASURED = ("reduce_lr_on_plateau", "greedy")
#: Schedules without a warmup of their own: `warmup_steps` changes nothing.
WITHOUT_WARMUP = ("constant", *MEASURED)


# transformers' scheduler objects.


def make_schedule(recipe: Recipe, updates: int):
    """(optimizer, scheduler): transformers' scheduler for a run of `updates`.

    The optimizer has one weight. Raises BadInput where the schedule refuses its kwargs or breaks at
    one of its corners.
    """
    import torch
    from transformers import TrainingArguments, get_scheduler

    name = recipe.lr_scheduler_type
    kwargs = recipe.lr_scheduler_kwargs
    # The method reads `warmup_steps` alone, so a Recipe serves as well as TrainingArguments.
    warmup = TrainingArguments.get_warmup_steps(recipe, updates)

    def make():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
        return optimizer, get_scheduler(name, optimizer, warmup, updates, kwargs)

    # Some kwargs are refused at once, others break later: where warmup or the run ends.
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
    return make()  # anew: the one that was tried may have moved


def learning_rates(
    recipe: Recipe, updates: int, eval_losses: Mapping[int, float] | None = None
) -> tuple[float, ...]:
    """`updates + 1` rates: entry k is the rate after k updates, which update k + 1 uses and logs.

    reduce_lr_on_plateau and greedy follow the evaluation loss: `eval_losses` says what was measured
    after which update. The ten others do not look at it. Raises BadInput as `make_schedule` does,
    and where the losses are missing.
    """
    measured = recipe.lr_scheduler_type in MEASURED
    if measured and not eval_losses:
        raise BadInput(
            f"lr_scheduler_type {recipe.lr_scheduler_type} follows measured losses: "
            "expected eval_losses, {update: loss}"
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


# The same by formula.


def rates_by_formula(recipe: Recipe, updates: int, warmup: int) -> tuple[float, ...]:
    """`updates + 1` rates as `learning_rates` has them, of which `warmup` rise.

    Empty for MEASURED schedules. The arithmetic is that of transformers 5.23
    (`transformers.optimization`). Raises BadInput where the schedule lacks a value in
    `lr_scheduler_kwargs`, or cannot use one.
    """
    name = recipe.lr_scheduler_type
    peak = recipe.learning_rate
    if name in MEASURED:
        return ()
    if name == "constant":
        return (peak,) * (updates + 1)
    rates = []
    try:
        share_after = _share_by_formula(recipe, updates, warmup)
        for step in range(updates + 1):
            rates.append(peak * max(share_after(step), 0.0))
    # What a script writes into the kwargs may be of any type, and divide by 0.
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        kwargs = recipe.lr_scheduler_kwargs
        why = error
        if isinstance(error, KeyError):
            why = f"{error} is missing"
        raise BadInput(f"lr_scheduler_kwargs: {name} cannot run with {kwargs}: {why}") from None
    return tuple(rates)


def _share_by_formula(recipe: Recipe, updates: int, warmup: int):
    """The function from updates done to the share of `learning_rate`."""
    name = recipe.lr_scheduler_type
    kwargs = dict(recipe.lr_scheduler_kwargs or {})
    # transformers takes the lowest rate in either form, absolute or as a share.
    if "min_lr" in kwargs:
        kwargs["min_lr_rate"] = kwargs.pop("min_lr") / recipe.learning_rate
    kwargs["peak"] = recipe.learning_rate
    after_warmup = _AFTER_WARMUP[name]
    begun = 0
    if name == "cosine_warmup_with_min_lr":
        begun = 1  # it counts each update as done when it begins

    def share_after(step: int) -> float:
        if step >= warmup:
            return after_warmup(step - warmup + begun, updates - warmup, warmup, kwargs)
        if name == "cosine_warmup_with_min_lr":
            start = kwargs.get("warmup_lr_rate")
            if start is None:
                start = 1 / max(warmup, 1)
            return start + (1 - start) * step / max(warmup - 1, 1)
        if name == "warmup_stable_decay":
            lowest = kwargs.get("min_lr_ratio", 0)
            risen = _fall(kwargs.get("warmup_type", "linear"), 1 - step / warmup, cycles=0.5)
            return risen * (1 - lowest) + lowest
        return step / warmup

    return share_after


# Each returns the share of `learning_rate` at `step`, counted from the end of warmup, of `decay`
# updates that follow warmup. kwargs are the schedule's own, and `peak`, the learning rate.


def _constant(step, decay, warmup, kwargs):
    return 1.0


def _linear(step, decay, warmup, kwargs):
    return (decay - step) / max(decay, 1)


def _cosine(step, decay, warmup, kwargs):
    lowest = kwargs.get("min_lr_rate", 0)
    fallen = _fall("cosine", step / max(decay, 1), kwargs.get("num_cycles", 0.5))
    return fallen * (1 - lowest) + lowest


def _restarts(step, decay, warmup, kwargs):
    progress = step / max(decay, 1)
    # The remainder of a whole number of cycles is 0, from which the cosine would start once more.
    if progress >= 1:
        return 0.0
    within_cycle = kwargs.get("num_cycles", 1) * progress % 1
    return (1 + math.cos(math.pi * within_cycle)) / 2


def _polynomial(step, decay, warmup, kwargs):
    lowest = kwargs.get("lr_end", 1e-7) / kwargs["peak"]
    if step > decay:
        return lowest
    left = 1 - step / max(decay, 1)
    return (1 - lowest) * left ** kwargs.get("power", 1.0) + lowest


def _inverse_sqrt(step, decay, warmup, kwargs):
    timescale = kwargs.get("timescale") or warmup or 10_000
    return math.sqrt(timescale / (step + timescale))


def _stable_decay(step, decay, warmup, kwargs):
    lowest = kwargs.get("min_lr_ratio", 0)
    falling = kwargs["num_decay_steps"]
    stable = kwargs.get("num_stable_steps")
    if stable is None:
        stable = decay - falling
    step -= stable
    if step < 0:
        return 1.0
    if step >= falling:
        return lowest
    kind = kwargs.get("decay_type", "linear")
    fallen = _fall(kind, step / max(falling, 1), kwargs.get("num_cycles", 0.5))
    return fallen * (1 - lowest) + lowest


def _fall(kind: str, progress: float, cycles: float) -> float:
    """From 1 at progress 0 to 0 at progress 1, in one of three shapes."""
    if kind == "cosine":
        return (1 + math.cos(math.pi * cycles * 2 * progress)) / 2
    if kind == "1-sqrt":
        return 1 - math.sqrt(progress)
    return 1 - progress


_AFTER_WARMUP = {
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _restarts,
    "polynomial": _polynomial,
    "constant_with_warmup": _constant,
    "inverse_sqrt": _inverse_sqrt,
    "cosine_with_min_lr": _cosine,
    "cosine_warmup_with_min_lr": _cosine,
    "warmup_stable_decay": _stable_decay,
}
