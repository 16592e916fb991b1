"""Rules about updates: how many there are, what warmup leaves of them, what happens at which."""

import ast
import inspect
import math
import textwrap
from bisect import bisect_right
from collections.abc import Iterator

from hpkit.accounting import Accounting
from hpkit.formatting import plural, shown, shown_rate
from hpkit.preflight.plan import RATE_ARGUMENTS, Plan
from hpkit.preflight.register import Finding, rule
from hpkit.recipe import Recipe

FEW_UPDATES = 50
#: Warmup may take one update in so many; the change that is offered keeps to it, too.
WARMUP_ONE_IN = 3

# Warmup and what it leaves.


@rule(
    "warmup-outlasts-run",
    "counts",
    "warmup_steps",
    "lr_scheduler_type",
    notebook="02",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", warmup_steps=100, max_steps=80)
""",
)
def warmup_outlasts_run(plan: Plan) -> Iterator[Finding]:
    """Warmup takes as many updates as the run has, or more.

    The rate rises during warmup and is at its value only afterwards: such a run ends while it is
    still rising, and a warmup of 2,000 updates in a run of 6 ends at 0.3 % of the rate.
    """
    warmup = plan.counts.warmup_updates
    updates = plan.counts.updates
    if updates <= warmup and not plan.is_trial:
        yield Finding(
            severity="error",
            argument="warmup_steps",
            message=(f"warmup takes {warmup:,} updates and the run has {updates:,}: it never ends"),
            **_shorter_warmup(updates),
            evidence={"warmup_updates": warmup, "updates": updates},
        )


@rule(
    "warmup-over-third",
    "counts",
    "warmup_steps",
    "lr_scheduler_type",
    notebook="02",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", warmup_steps=100, max_steps=250)
""",
)
def warmup_over_third(plan: Plan) -> Iterator[Finding]:
    """Warmup takes over a third of the run.

    Warmup guards the first updates, whose steps Adam cannot scale yet. 3 to 10 % of a run is usual;
    what it takes beyond that is missing from the updates at the full rate.
    """
    warmup = plan.counts.warmup_updates
    updates = plan.counts.updates
    # A warmup as long as the run is warmup-outlasts-run's.
    if updates < WARMUP_ONE_IN * warmup and warmup < updates and not plan.is_trial:
        yield Finding(
            severity="warning",
            argument="warmup_steps",
            message=(
                f"warmup takes {warmup:,} of {updates:,} updates, "
                f"{warmup / updates:.0%} of the run; 3 to 10 % is usual"
            ),
            **_shorter_warmup(updates),
            evidence={"warmup_updates": warmup, "updates": updates},
        )


@rule(
    "peak-not-reached",
    "counts",
    *RATE_ARGUMENTS,
    notebook="02",
    example="""\
learning_rate = 1e-4
warmup_steps = 2000
num_train_epochs = 2
""",
    options="--examples 640",
)
def peak_not_reached(plan: Plan) -> Iterator[Finding]:
    """No update reaches the learning rate that was asked for.

    Where warmup ends with the run, or beyond it, the highest rate of all updates is a part of the
    one in the script.
    """
    counts = plan.counts
    asked = plan.recipe.learning_rate
    reached = counts.peak_learning_rate
    # None where the schedule follows measured losses.
    if reached is None or reached >= 0.99 * asked or plan.is_trial:
        return
    # Of a script one finding is enough; a learner sees both sides of it.
    if not plan.live and counts.updates <= counts.warmup_updates:
        return
    yield Finding(
        severity="error" if reached < 0.5 * asked else "warning",
        argument="learning_rate",
        message=(
            f"the learning rate's peak is {shown_rate(reached)}, {100 * reached / asked:.2g} % "
            f"of the {shown_rate(asked)} asked for, at the end of {counts.updates:,} updates"
        ),
        **_shorter_warmup(counts.updates),
        evidence={
            "peak_learning_rate": reached,
            "learning_rate": asked,
            "updates": counts.updates,
        },
    )


def _shorter_warmup(updates: int) -> dict:
    """Changes and advice of a finding about warmup."""
    tenth = math.ceil(updates / 10)
    # Of one or two updates a tenth, rounded up, is more than a third again.
    if WARMUP_ONE_IN * tenth > updates:
        return dict(changes={"warmup_steps": 0}, advice="so short a run has no time for warmup")
    return dict(
        changes={"warmup_steps": 0.1}, advice=f"a tenth of the run ({plural(tenth, 'update')})"
    )


# The number of updates.


@rule(
    "few-updates",
    "counts",
    notebook="03",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", gradient_accumulation_steps=32, learning_rate=1e-4)
""",
    options="--examples 640",
)
def few_updates(plan: Plan) -> Iterator[Finding]:
    """So few updates hardly train.

    The optimizer moves the weights once an update, whatever stands in it. A few hundred examples in
    large accumulated batches are a handful of updates. A number of them that a script asks for
    itself, as max_steps, is its own choice.
    """
    counts = plan.counts
    recipe = plan.recipe
    if counts.updates >= FEW_UPDATES:
        return
    changes = {}
    advice = ""
    if recipe.max_steps > 0:
        # A script that says so itself means it, to try something out.
        if not plan.live:
            return
        argument = "max_steps"
        message = f"max_steps {recipe.max_steps} allows {counts.updates} updates"
        changes = {"max_steps": FEW_UPDATES}
        advice = "or more"
    else:
        argument = "num_train_epochs"
        if recipe.gradient_accumulation_steps > 1:
            argument = "gradient_accumulation_steps"
        message = _how_few_come_about(counts, recipe)
        changes, advice = _more_updates(counts, recipe)
    yield Finding(
        severity="warning",
        argument=argument,
        message=message,
        changes=changes,
        advice=advice,
        evidence={"updates": counts.updates, "effective_batch": counts.effective_batch},
    )


def _how_few_come_about(counts: Accounting, recipe: Recipe) -> str:
    batch = f"{recipe.per_device_train_batch_size} x {recipe.gradient_accumulation_steps}"
    devices = ""
    if counts.processes > 1:
        devices = f" x {counts.processes} devices"
    epochs = f"{recipe.num_train_epochs:g} epoch"
    if recipe.num_train_epochs != 1:
        epochs += "s"
    return (
        f"{counts.examples:,} examples at batch {batch} accumulated{devices} "
        f"make {plural(counts.updates, 'update')} in {epochs}"
    )


def _more_updates(counts: Accounting, recipe: Recipe) -> tuple[dict, str]:
    """(changes, advice): the largest accumulation that leaves enough updates, else more epochs."""
    accumulation = recipe.gradient_accumulation_steps
    micro_batches = counts.micro_batches_per_epoch

    def updates(accumulated: int) -> int:
        return math.ceil(recipe.num_train_epochs * math.ceil(micro_batches / accumulated))

    # The more is accumulated the fewer updates, and beyond an epoch's micro-batches no fewer. The
    # key is negative because bisect wants it to rise. How many sizes leave enough is also the
    # largest that does, since they count from 1; 0 is none. Trying each would take hours where a
    # script asks for 10^220.
    sizes = range(1, min(accumulation, micro_batches) + 1)
    largest = bisect_right(sizes, -FEW_UPDATES, key=lambda accumulated: -updates(accumulated))
    if largest:
        changes = {"gradient_accumulation_steps": largest}
        return changes, f"{updates(largest)} updates"
    changes = {"num_train_epochs": math.ceil(FEW_UPDATES / max(micro_batches, 1))}
    if accumulation > 1:
        changes["gradient_accumulation_steps"] = 1
    return changes, "or better, find more examples"


# What happens every so many updates.


@rule(
    "no-training-loss",
    "counts",
    "logging_strategy",
    "logging_steps",
    notebook="10",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", logging_steps=500, max_steps=300)
""",
)
def no_training_loss(plan: Plan) -> Iterator[Finding]:
    """The first training loss would be logged after the run's end.

    transformers logs every 500 updates where nobody says another number; of a shorter run the log
    shows no loss at all.
    """
    updates = plan.counts.updates
    every = plan.recipe.logging_steps
    # Of a short run whose script leaves the interval alone the loss is not looked for.
    if not plan.live and "logging_steps" not in plan.given and updates < FEW_UPDATES:
        return
    if plan.recipe.logging_strategy == "steps" and not plan.counts.log_at:
        yield Finding(
            severity="warning",
            argument="logging_steps",
            message=(
                f"logging_steps {shown(every)} lies beyond the run's {updates:,} updates: "
                "no training loss is logged on the way"
            ),
            changes={"logging_steps": max(updates // 20, 1)},
            evidence={"logging_steps": every, "updates": updates},
        )


@rule(
    "eval-beyond-run",
    "counts",
    "eval_strategy",
    "eval_steps",
    "logging_steps",
    notebook="10",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", eval_strategy="steps", eval_steps=500, max_steps=300)
""",
)
def eval_beyond_run(plan: Plan) -> Iterator[Finding]:
    """The first evaluation would come after the run's end.

    Then there is one evaluation, at the end, and no curve that shows where the run should have
    stopped.
    """
    updates = plan.counts.updates
    recipe = plan.recipe
    every = _evaluates_every(recipe)
    if recipe.eval_strategy == "steps" and every > updates > 1:
        source = "eval_steps"
        if not recipe.eval_steps:
            source = "eval_steps follows logging_steps and"
        yield Finding(
            severity="warning",
            argument="eval_steps",
            message=(
                f"{source} is {shown(every)}, beyond the run's {updates:,} updates: "
                "it is evaluated once, at its end"
            ),
            changes={"eval_steps": max(updates // 10, 1)},
            evidence={"eval_steps": every, "updates": updates},
        )


@rule(
    "save-beyond-run",
    "counts",
    "save_strategy",
    "save_steps",
    notebook="10",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", save_steps=500, max_steps=300)
""",
)
def save_beyond_run(plan: Plan) -> Iterator[Finding]:
    """The first checkpoint would be written after the run's end.

    A run that is killed goes on from its last checkpoint, and without one from the start. Nothing
    is said of a script that does not name an interval, nor of a short run: that is a demonstration.
    """
    updates = plan.counts.updates
    every = plan.recipe.save_steps
    is_demonstration = 0 < plan.recipe.max_steps < FEW_UPDATES
    is_told = plan.live or ("save_steps" in plan.given and not is_demonstration)
    if is_told and plan.recipe.save_strategy == "steps" and every > updates > 1:
        yield Finding(
            severity="hint",
            argument="save_steps",
            message=(
                f"save_steps {shown(every)} lies beyond the run's {updates:,} updates: "
                "a kill loses all of them"
            ),
            changes={"save_steps": max(updates // 4, 1)},
            evidence={"save_steps": every, "updates": updates},
        )


@rule(
    "best-model-mismatch",
    "eval_strategy",
    "eval_steps",
    "logging_steps",
    "save_strategy",
    "save_steps",
    "load_best_model_at_end",
    notebook="10",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", eval_strategy="steps", eval_steps=200, load_best_model_at_end=True)
""",
)
def best_model_mismatch(plan: Plan) -> Iterator[Finding]:
    """The best model can be kept only where each checkpoint is evaluated.

    The Trainer compares the evaluations of its checkpoints, so it has to evaluate whenever it
    saves: the strategies must be the same, and save_steps a multiple of eval_steps.
    """
    recipe = plan.recipe
    if not plan.value("load_best_model_at_end"):
        return
    each = _evaluates_every(recipe)
    kept = recipe.save_steps
    evidence = {
        "eval_strategy": recipe.eval_strategy,
        "save_strategy": recipe.save_strategy,
        "eval_steps": each,
        "save_steps": kept,
    }
    if recipe.eval_strategy != recipe.save_strategy:
        yield Finding(
            severity="error",
            argument="load_best_model_at_end",
            message=(
                "load_best_model_at_end, but the run "
                f"evaluates {_in_words(recipe.eval_strategy, each)} "
                f"and saves {_in_words(recipe.save_strategy, kept)}: transformers stops"
            ),
            changes=_evaluated_when_saved(plan, each),
            evidence=evidence,
        )
    elif recipe.eval_strategy == "steps" and not _is_multiple(kept, each):
        nearest = each
        if each >= 1 and kept >= 1:
            nearest = max(round(kept / each), 1) * each
        yield Finding(
            severity="error",
            argument="save_steps",
            message=(
                f"load_best_model_at_end, but save_steps {shown(kept)} is no multiple "
                f"of eval_steps {shown(each)}: transformers stops"
            ),
            changes={"save_steps": nearest},
            evidence=evidence,
        )


def _evaluates_every(recipe: Recipe) -> float:
    return recipe.eval_steps or recipe.logging_steps


def _in_words(strategy: str, every: float) -> str:
    if strategy == "no":
        return "never"
    if strategy == "epoch":
        return "once an epoch"
    return f"every {shown(every)} updates"


def _evaluated_when_saved(plan: Plan, each: float) -> dict:
    """Saving as evaluating does; where it never does, evaluating as saving does."""
    recipe = plan.recipe
    if recipe.eval_strategy == "epoch":
        return {"save_strategy": "epoch"}
    if recipe.eval_strategy == "steps":
        return {"save_strategy": "steps", "save_steps": each}
    if recipe.save_strategy == "epoch":
        return {"eval_strategy": "epoch"}
    return {"eval_strategy": "steps", "eval_steps": recipe.save_steps}


def _is_multiple(kept: float, each: float) -> bool:
    """As transformers 5.23 decides it: whole numbers exactly, and shares to a millionth."""
    if kept % each == 0:
        return True
    both_are_shares = kept < 1 and each < 1
    return both_are_shares and (kept * 1_000_000) % (each * 1_000_000) == 0


# What an update sums up.


@rule(
    "accumulation-miscounts-loss",
    "head",
    "gradient_accumulation_steps",
    notebook="03",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", gradient_accumulation_steps=8)
""",
    options="--model org/bert",
)
def accumulation_miscounts_loss(plan: Plan) -> Iterator[Finding]:
    """The head's loss is a mean, and the Trainer takes it for a share of the whole.

    transformers divides by all labels of an update, and trusts the model to do so; a head that
    averages over each micro-batch makes loss and gradient too large by the accumulation.
    """
    accumulation = plan.recipe.gradient_accumulation_steps
    # A live model that carries the change named below already.
    if getattr(plan.model.source, "accepts_loss_kwargs", None) is False:
        return
    if accumulation > 1 and miscounts_loss(plan.head):
        head = plan.head.__name__
        yield Finding(
            severity="error",
            argument="gradient_accumulation_steps",
            message=(
                f"{head} averages over each micro-batch while the Trainer takes its loss for "
                f"already divided by the whole: loss and gradient come out {accumulation} times "
                "too large (huggingface/transformers issue 47688)"
            ),
            changes={"gradient_accumulation_steps": 1},
            advice=(
                "with a larger per_device_train_batch_size; "
                "or put `model.accepts_loss_kwargs = False` before the Trainer is made"
            ),
            evidence={"factor": accumulation, "head": head},
        )


def miscounts_loss(head: type) -> bool:
    """Whether the installed transformers multiplies this head's loss by the accumulation.

    Its Trainer divides by all the labels of an update, if `forward` takes any keyword, and trusts
    the head to do so. A head whose source hands those keywords on to its loss does. Question
    answering has no `labels` to count.
    """
    if not _takes_loss_kwargs(head) or head.__name__.endswith("ForQuestionAnswering"):
        return False
    try:
        # A decorator would show its own source, and a method's is indented.
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(head.forward)))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError):  # a class without source: nothing can be told
        return False
    computes_a_loss = False
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or "loss" not in ast.unparse(node.func):
            continue
        computes_a_loss = True
        # The syntax tree writes **kwargs as a keyword without a name.
        if any(keyword.arg in (None, "num_items_in_batch") for keyword in node.keywords):
            return False
    return computes_a_loss


def _takes_loss_kwargs(head: type) -> bool:
    """As the Trainer decides it: the class says so, or else its `forward` takes any keyword."""
    told = getattr(head, "accepts_loss_kwargs", None)
    if told is not None:
        return told
    parameters = inspect.signature(head.forward).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
