"""Rules about the arguments themselves: what is refused, and what does nothing beside another."""

import importlib.metadata
import math
from collections.abc import Iterator

from hpkit.errors import did_you_mean
from hpkit.formatting import shown, shown_rate
from hpkit.hyperparameters import CARDS
from hpkit.preflight.arguments import (
    DEPRECATED,
    MOVED_FROM_TRAINER,
    SUCCESSORS,
    TRANSFORMERS_ARGUMENTS,
    instead,
    optimizer_names,
    training_argument_names,
)
from hpkit.preflight.plan import RATE_ARGUMENTS, Finding, Plan, rule
from hpkit.recipe import Recipe
from hpkit.schedules import MEASURED, WITHOUT_WARMUP

#: Right in transformers, though no Recipe takes it.
FINE_IN_TRANSFORMERS = (("save_strategy", "best"), ("max_steps", 0))

# Values and names.


@rule("invalid-value")
def invalid_value(plan: Plan) -> Iterator[Finding]:
    """A value that its argument cannot take."""
    for argument, value in plan.invalid.items():
        if (argument, value) in FINE_IN_TRANSFORMERS:
            continue
        expected = CARDS[argument].expected
        hint = ""
        if isinstance(value, str):
            hint = did_you_mean(value, expected.removeprefix("one of ").split(", "))
        written = repr(value)
        if isinstance(value, (bool, int, float, str)):
            written = shown(value)
        yield Finding(
            severity="error",
            argument=argument,
            message=f"{argument} is {written}{hint}",
            fix=f"give {expected}",
            evidence={"value": repr(value)},
        )
    # A Recipe takes any text for optim, because the names are transformers' to tell.
    optim = plan.given.get("optim")
    if optim is None or "optim" in plan.invalid or optim in optimizer_names():
        return
    near = did_you_mean(optim, optimizer_names()) or "; adamw_torch_fused is the default"
    yield Finding(
        severity="error",
        argument="optim",
        message=f"transformers has no optimizer {optim}",
        fix=f"take another{near}",
        evidence={"value": repr(optim)},
    )


@rule("removed-argument")
def removed_argument(plan: Plan) -> Iterator[Finding]:
    """An argument of transformers 4 that 5 no longer takes."""
    if plan.live or plan.written.name.endswith("Trainer"):
        return
    version = importlib.metadata.version("transformers")
    known = training_argument_names()
    # TRL and a person's own class have more arguments, which nobody here can tell from mistakes.
    fields_are_known = plan.written.name in TRANSFORMERS_ARGUMENTS
    for argument in plan.named:
        if fields_are_known:
            removed = argument not in known
        else:
            removed = argument in SUCCESSORS
        if not removed:
            continue
        successor = SUCCESSORS.get(argument)
        if argument == "max_seq_length" and plan.written.name.endswith("Config"):
            successor = "max_length={}"  # TRL's own word for it
        if successor:
            fix = instead(successor, plan.given.get(argument, "…"))
        else:
            fix = f"leave it out{did_you_mean(argument, known)}"
        yield Finding(
            severity="error",
            argument=argument,
            message=f"transformers {version} has no argument {argument}: the call is a TypeError",
            fix=fix,
            evidence={"successor": successor},
        )


@rule("moved-argument")
def moved_argument(plan: Plan) -> Iterator[Finding]:
    """An argument that trainers took once, and that now belongs to their config."""
    if not plan.written.name.endswith("Trainer"):
        return
    if plan.written.name in ("Trainer", "Seq2SeqTrainer"):
        severity = "error"
        unless = ""
    else:
        # Unsloth patches TRL's trainers so that they take these again.
        severity = "warning"
        unless = ", unless Unsloth patches it"
    for argument in plan.named:
        if argument in MOVED_FROM_TRAINER:
            yield Finding(
                severity=severity,
                argument=argument,
                message=(
                    f"{plan.written.name} takes no {argument} since transformers 5 and TRL 1: "
                    f"the call is a TypeError{unless}"
                ),
                fix=instead(MOVED_FROM_TRAINER[argument], plan.given.get(argument, "…")),
                evidence={},
            )


@rule("deprecated-argument")
def deprecated_argument(plan: Plan) -> Iterator[Finding]:
    """An argument that has a new name, and still works."""
    # Live TrainingArguments have a value for every field, so nobody knows what was written.
    if plan.live:
        return
    for argument, successor in DEPRECATED.items():
        new_name = successor.partition("=")[0]
        # An older transformers takes the old name alone.
        if argument in plan.given and new_name in training_argument_names():
            yield Finding(
                severity="warning",
                argument=argument,
                message=f"{argument} has a new name, and goes with transformers 6",
                fix=instead(successor, plan.given[argument]),
                evidence={"successor": successor},
            )


# Values that do nothing, or not what they are there for, beside another.


@rule("constant-with-warmup", "lr_scheduler_type", "warmup_steps")
def constant_with_warmup(plan: Plan) -> Iterator[Finding]:
    """A schedule that ignores warmup."""
    schedule = plan.recipe.lr_scheduler_type
    warmup = plan.recipe.warmup_steps
    if schedule not in WITHOUT_WARMUP or warmup == 0:
        return
    fix = "set lr_scheduler_type=constant_with_warmup"
    if schedule in MEASURED:  # no other schedule does what they do
        fix = "set warmup_steps=0"
    yield Finding(
        severity="warning",
        argument="lr_scheduler_type",
        message=(
            f"the schedule {schedule} ignores warmup_steps {shown(warmup)}: "
            "the first update has the full learning rate"
        ),
        fix=fix,
        evidence={"warmup_steps": warmup},
    )


@rule("polynomial-below-end", "lr_scheduler_type", "lr_scheduler_kwargs", "learning_rate")
def polynomial_below_end(plan: Plan) -> Iterator[Finding]:
    """The polynomial's end lies above its start."""
    if plan.recipe.lr_scheduler_type != "polynomial":
        return
    rate = plan.recipe.learning_rate
    kwargs = plan.recipe.lr_scheduler_kwargs or {}
    lowest = kwargs.get("lr_end", 1e-7)  # transformers' default
    if isinstance(lowest, (int, float)) and rate <= lowest:
        yield Finding(
            severity="error",
            argument="learning_rate",
            message=(
                f"polynomial falls to lr_end {shown_rate(lowest)}, "
                f"and learning_rate is {shown_rate(rate)}: transformers stops"
            ),
            fix=(
                f"set learning_rate above {shown_rate(lowest)}, "
                "or a lower lr_end in lr_scheduler_kwargs"
            ),
            evidence={"lr_end": lowest, "learning_rate": rate},
        )


@rule("weight-decay-negligible", "counts", "weight_decay", *RATE_ARGUMENTS)
def weight_decay_negligible(plan: Plan) -> Iterator[Finding]:
    """All updates together shrink no weight by a hundredth."""
    decay = plan.recipe.weight_decay
    rates = plan.counts.learning_rates[:-1]  # no update uses the last one
    if decay == 0 or not rates:
        return
    # AdamW multiplies a weight by 1 - rate x decay at each update, whatever its gradient.
    shrunk = 1 - math.prod(1 - rate * decay for rate in rates)
    # A negative share is a decay so large that weights change their sign.
    if not 0 <= shrunk < 0.01:
        return
    needed = math.inf
    if shrunk:
        needed = decay * 0.01 / shrunk
    fix = "set weight_decay=0, which does the same"
    if needed < 10:
        fix += f"; about {needed:.2g} would take 1 %"
    yield Finding(
        severity="hint",
        argument="weight_decay",
        message=(
            f"weight_decay {decay:g} shrinks a weight by {100 * shrunk:.2g} % "
            f"in all {len(rates):,} updates together"
        ),
        fix=fix,
        evidence={"shrunk": shrunk, "updates": len(rates)},
    )


@rule(
    "batch-without-rate",
    "learning_rate",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
)
def batch_without_rate(plan: Plan) -> Iterator[Finding]:
    """The effective batch changed, and the learning rate did not."""
    base = _compared_with(plan)
    if base is None:
        return
    recipe = plan.recipe
    now = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * plan.processes
    before = base.per_device_train_batch_size * base.gradient_accumulation_steps
    if recipe.learning_rate != base.learning_rate or 0.25 < now / before < 4:
        return
    rate = recipe.learning_rate * math.sqrt(now / before)
    yield Finding(
        severity="warning",
        argument="learning_rate",
        message=(
            f"an update sees {now:,} examples instead of {before:,}, "
            f"and the learning rate is still {shown_rate(base.learning_rate)}"
        ),
        fix=(
            f"set learning_rate={rate:.2g}, by the square root rule for Adam "
            "(arXiv 2205.10287), and try its neighbours"
        ),
        evidence={
            "effective_batch": now,
            "before": before,
            "learning_rate": recipe.learning_rate,
        },
    )


def _compared_with(plan: Plan) -> Recipe | None:
    """The recipe whose learning rate this run has kept without a thought, where there is one."""
    if plan.live:
        return plan.base
    # Whoever writes the rate down has thought of it. Elsewhere than in transformers its default is
    # another.
    if "learning_rate" in plan.given or plan.written.name not in TRANSFORMERS_ARGUMENTS:
        return None
    return plan.base or Recipe()


@rule("seed-after-model", "seed")
def seed_after_model(plan: Plan) -> Iterator[Finding]:
    """Random weights are drawn before the seed is set."""
    unseeded = plan.written.unseeded
    seed = plan.recipe.seed
    if unseeded and "seed" in plan.given:
        yield Finding(
            severity="warning",
            argument="seed",
            message=(
                f"{unseeded} draws random weights before the Trainer sets seed {seed}: "
                "two runs start from different weights"
            ),
            fix=f"put transformers.set_seed({seed}) before it",
            evidence={"seed": seed},
        )
