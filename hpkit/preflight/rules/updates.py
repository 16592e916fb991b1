"""Rules about updates: how many there are, what warmup leaves of them, what happens at which."""

import ast
import inspect
import math
import textwrap
from bisect import bisect_right
from collections.abc import Iterator

from hpkit.accounting import Accounting
from hpkit.formatting import plural, shown_rate
from hpkit.preflight.libraries import version_in_force
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
            **_shorter_warmup(plan, updates),
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
            **_shorter_warmup(plan, updates),
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
        **_shorter_warmup(plan, counts.updates),
        evidence={
            "peak_learning_rate": reached,
            "learning_rate": asked,
            "updates": counts.updates,
        },
    )


def _shorter_warmup(plan: Plan, updates: int) -> dict:
    """Changes and advice of a finding about warmup."""
    tenth = math.ceil(updates / 10)
    takes_a_share = plan.written.origin != "axolotl"
    if not plan.live and version_in_force("transformers", plan.written.pins).number < (5,):
        takes_a_share = False  # until 5 the number is one of updates
    if not takes_a_share and WARMUP_ONE_IN * tenth <= updates:
        return dict(changes={"warmup_steps": tenth}, advice="a tenth of the run")
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
