"""Rules about learning rates: how large, for what is trained and how much of it an update sees."""

import math
import re
from collections.abc import Iterator

from hpkit.formatting import shown_rate
from hpkit.preflight.libraries import TRANSFORMERS_ARGUMENTS
from hpkit.preflight.plan import Plan
from hpkit.preflight.register import Finding, rule
from hpkit.recipe import Recipe

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


#: axolotl's words, of today and of before, for a model that begins with random weights.
FROM_SCRATCH = ("reinit_weights", "random_init_weights")


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
    """A learning rate far above, or far below, what is usual for such a run.

    A full fine-tune of a model of billions takes 1e-5, an adapter ten times as much, and a loss
    that compares answers a tenth. Taken over from one to another the run diverges, or learns
    nothing.
    """
    # An adapter that no model gets is a fault of its own, which the rate does not add to.
    if plan.live or not _is_adam(plan) or plan.written.around.idle_adapter:
        return
    if any(plan.given.get(word) for word in FROM_SCRATCH):
        return
    rate = plan.recipe.learning_rate
    what = _what_is_trained(plan)
    if plan.trains_adapter and _imitates(plan) and rate < LOWEST_OF_ADAPTERS:
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


#: Arguments that nobody gives who means to evaluate alone.
MEANS_TO_TRAIN = ("num_train_epochs", "max_steps", "per_device_train_batch_size")
#: The largest default of the classes of IMITATION, transformers'.
DEFAULT_RATE = 5e-5


@rule(
    "adapter-default-rate",
    "adapter",
    notebook="12",
    example="""\
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = get_peft_model(AutoModelForCausalLM.from_pretrained("org/m"), LoraConfig(r=16))
args = TrainingArguments("out", num_train_epochs=3)
trainer = Trainer(model=model, args=args, train_dataset=rows)
""",
)
def adapter_default_rate(plan: Plan) -> Iterator[Finding]:
    """An adapter is trained at the rate that the library has for a full fine-tune.

    Nobody wrote a learning_rate: transformers takes 5e-5 then, TRL 2e-5. Both are meant for all
    weights, and an adapter wants about ten times as much (Schulman et al., LoRA Without Regret,
    2025). Of a rate that is written down nothing is said.
    """
    if _adapter_keeps_default(plan):
        yield Finding(
            severity="hint",
            argument="learning_rate",
            message=(
                f"learning_rate is not set, and the default, at most {shown_rate(DEFAULT_RATE)}, "
                "is a full fine-tune's: an adapter wants about ten times as much"
            ),
            changes={"learning_rate": 2e-4},
            advice="and try its neighbours",
            evidence={"default": DEFAULT_RATE},
        )


def _adapter_keeps_default(plan: Plan) -> bool:
    """Does a script train an adapter by imitation, and leave the rate to the library?"""
    written = plan.written
    around = written.around
    if plan.live or plan.is_trial or written.tool or written.unsloth or around.idle_adapter:
        return False
    if around.adapter is None or around.soft_prompt or not _is_adam(plan):
        return False
    if not _imitates(plan):
        return False
    if written.origin not in ("transformers", "trl") or "learning_rate" in plan.given:
        return False
    is_told = not any(name == "learning_rate" or name[0] == "*" for name in written.unread)
    return is_told and any(name in plan.given for name in MEANS_TO_TRAIN)


def _imitates(plan: Plan) -> bool:
    """Is it a text that the run learns to go on with? TRL's trainers once took plain arguments."""
    written = plan.written
    may_be_another = written.around.other_loss and written.name in TRANSFORMERS_ARGUMENTS
    return written.name in IMITATION and not may_be_another


def _is_adam(plan: Plan) -> bool:
    """Rates of other optimizers, Lion's or GaLore's, are of another size."""
    optim = str(plan.given.get("optim", "adamw_torch"))
    return "adam" in optim and "galore" not in optim and "apollo" not in optim


def _what_is_trained(plan: Plan) -> str | None:
    """A key of HIGHEST; None where nobody can tell, or rates vary too much."""
    written = plan.written
    model = written.around.model_name or ""
    by_preferences = written.name in PREFERENCE
    if plan.trains_adapter:
        return "an adapter by preferences" if by_preferences else None
    # Unsloth trains adapters; a script of one's own may, without a word in its settings.
    is_own_script = (
        bool(written.tool) and written.has_own_fields and written.origin in ("transformers", "")
    )
    if written.unsloth or is_own_script or "t5" in model.lower():
        return None
    if by_preferences:
        return "all weights by preferences"
    if not _imitates(plan):
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
    # There the default is wrong for any batch.
    if _adapter_keeps_default(plan):
        return
    if base is None or not _is_adam(plan):
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
