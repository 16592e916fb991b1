"""Rules about number formats: those of the weights, and those that the device multiplies."""

import math
from collections.abc import Iterator

from hpkit.formatting import shown_rate
from hpkit.preflight.plan import Finding, Plan, rule


@rule("bf16-weights-without-masters", "learning_rate")
def bf16_weights_without_masters(plan: Plan) -> Iterator[Finding]:
    """Small updates to bf16 weights are rounded away."""
    if plan.dtype != "bfloat16":
        return
    argument = None
    fix = "load the model with dtype=torch.float32; from_pretrained keeps the file's format"
    if plan.ours:
        argument = "dtype"
        fix = "set dtype=float32"
    # Of a config or a name the weights are not at hand.
    if plan.model and hasattr(plan.model.source, "named_parameters"):
        whose = "the model's weights"
        share = _unmoved_share_of(plan.model.source, plan.peak)
    else:
        whose = "weights of a usual size (spread 0.02)"
        share = unmoved_share(plan.peak)
    yield Finding(
        severity="error" if share >= 0.5 else "warning",
        argument=argument,
        message=(
            f"the weights are bf16 without fp32 copies: a step of {shown_rate(plan.peak)} "
            f"leaves {share:.0%} of {whose} where they are"
        ),
        fix=f"{fix}; bf16=true multiplies in bf16 all the same",
        evidence={"unmoved_share": share, "step": plan.peak},
    )


def unmoved_share(step: float, spread: float = 0.02) -> float:
    """The share of normal weights with this standard deviation that `step`, in bf16, rounds away.

    bf16 keeps 8 significant bits, so a weight of at least 2^k stays where it is if the step is
    below 2^k / 2^8.
    """
    power = math.floor(math.log2(step * 256)) + 1
    # erfc of x / (spread * sqrt 2) is the share of normal weights, of both signs, beyond x.
    return math.erfc(2.0**power / (spread * math.sqrt(2)))


def _unmoved_share_of(model, step: float) -> float:
    """The share of the model's bf16 weights that stay equal when `step` is taken off.

    Of a large model about a million weights are tried.
    """
    import torch

    weights = [
        weight.detach().flatten() for weight in model.parameters() if weight.dtype is torch.bfloat16
    ]
    count = sum(weight.numel() for weight in weights)
    stride = max(count // 1_000_000, 1)
    unmoved = []
    for weight in weights:
        sample = weight[::stride]
        unmoved.append((sample - step == sample).cpu())
    return torch.cat(unmoved).float().mean().item()


@rule("bf16-emulated", "machine", "bf16")
def bf16_emulated(plan: Plan) -> Iterator[Finding]:
    """The machine multiplies no bf16 in hardware."""
    machine = plan.machine
    if not plan.value("bf16") or machine.native_bf16:
        return
    if machine.device == "cuda":
        severity = "warning"
        message = (
            f"{machine.name} has no bf16 hardware, which comes with compute capability 8.0: "
            "torch emulates it, slowly"
        )
        fix = "set bf16=false, fp16=true: fp16 is native there, and the Trainer scales the loss"
    else:
        severity = "hint"
        message = (
            f"{machine.name} emulates bf16: results are right, but no faster than fp32, "
            "and still rounded to 8 significant bits"
        )
        fix = "set bf16=false"
    yield Finding(
        severity=severity,
        argument="bf16",
        message=message,
        fix=fix,
        evidence={"native_bf16": False},
    )


@rule("bf16-without-use-cpu", "machine", "bf16", "use_cpu")
def bf16_without_use_cpu(plan: Plan) -> Iterator[Finding]:
    """transformers refuses bf16 on a CPU that it was not told to use."""
    # hpkit sets use_cpu itself where it trains a recipe on a CPU.
    if plan.ours or plan.value("use_cpu"):
        return
    if plan.value("bf16") and plan.machine.device == "cpu":
        yield Finding(
            severity="error",
            argument="bf16",
            message=(
                "bf16 on a machine with 0 GPUs: transformers stops, "
                "unless it is told that the CPU is meant"
            ),
            fix="set use_cpu=true",
            evidence={"gpus": 0},
        )


@rule("fp16-on-cpu", "machine", "fp16")
def fp16_on_cpu(plan: Plan) -> Iterator[Finding]:
    """transformers leaves fp16 out on a CPU, and says nothing."""
    if plan.value("fp16") and plan.machine.device == "cpu":
        yield Finding(
            severity="error",
            argument="fp16",
            message=(
                "fp16 on a CPU: transformers trains in fp32 without saying so, "
                "4 bytes a number and not 2"
            ),
            fix="set fp16=false, bf16=true",
            evidence={"bytes": 4},
        )


@rule("both-halves", "bf16", "fp16")
def both_halves(plan: Plan) -> Iterator[Finding]:
    """A run multiplies in one 16-bit format."""
    if plan.value("bf16") and plan.value("fp16"):
        yield Finding(
            severity="error",
            argument="fp16",
            message=(
                "bf16 and fp16 are both true, and a run multiplies in 1 format: transformers stops"
            ),
            fix="set fp16=false",
            evidence={"formats": 2},
        )


@rule("no-half-precision", "machine", "bf16", "fp16")
def no_half_precision(plan: Plan) -> Iterator[Finding]:
    """The machine has hardware for 16 bits, and the run leaves it idle."""
    machine = plan.machine
    if plan.value("bf16") or plan.value("fp16") or plan.dtype != "float32":
        return
    if machine.native_bf16:
        half = "bf16"
    elif machine.device == "cuda":
        half = "fp16"  # older GPUs have hardware for this half alone
    else:
        return
    yield Finding(
        severity="hint",
        argument=half,
        message=(
            f"bf16 and fp16 are both false: {machine.name} multiplies 4-byte numbers, "
            f"and has hardware for the 2 bytes of {half}"
        ),
        fix=f"set {half}=true; the weights stay fp32",
        evidence={"bytes": 4},
    )
