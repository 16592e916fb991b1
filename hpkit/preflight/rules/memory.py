"""Rules about bytes and tokens: optimizer states, sequence length, and what the device holds."""

import math
from collections.abc import Iterator

from hpkit.capability import EIGHT_BIT_ADAMW
from hpkit.formatting import shown_bytes
from hpkit.memory import (
    Memory,
    Parameter,
    state_bytes,
    trained_dtype,
    without_activations,
)
from hpkit.preflight.libraries import training_argument_names
from hpkit.preflight.plan import WEIGHT_FORMATS, Plan
from hpkit.preflight.register import Finding, rule

# The optimizer's states.


@rule(
    "paged-on-cpu",
    "machine",
    "optim",
    notebook="09",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", optim="paged_adamw_8bit")
""",
    options="--device cpu",
)
def paged_on_cpu(plan: Plan) -> Iterator[Finding]:
    """Paging moves states out of GPU memory, of which there is none.

    The paged optimizers of bitsandbytes lend the GPU the machine's own memory when it is full.
    """
    optim = plan.value("optim")
    if "paged" in optim and plan.machine.device != "cuda":
        yield Finding(
            severity="warning",
            argument="optim",
            message=(
                f"{optim} moves optimizer states out of GPU memory when it is full, "
                f"and {plan.machine.name} has 0 bytes of it"
            ),
            changes={"optim": optim.removeprefix("paged_")},
            evidence={"gpu_bytes": 0},
        )


@rule(
    "8bit-saves-little",
    "model",
    "optim",
    notebook="09",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", optim="adamw_8bit")
""",
    options="--model starter",
)
def eight_bit_saves_little(plan: Plan) -> Iterator[Finding]:
    """Most of what the run holds stays at 32 bits.

    bitsandbytes keeps 8 bits of a state only in tensors of 4,096 elements or more, and the Trainer
    leaves embeddings at 32. In a small model that is most of it, and activations are the rest.
    """
    if plan.trains_adapter and not plan.ours:
        return
    if plan.recipe.optim not in EIGHT_BIT_ADAMW or plan.dtype not in WEIGHT_FORMATS:
        return
    trained = [parameter for parameter in plan.parameters if parameter.trained]
    dtype = trained_dtype(plan.recipe.replace(dtype=plan.dtype))
    held = state_bytes(trained, plan.recipe.optim, dtype)
    plain = state_bytes(trained, "adamw_torch", dtype)
    total = _total_with_plain_adamw(plan, plain)
    saved = plain - held
    if saved >= 0.1 * total:
        return
    count = sum(parameter.elements for parameter in trained)
    yield Finding(
        severity="hint",
        argument="optim",
        message=(
            f"8-bit states save {_saved(saved, total)} of the {shown_bytes(total)} that the run "
            f"needs with AdamW: {_why_so_little(plan, trained)}"
        ),
        changes={"optim": "adamw_torch_fused"},
        advice="which is faster",
        evidence={"bytes_per_parameter": held / count, "saved": saved, "of": total},
    )


def _saved(saved: int, total: int) -> str:
    # The blocks' own maxima can take more than the bits that are saved.
    if saved <= 0:
        return f"nothing (they take {shown_bytes(-saved)} more)"
    return f"{shown_bytes(saved)}, {saved / total:.0%}"


def _total_with_plain_adamw(plan: Plan, states: int) -> int:
    """Bytes of the fine-tune with AdamW's `states`, without activations that nobody predicts."""
    if plan.memory:
        return plan.memory.total - plan.memory.optimizer + states
    recipe = plan.recipe.replace(dtype=plan.dtype)
    held = without_activations(plan.parameters, recipe)
    return held.total - held.optimizer + states


def _why_so_little(plan: Plan, trained: list[Parameter]) -> str:
    # bitsandbytes leaves tensors under 4,096 elements at 32 bits, and the Trainer embeddings.
    full = 0
    for parameter in trained:
        if parameter.embedding or parameter.elements < 4096:
            full += parameter.elements
    share = full / sum(parameter.elements for parameter in trained)
    reasons = []
    if share >= 0.01:
        reasons.append(
            f"{share:.0%} of what trains, embeddings and small tensors, stays at 32 bits"
        )
    if plan.recipe.lora_r is not None:
        reasons.append("what is frozen has no states")
    if plan.memory and plan.memory.activations:
        reasons.append(f"activations take {shown_bytes(plan.memory.activations)}")
    return ", and ".join(reasons)


# The length of a sequence.


@rule(
    "length-beyond-data",
    "lengths",
    notebook="11",
    example="""\
from trl import SFTConfig

args = SFTConfig("out", max_length=4096)
""",
    options="--corpus airdsAirs",
)
def length_beyond_data(plan: Plan) -> Iterator[Finding]:
    """Hardly a document is as long as a sequence may be.

    What a batch is padded to is computed like text, and nothing is learnt from it.
    """
    limit = plan.max_length
    lengths = sorted(plan.lengths)
    if not limit or not lengths:
        return
    at_99_percent = math.ceil(0.99 * len(lengths)) - 1
    long = lengths[at_99_percent]
    if limit <= 2 * long:
        return
    filled = sum(min(length, limit) for length in lengths) / (limit * len(lengths))
    yield Finding(
        severity="warning",
        argument=plan.length_argument,
        message=(
            f"{limit} tokens a sequence, and 99 % of the documents have at most {long}: "
            f"{1 - filled:.0%} would be padding"
        ),
        changes={plan.length_argument: long},
        advice="or pack",
        evidence={"p99": long, "padding": 1 - filled},
    )


@rule(
    "length-cuts-tokens",
    "lengths",
    notebook="11",
    example="""\
from trl import SFTConfig

args = SFTConfig("out", max_length=16)
""",
    options="--corpus airdsAirs",
)
def length_cuts_tokens(plan: Plan) -> Iterator[Finding]:
    """Documents are longer than a sequence may be.

    What stands beyond is cut off and never learnt; of an answer it is the end.
    """
    limit = plan.max_length
    tokens = sum(plan.lengths)
    if not limit or not tokens:
        return

    def share_beyond(length: int) -> float:
        return sum(max(document - length, 0) for document in plan.lengths) / tokens

    cut = share_beyond(limit)
    if cut <= 0.01:
        return
    if plan.ours:
        # hpkit packs: what stands beyond comes in a sequence of its own.
        severity = "hint"
        becomes = "follow in another sequence, apart"
    else:
        severity = "warning"
        becomes = "are cut off"
    enough = next(length for length in sorted(plan.lengths) if share_beyond(length) <= 0.01)
    changes = {plan.length_argument: enough}
    advice = ""
    if plan.context and enough > plan.context:
        changes = {}
        advice = (
            f"the model's context is {plan.context} tokens and {enough} would be needed: "
            "cut the documents where they make sense"
        )
    yield Finding(
        severity=severity,
        argument=plan.length_argument,
        message=(
            f"{cut:.1%} of the tokens stand beyond token {limit} of their document and {becomes}"
        ),
        changes=changes,
        advice=advice,
        evidence={"cut": cut, "enough": enough},
    )


# The device.


@rule(
    "memory-over-free",
    "memory",
    "machine",
    "per_device_train_batch_size",
    "optim",
    "bf16",
    "fp16",
    notebook="09",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", optim="adamw_torch")
""",
    options="--model 7B --device t4",
)
def memory_over_free(plan: Plan) -> Iterator[Finding]:
    """The run needs more memory than the machine has free.

    A full fine-tune holds weights, gradients and AdamW's two states of each parameter, 16 bytes in
    fp32, and the activations of a batch beside them.
    """
    held = plan.memory
    free = plan.machine.memory_free
    # None of a machine that was not looked at.
    if free is None or held.total <= free:
        return
    parts = held._asdict()
    shown_parts = ", ".join(f"{part} {shown_bytes(size)}" for part, size in parts.items() if size)
    yield Finding(
        severity="error",
        argument="per_device_train_batch_size",
        message=(
            f"{_what_trains(plan)} needs {shown_bytes(held.total)} ({shown_parts}), "
            f"and {plan.machine.name} has {shown_bytes(free)} free"
        ),
        **_what_fits(plan, held, free),
        evidence=parts | {"free": free},
    )


def _what_trains(plan: Plan) -> str:
    """What the run is, in words."""
    recipe = plan.whole_recipe
    if recipe.lora_r is None:
        return "a full fine-tune"
    beside = " beside weights of 4 bits" if recipe.load_in_4bit else ""
    return f"a fine-tune of an adapter of rank {recipe.lora_r}{beside}"


def _smaller(plan: Plan) -> Iterator[str]:
    """What would hold less of the same model, with what it would take."""
    recipe = plan.whole_recipe
    if recipe.lora_r is not None:
        if not recipe.load_in_4bit:
            yield f"load_in_4bit ({_needed(plan, load_in_4bit=True)})"
        return
    if recipe.optim not in EIGHT_BIT_ADAMW:
        yield "optim=adamw_8bit"
    yield f"LoRA (of rank 16 {_needed(plan, lora_r=16)})"
    yield f"QLoRA ({_needed(plan, lora_r=16, load_in_4bit=True)})"


def _needed(plan: Plan, **changes) -> str:
    """What the run would take with these changes."""
    recipe = plan.whole_recipe.replace(**changes)
    return shown_bytes(plan.model.predictor.predict(recipe).total)


def _what_fits(plan: Plan, held: Memory, free: int) -> dict:
    """Changes and advice: the batch that fits, for activations grow with it; else fewer of them;
    else a smaller run.
    """
    recipe = plan.recipe
    batch = recipe.per_device_train_batch_size
    left = free - (held.total - held.activations)
    if left <= 0:
        ways = [*_smaller(plan), "a smaller model, or a larger device"]
        return dict(advice=f"no batch fits: take {', '.join(ways)}")
    # Something is left and yet it does not fit, so there are activations.
    fits = math.floor(batch * left / held.activations)
    if fits:
        changes = {
            "per_device_train_batch_size": fits,
            "gradient_accumulation_steps": math.ceil(batch / fits),
        }
        return dict(changes=changes, advice="for about the same update")
    recompute = "gradient_checkpointing"
    if "activation_checkpointing" in training_argument_names():
        recompute = plan.name_in_force("activation_checkpointing")
    return dict(
        advice=f"set max_seq_length lower, or {recompute}=True in TrainingArguments, "
        "which computes activations twice and keeps few"
    )
