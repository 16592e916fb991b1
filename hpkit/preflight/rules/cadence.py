"""Rules about what happens every so many updates: logs, evaluations, checkpoints."""

from collections.abc import Iterator

from hpkit.formatting import shown
from hpkit.preflight.plan import Plan
from hpkit.preflight.register import Finding, rule
from hpkit.preflight.rules.updates import FEW_UPDATES
from hpkit.recipe import Recipe


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
    shows no loss at all. A script that says nothing may not look for it.
    """
    is_left_alone = not plan.live and "logging_steps" not in plan.given
    updates = plan.counts.updates
    every = plan.recipe.logging_steps
    if plan.value("logging_first_step"):
        return
    # Of a short run whose script leaves the interval alone the loss is not looked for.
    if is_left_alone and updates < FEW_UPDATES:
        return
    if plan.recipe.logging_strategy == "steps" and not plan.counts.log_at:
        yield Finding(
            severity="hint" if is_left_alone else "warning",
            argument="logging_steps",
            message=(
                f"logging_steps {shown(every)} lies beyond the run's {updates:,} updates: "
                "no training loss is logged on the way"
            ),
            changes={"logging_steps": max(updates // 20, 1)},
            advice=f"a twentieth of {updates:,} updates",
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
    if plan.is_trial:
        return
    every = _evaluates_every(recipe)
    if recipe.eval_strategy == "steps" and every > updates > 1 and not plan.value("eval_on_start"):
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
            advice=f"a tenth of {updates:,} updates",
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
            advice=f"a quarter of {updates:,} updates",
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
