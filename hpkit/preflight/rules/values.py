"""Rules about values: what an argument refuses, and what does nothing beside another."""

import math
import re
from collections.abc import Iterator

from hpkit.errors import did_you_mean
from hpkit.formatting import shown, shown_rate
from hpkit.hyperparameters import ACCEPTED, CARDS
from hpkit.preflight.forms import LEAVE_OUT
from hpkit.preflight.libraries import TRANSFORMERS_ARGUMENTS, optimizer_names, version_in_force
from hpkit.preflight.plan import RATE_ARGUMENTS, Plan
from hpkit.preflight.register import Finding, rule
from hpkit.recipe import Recipe
from hpkit.schedules import MEASURED, WITHOUT_WARMUP

#: Right in transformers, though no Recipe takes it. With 0 it saves, and evaluates, in its own way.
FINE_IN_TRANSFORMERS = (
    ("save_strategy", "best"),
    ("max_steps", 0),
    ("save_steps", 0),
    ("eval_steps", 0),
    ("save_total_limit", 0),
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
    near = did_you_mean(text, card.expected.removeprefix("one of ").split(", "))
    candidates.append(near.removeprefix(" (did you mean ").removesuffix("?)"))
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
    knows_another = version_in_force("transformers", written.pins).pinned or written.unsloth
    if not plan.live and (knows_another or written.origin not in ("transformers", "trl")):
        return
    near = did_you_mean(optim, optimizer_names())
    changes = {"optim": LEAVE_OUT}
    if near:
        changes = {"optim": near.removeprefix(" (did you mean ").removesuffix("?)")}
    yield Finding(
        severity="error",
        argument="optim",
        message=f"transformers has no optimizer {optim}{near}",
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


# Values that do nothing, or not what they are there for, beside another.


@rule(
    "constant-with-warmup",
    "lr_scheduler_type",
    "warmup_steps",
    notebook="02",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", lr_scheduler_type="constant", warmup_steps=100)
""",
)
def constant_with_warmup(plan: Plan) -> Iterator[Finding]:
    """A schedule that ignores warmup.

    `constant` means from the first update on; the schedule that rises first has a name of its own,
    constant_with_warmup.
    """
    schedule = plan.recipe.lr_scheduler_type
    warmup = plan.recipe.warmup_steps
    if schedule not in WITHOUT_WARMUP or warmup == 0:
        return
    changes = {"lr_scheduler_type": "constant_with_warmup"}
    if schedule in MEASURED:  # no other schedule does what they do
        changes = {"warmup_steps": 0}
    yield Finding(
        severity="warning",
        argument="lr_scheduler_type",
        message=(
            f"the schedule {schedule} ignores "
            f"{_word(plan, 'warmup_steps')} {shown(warmup)}: "
            "the first update has the full learning rate"
        ),
        changes=changes,
        evidence={"warmup_steps": warmup},
    )


def _word(plan: Plan, argument: str) -> str:
    """The name under which the file has an argument."""
    return plan.written.form.word(plan.renamed.get(argument, argument))


@rule(
    "epochs-idle",
    "max_steps",
    notebook="04",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", num_train_epochs=3, max_steps=500)
""",
)
def epochs_idle(plan: Plan) -> Iterator[Finding]:
    """A number of epochs that does nothing, because max_steps counts.

    transformers trains max_steps updates wherever there is such a number, over the data again and
    again or over a part of them, and reads num_train_epochs no more.
    """
    steps = plan.recipe.max_steps
    # Live arguments and recipes have a value for each; only who writes both may have meant both.
    if plan.live or steps <= 0 or "num_train_epochs" not in plan.named:
        return
    epochs = plan.given.get("num_train_epochs")
    # Files of settings write out what is the default anyway, and axolotl reads both.
    if plan.written.tool and (epochs == 1 or plan.written.origin == "axolotl"):
        return
    shown_epochs = f" {epochs}" if isinstance(epochs, (int, float)) else ""
    yield Finding(
        severity="hint",
        argument="num_train_epochs",
        message=(
            f"{_word(plan, 'max_steps')} {steps:,} counts, and "
            f"{_word(plan, 'num_train_epochs')}{shown_epochs} does nothing"
        ),
        changes={"num_train_epochs": LEAVE_OUT},
        advice="or leave out max_steps, if epochs were meant",
        evidence={"max_steps": steps},
    )


@rule(
    "evaluation-idle",
    "eval_strategy",
    notebook="10",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", eval_steps=100)
""",
)
def evaluation_idle(plan: Plan) -> Iterator[Finding]:
    """An interval of evaluations in a run that evaluates never.

    eval_steps says how often, and eval_strategy whether: its default is `no`, and so the run ends
    without one evaluation.
    """
    if plan.live or plan.value("eval_strategy") != "no" or not plan.given.get("eval_steps"):
        return
    every = plan.given["eval_steps"]
    form = plan.written.form
    yield Finding(
        severity="warning",
        argument="eval_steps",
        message=(
            f"{_word(plan, 'eval_steps')} {shown(every)} does nothing: "
            "eval_strategy is no, and there are 0 evaluations"
        ),
        changes={"eval_steps": LEAVE_OUT},
        advice=f"or set {form.setting('eval_strategy', 'steps')}, with rows to evaluate on",
        evidence={"evaluations": 0},
    )


#: Up to here a script's weight decay is not worth a word.
HABIT = 0.1


@rule(
    "weight-decay-negligible",
    "counts",
    "weight_decay",
    *RATE_ARGUMENTS,
    notebook="05",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", weight_decay=0.5, learning_rate=2e-5, max_steps=500)
""",
)
def weight_decay_negligible(plan: Plan) -> Iterator[Finding]:
    """All updates together shrink no weight by a hundredth.

    AdamW multiplies a weight by 1 - rate x decay at each update: with a rate of 2e-5 and a decay of
    0.01 a thousand updates take 0.02 %. Of an adapter nothing is said.
    """
    decay = plan.recipe.weight_decay
    rates = plan.counts.learning_rates[:-1]  # no update uses the last one
    if decay == 0 or not rates or plan.trains_adapter or plan.written.unsloth:
        return
    # The 0.01 of most scripts is a habit that does no harm.
    if not plan.live and decay <= HABIT:
        return
    # AdamW multiplies a weight by 1 - rate x decay at each update, whatever its gradient.
    shrunk = 1 - math.prod(1 - rate * decay for rate in rates)
    # A negative share is a decay so large that weights change their sign.
    if not 0 <= shrunk < 0.01:
        return
    needed = math.inf
    if shrunk:
        needed = decay * 0.01 / shrunk
    advice = "which does the same"
    if needed < 10:
        advice += f"; about {needed:.2g} would take 1 %"
    yield Finding(
        severity="hint",
        argument="weight_decay",
        message=(
            f"weight_decay {decay:g} shrinks a weight by {100 * shrunk:.2g} % "
            f"in all {len(rates):,} updates together"
        ),
        changes={"weight_decay": 0.0},
        advice=advice,
        evidence={"shrunk": shrunk, "updates": len(rates)},
    )


#: How far a script's batch may be from transformers' default of 8 before its default rate is
#: asked about. Few have thought of both.
FACTOR_OF_DEFAULTS = 16


@rule(
    "batch-without-rate",
    "learning_rate",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    notebook="03",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", gradient_accumulation_steps=32)
""",
)
def batch_without_rate(plan: Plan) -> Iterator[Finding]:
    """The effective batch changed, and the learning rate did not.

    The mean of more examples is a surer direction, along which a longer step pays; with Adam by
    about the square root of the batches' ratio.
    """
    base = _compared_with(plan)
    if base is None:
        return
    recipe = plan.recipe
    now = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * plan.processes
    before = base.per_device_train_batch_size * base.gradient_accumulation_steps
    factor = 4 if plan.live else FACTOR_OF_DEFAULTS
    if recipe.learning_rate != base.learning_rate or 1 / factor < now / before < factor:
        return
    rate = recipe.learning_rate * math.sqrt(now / before)
    yield Finding(
        severity="warning",
        argument="learning_rate",
        message=(
            f"an update sees {now:,} examples instead of {before:,}, "
            f"and the learning rate is still {shown_rate(base.learning_rate)}"
        ),
        changes={"learning_rate": float(f"{rate:.2g}")},
        advice="the square root rule for Adam (arXiv 2205.10287); and try its neighbours",
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


#: Losses that compare two answers; they move a model much further at the same rate.
PREFERENCE = ("DPOConfig", "ORPOConfig", "CPOConfig", "KTOConfig")
#: Losses that imitate a text. Those of GRPO and its like want smaller rates, of adapters as well.
IMITATION = ("TrainingArguments", "Seq2SeqTrainingArguments", "SFTConfig")
#: The highest usual rate of AdamW, by what is trained: the model cards and recipes of TRL, axolotl,
#: the alignment handbook and LLaMA-Factory are all below.
HIGHEST = {
    "all weights": 1e-3,
    "all weights of a billion and more": 5e-4,
    "all weights of three billion and more": 1e-4,
    "all weights by preferences": 5e-5,
    "an adapter by preferences": 5e-4,
}
#: The lowest usual rate of an adapter, a tenth of what LoRA needs (Schulman et al., LoRA Without
#: Regret, 2025: about ten times the full fine-tune's).
LOWEST_OF_ADAPTERS = 1e-5


@rule(
    "rate-far-off",
    "learning_rate",
    "model_name",
    notebook="01",
    example="""\
base_model: org/Model-8B
datasets: [{path: org/d, type: alpaca}]
micro_batch_size: 2
num_epochs: 1
learning_rate: 3e-4
""",
)
def rate_far_off(plan: Plan) -> Iterator[Finding]:
    """A learning rate ten times outside of what is usual for such a run.

    A full fine-tune of a model of billions takes 1e-5, an adapter ten times as much, and a loss
    that compares answers a tenth. Taken over from one to another the run diverges, or learns
    nothing.
    """
    # An adapter that no model gets is a fault of its own, which the rate does not add to.
    if plan.live or not _is_adam(plan) or plan.written.around.idle_adapter:
        return
    rate = plan.recipe.learning_rate
    what = _what_is_trained(plan)
    imitates = plan.written.name in IMITATION
    if plan.trains_adapter and imitates and rate < LOWEST_OF_ADAPTERS:
        yield Finding(
            severity="warning",
            argument="learning_rate",
            message=(
                f"learning_rate {shown_rate(rate)} for an adapter, which needs about ten times the "
                "rate of a full fine-tune: it hardly moves"
            ),
            changes={"learning_rate": 1e-4},
            advice="and try its neighbours",
            evidence={"learning_rate": rate, "usual": LOWEST_OF_ADAPTERS},
        )
    if what is not None and rate > HIGHEST[what]:
        yield Finding(
            severity="warning",
            argument="learning_rate",
            message=(
                f"learning_rate {shown_rate(rate)} for {what}, where {shown_rate(HIGHEST[what])} "
                "is the most that is usual"
            ),
            changes={"learning_rate": HIGHEST[what] / 10},
            advice="and try its neighbours",
            evidence={"learning_rate": rate, "usual": HIGHEST[what]},
        )


def _is_adam(plan: Plan) -> bool:
    """Rates of other optimizers, Lion's or GaLore's, are of another size."""
    optim = str(plan.given.get("optim", "adamw_torch"))
    return "adam" in optim and "galore" not in optim and "apollo" not in optim


def _what_is_trained(plan: Plan) -> str | None:
    """A key of HIGHEST; None where nobody can tell, or rates vary too much."""
    written = plan.written
    model = written.around.model or ""
    by_preferences = written.name in PREFERENCE
    if plan.trains_adapter:
        return "an adapter by preferences" if by_preferences else None
    # Unsloth trains adapters; a script of one's own may, without a word in its settings.
    is_own_script = (
        bool(written.tool) and written.has_own_fields and written.origin == "transformers"
    )
    if written.unsloth or is_own_script or "t5" in model.lower():
        return None
    if by_preferences:
        return "all weights by preferences"
    if written.name not in IMITATION:
        return None
    if _billions(model) >= 3:
        return "all weights of three billion and more"
    if _billions(model) >= 1:
        return "all weights of a billion and more"
    return "all weights" if written.origin in ("transformers", "trl") else None


def _billions(model: str) -> float:
    """The size in a model's name, as 8 of Llama-3.1-8B; 0 where there is none."""
    found = re.findall(r"(?<![\d._])(\d+(?:[._]\d+)?)[bB](?![a-zA-Z])", model)
    return max((float(size.replace("_", ".")) for size in found), default=0)


@rule(
    "embedding-rate-high",
    "learning_rate",
    "embedding_learning_rate",
    notebook="01",
    example="""\
from unsloth import UnslothTrainingArguments

args = UnslothTrainingArguments("out", learning_rate=5e-5, embedding_learning_rate=5e-4)
""",
)
def embedding_rate_high(plan: Plan) -> Iterator[Finding]:
    """The embeddings' own learning rate is above that of the rest.

    It is there to be smaller, two to ten times (Unsloth's guide to continued pre-training): a row
    of the embedding moves only where its token comes, and a long step ruins it.
    """
    rate = plan.value("embedding_learning_rate")
    if isinstance(rate, float) and rate > plan.recipe.learning_rate:
        yield Finding(
            severity="warning",
            argument="embedding_learning_rate",
            message=(
                f"embedding_learning_rate {shown_rate(rate)} is "
                f"{rate / plan.recipe.learning_rate:.2g} times learning_rate "
                f"{shown_rate(plan.recipe.learning_rate)}"
            ),
            changes={"embedding_learning_rate": plan.recipe.learning_rate / 5},
            advice="it is there to be smaller",
            evidence={"embedding_learning_rate": rate},
        )


@rule(
    "generation-idle",
    notebook="10",
    example="""\
from transformers import Seq2SeqTrainingArguments

args = Seq2SeqTrainingArguments("out", eval_strategy="epoch", generation_num_beams=4)
""",
)
def generation_idle(plan: Plan) -> Iterator[Finding]:
    """Settings of generation in a run that generates nothing.

    Seq2SeqTrainer generates in evaluations where predict_with_generate is true. Its default is
    false: then compute_metrics gets logits, and beams and lengths do nothing.
    """
    if plan.live or plan.written.name != "Seq2SeqTrainingArguments":
        return
    idle = [name for name in plan.given if name.startswith("generation_") and plan.given[name]]
    knows_all = not any(name.startswith("*") for name in plan.written.unread)
    if not idle or not knows_all or "predict_with_generate" in plan.named:
        return
    yield Finding(
        severity="warning",
        argument="predict_with_generate",
        message=(
            f"{', '.join(idle)} {plan.given[idle[0]]} does nothing: predict_with_generate is "
            "false, and evaluations generate nothing"
        ),
        changes={"predict_with_generate": True},
        advice=f"or leave out {', '.join(idle)}",
        evidence={"idle": idle},
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
    if unseeded and "seed" in plan.given:
        yield Finding(
            severity="warning",
            argument="seed",
            message=(
                f"{unseeded} draws random weights before the Trainer sets seed {seed}: "
                "two runs start from different weights"
            ),
            advice=f"put transformers.set_seed({seed}) before it",
            evidence={"seed": seed},
        )
