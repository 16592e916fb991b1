"""Rules about settings that do nothing, or not what they are there for, beside another."""

import math
from collections.abc import Iterator

from hpkit.formatting import shown
from hpkit.preflight.forms import LEAVE_OUT
from hpkit.preflight.plan import RATE_ARGUMENTS, Plan
from hpkit.preflight.register import Finding, rule
from hpkit.schedules import MEASURED, WITHOUT_WARMUP


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
    if {"max_steps", "num_train_epochs"} & plan.written.explained:
        return
    epochs = plan.given.get("num_train_epochs")
    # Files of settings write out what is the default anyway, and axolotl reads both.
    if plan.written.tool and (epochs in (0, 1) or plan.written.origin == "axolotl"):
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
    if plan.written.around.own_loop:
        return
    every = plan.given["eval_steps"]
    form = plan.written.form
    # Who writes both means that it is off, and keeps the interval for another time.
    if plan.is_told("eval_strategy") or plan.given.get("do_eval") is False:
        return
    strategy = plan.renamed.get("eval_strategy") or plan.name_in_force("eval_strategy")
    yield Finding(
        severity="warning",
        argument="eval_steps",
        message=(
            f"{_word(plan, 'eval_steps')} {shown(every)} does nothing: "
            f"{form.word(strategy)} is no, and there are 0 evaluations"
        ),
        changes={"eval_steps": LEAVE_OUT},
        advice=f"or set {form.setting(strategy, 'steps')}, with rows to evaluate on",
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
    if "adam" not in plan.recipe.optim:
        return  # others take decay off in other ways
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
    if plan.live or plan.written.name != "Seq2SeqTrainingArguments" or not plan.written.origin:
        return
    if plan.written.around.own_loop:
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
        changes=dict.fromkeys(idle, LEAVE_OUT),
        advice=f"or set {plan.written.form.setting('predict_with_generate', True)}",
        evidence={"idle": idle},
    )
