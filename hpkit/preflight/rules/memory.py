"""Rules about bytes and tokens: optimizer states, sequence length, and what the device holds."""

import math
from collections.abc import Iterator

from hpkit.capability import EIGHT_BIT_ADAMW
from hpkit.formatting import shown_bytes
from hpkit.memory import Memory, state_bytes, weight_bytes
from hpkit.preflight.arguments import training_argument_names
from hpkit.preflight.plan import WEIGHT_FORMATS, Finding, Plan, rule

# The optimizer's states.


@rule("paged-on-cpu", "machine", "optim")
def paged_on_cpu(plan: Plan) -> Iterator[Finding]:
    """Paging moves states out of GPU memory, of which there is none."""
    optim = plan.value("optim")
    if "paged" in optim and plan.machine.device != "cuda":
        yield Finding(
            severity="warning",
            argument="optim",
            message=(
                f"{optim} moves optimizer states out of GPU memory when it is full, "
                f"and {plan.machine.name} has 0 bytes of it"
            ),
            fix=f"set optim={optim.removeprefix('paged_')}",
            evidence={"gpu_bytes": 0},
        )


@rule("8bit-saves-little", "model", "optim")
def eight_bit_saves_little(plan: Plan) -> Iterator[Finding]:
    """Most of what the run holds stays at 32 bits."""
    if plan.recipe.optim not in EIGHT_BIT_ADAMW or plan.dtype not in WEIGHT_FORMATS:
        return
    held = state_bytes(plan.parameters, plan.recipe.optim, plan.dtype)
    plain = state_bytes(plan.parameters, "adamw_torch", plan.dtype)
    total = _total_with_plain_adamw(plan, plain)
    saved = plain - held
    if saved >= 0.1 * total:
        return
    count = sum(parameter.elements for parameter in plan.parameters)
    yield Finding(
        severity="hint",
        argument="optim",
        message=(
            f"8-bit states save {shown_bytes(saved)}, {saved / total:.0%} "
            f"of the {shown_bytes(total)} that AdamW needs: {_why_so_little(plan, count)}"
        ),
        fix="set optim=adamw_torch_fused, which is faster",
        evidence={"bytes_per_parameter": held / count, "saved": saved, "of": total},
    )


def _total_with_plain_adamw(plan: Plan, states: int) -> int:
    """Bytes of the fine-tune with AdamW's `states`, without activations that nobody predicts."""
    if plan.memory:
        return plan.memory.total - plan.memory.optimizer + states
    # The gradients are as large as the weights.
    return 2 * weight_bytes(plan.parameters, plan.dtype) + states


def _why_so_little(plan: Plan, count: int) -> str:
    # bitsandbytes leaves tensors under 4,096 elements at 32 bits, and the Trainer embeddings.
    full = 0
    for parameter in plan.parameters:
        if parameter.embedding or parameter.elements < 4096:
            full += parameter.elements
    why = f"{full / count:.0%} of the parameters, embeddings and small tensors, stay at 32 bits"
    if plan.memory and plan.memory.activations:
        why += f", and activations take {shown_bytes(plan.memory.activations)}"
    return why


# The length of a sequence.


@rule("length-beyond-data", "lengths")
def length_beyond_data(plan: Plan) -> Iterator[Finding]:
    """Hardly a document is as long as a sequence may be."""
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
        fix=f"set {plan.length_argument}={long}, or pack",
        evidence={"p99": long, "padding": 1 - filled},
    )


@rule("length-cuts-tokens", "lengths")
def length_cuts_tokens(plan: Plan) -> Iterator[Finding]:
    """Documents are longer than a sequence may be."""
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
    fix = f"set {plan.length_argument}={enough}"
    if plan.context and enough > plan.context:
        fix = (
            f"the model's context is {plan.context} tokens and {enough} would be needed: "
            "cut the documents where they make sense"
        )
    yield Finding(
        severity=severity,
        argument=plan.length_argument,
        message=(
            f"{cut:.1%} of the tokens stand beyond token {limit} of their document and {becomes}"
        ),
        fix=fix,
        evidence={"cut": cut, "enough": enough},
    )


# The device.


@rule(
    "memory-over-free", "memory", "machine", "per_device_train_batch_size", "optim", "bf16", "fp16"
)
def memory_over_free(plan: Plan) -> Iterator[Finding]:
    """The run needs more memory than the machine has free."""
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
            f"a full fine-tune needs {shown_bytes(held.total)} ({shown_parts}), "
            f"and {plan.machine.name} has {shown_bytes(free)} free"
        ),
        fix=_what_fits(plan.recipe, held, free),
        evidence=parts | {"free": free},
    )


def _what_fits(recipe, held: Memory, free: int) -> str:
    """The batch that fits, for activations grow with it; else fewer of them; else a smaller run."""
    batch = recipe.per_device_train_batch_size
    left = free - (held.total - held.activations)
    if left <= 0:
        eight_bit = "optim=adamw_8bit, "
        if recipe.optim in EIGHT_BIT_ADAMW:
            eight_bit = ""
        return f"no batch fits: take {eight_bit}a smaller model, LoRA, or a larger device"
    # Something is left and yet it does not fit, so there are activations.
    fits = math.floor(batch * left / held.activations)
    if fits:
        return (
            f"set per_device_train_batch_size={fits}, and "
            f"gradient_accumulation_steps={math.ceil(batch / fits)} for about the same update"
        )
    recompute = "gradient_checkpointing"
    if "activation_checkpointing" in training_argument_names():
        recompute = "activation_checkpointing"
    return (
        f"set max_seq_length lower, or {recompute}=true in TrainingArguments, "
        "which computes activations twice and keeps few"
    )
