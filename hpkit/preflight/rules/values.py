"""Rules about values that an argument, or another beside it, refuses."""

from collections.abc import Iterator

from hpkit.errors import did_you_mean, nearest
from hpkit.formatting import shown_rate
from hpkit.hyperparameters import ACCEPTED, CARDS
from hpkit.preflight.forms import LEAVE_OUT
from hpkit.preflight.libraries import optimizer_names, version_in_force
from hpkit.preflight.plan import Plan
from hpkit.preflight.register import Finding, rule
from hpkit.recipe import ADAPTER, QUANTIZATION
from hpkit.schedules import MEASURED

#: Right in transformers, though no Recipe takes it. With 0 it saves, and evaluates, in its own way.
FINE_IN_TRANSFORMERS = (
    ("save_strategy", "best"),
    ("max_steps", 0),
    ("save_steps", 0),
    ("eval_steps", 0),
    ("save_total_limit", 0),
    ("adam_epsilon", 0),
    ("bf16", None),
    ("fp16", None),
)


@rule(
    "invalid-value",
    notebook="12",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", learning_rate="2e-5", eval_strategy="step")
""",
)
def invalid_value(plan: Plan) -> Iterator[Finding]:
    """A value that its argument cannot take.

    A rate in quotation marks is a text, and a number of epochs below zero is none: the run stops,
    some of them minutes after the model was loaded.
    """
    for argument, value in plan.invalid.items():
        if _is_fine_in_transformers(argument, value):
            continue
        # A field of the launched script's own has values of its own.
        if plan.written.form.language == "flags" and argument in plan.written.fields:
            continue
        # No epoch is counted where there are steps.
        has_steps = plan.has("max_steps") and plan.recipe.max_steps > 0
        if argument == "num_train_epochs" and value == 0 and has_steps:
            continue
        # What another tool takes for its adapter is its own matter: a list of layers, a text.
        if plan.written.tool and argument in (*ADAPTER, *QUANTIZATION):
            continue
        expected = CARDS[argument].expected
        hint = ""
        changes = {argument: LEAVE_OUT}
        if isinstance(value, str):
            hint = did_you_mean(value, expected.removeprefix("one of ").split(", "))
            meant = _meant(argument, value)
            if meant is not None:
                changes = {argument: meant}
        word = plan.written.form.word(argument)
        written = plan.written.form.value(value)
        if isinstance(value, str) and '"' not in written:
            written = f'"{written}"'
        yield Finding(
            severity="error",
            argument=argument,
            message=f"{word} is {written}{_of_what_kind(argument, value)}{hint}",
            changes=changes,
            advice=f"it takes {expected}",
            evidence={"value": repr(value)},
        )
    yield from _unknown_optimizer(plan)


def _is_fine_in_transformers(argument: str, value) -> bool:
    # A text of JSON is read, and True is no number that anybody counts with.
    if CARDS[argument].expected == ACCEPTED["table or none"].expected and isinstance(value, str):
        return value.lstrip().startswith("{")
    # Below zero it saves at the end alone, and keeps all.
    if argument in ("save_steps", "save_total_limit") and isinstance(value, int) and value < 0:
        return True
    if argument in ("bf16", "fp16") and value in (0, 1):
        return True
    known = [fine for name, fine in FINE_IN_TRANSFORMERS if name == argument]
    return any(value == fine and type(value) is type(fine) for fine in known)


def _meant(argument: str, text: str):
    """What a text in place of another kind of value was meant to be, None where nobody knows."""
    card = CARDS[argument]
    words = {"true": True, "false": False, "none": None}
    candidates = [words[text.lower()]] if text.lower() in words else []
    for kind in (int, float):
        try:
            candidates.append(kind(text))
        except ValueError:
            pass
    candidates.append(nearest(text, card.expected.removeprefix("one of ").split(", ")))
    for candidate in candidates:
        if card.valid(candidate):
            return candidate
    return None


def _of_what_kind(argument: str, value) -> str:
    """What is wrong with a value that looks right: a number in quotation marks, a bare `no`."""
    if isinstance(value, str) and _meant(argument, value) is not None:
        if not isinstance(_meant(argument, value), str):
            return ", a text"
    if value is False and CARDS[argument].valid("no"):
        return ", as YAML reads a bare no"
    return ""


def _unknown_optimizer(plan: Plan) -> Iterator[Finding]:
    # A Recipe takes any text for optim, because the names are transformers' to tell.
    optim = plan.given.get("optim")
    written = plan.written
    if optim is None or "optim" in plan.invalid or optim in optimizer_names():
        return
    # Another version, Unsloth and axolotl have names of their own.
    version = version_in_force("transformers", written.pins)
    knows_another = version.pinned or not version.text or written.unsloth
    if not plan.live and (knows_another or written.origin not in ("transformers", "trl")):
        return
    near = nearest(optim, optimizer_names())
    changes = {"optim": near or LEAVE_OUT}
    yield Finding(
        severity="error",
        argument="optim",
        message=f"transformers has no optimizer {optim}{did_you_mean(optim, optimizer_names())}",
        changes=changes,
        advice="adamw_torch_fused is the default",
        evidence={"value": repr(optim)},
    )


@rule(
    "polynomial-below-end",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "learning_rate",
    notebook="02",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", lr_scheduler_type="polynomial", learning_rate=1e-8)
""",
)
def polynomial_below_end(plan: Plan) -> Iterator[Finding]:
    """The polynomial's end lies above its start.

    The schedule falls from the learning rate to lr_end, 1e-7 where nobody says another, and
    transformers refuses one that would have to rise.
    """
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
            changes={"lr_scheduler_kwargs": kwargs | {"lr_end": rate / 10}},
            advice="or a higher learning_rate",
            evidence={"lr_end": lowest, "learning_rate": rate},
        )


@rule(
    "measured-without-evaluation",
    "lr_scheduler_type",
    "eval_strategy",
    notebook="02",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", lr_scheduler_type="reduce_lr_on_plateau")
""",
)
def measured_without_evaluation(plan: Plan) -> Iterator[Finding]:
    """A schedule that follows measured losses, in a run that measures none.

    reduce_lr_on_plateau and greedy change the rate when an evaluation is no better than the last:
    transformers refuses them where there are 0 evaluations.
    """
    schedule = plan.recipe.lr_scheduler_type
    if schedule in MEASURED and plan.value("eval_strategy") == "no":
        yield Finding(
            severity="error",
            argument="lr_scheduler_type",
            message=f"{schedule} follows evaluation losses, and there are 0 evaluations: it stops",
            changes={"eval_strategy": "epoch"},
            evidence={"evaluations": 0},
        )


@rule(
    "seed-after-model",
    "seed",
    notebook="06",
    example="""\
from transformers import AutoModelForSequenceClassification, TrainingArguments

model = AutoModelForSequenceClassification.from_pretrained("org/m", num_labels=3)
args = TrainingArguments("out", seed=3407)
""",
)
def seed_after_model(plan: Plan) -> Iterator[Finding]:
    """Random weights are drawn before the seed is set.

    The Trainer sets the seed when it is made. A new head or adapter has its random weights by then,
    and so two runs with one seed start from different models.
    """
    unseeded = plan.written.unseeded
    seed = plan.recipe.seed
    # A launch line may give another one, and the same is to be set for the weights.
    whose = "the run's seed" if "seed" in plan.written.optional else seed
    if unseeded and "seed" in plan.given:
        yield Finding(
            severity="warning",
            argument="seed",
            message=(
                f"{unseeded} draws random weights before the Trainer sets seed {seed}: "
                "two runs start from different weights"
            ),
            advice=f"put transformers.set_seed({whose}) before it",
            evidence={"seed": seed},
        )
