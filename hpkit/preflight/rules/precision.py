"""Rules about number formats: those of the weights, and those that the device multiplies."""

import math
from collections.abc import Iterator

from hpkit.formatting import shown_rate
from hpkit.preflight.libraries import version_in_force
from hpkit.preflight.plan import Plan
from hpkit.preflight.register import Finding, rule


@rule(
    "bf16-weights-without-masters",
    "learning_rate",
    notebook="08",
    example="""\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("org/m", dtype="bfloat16")
args = TrainingArguments("out", learning_rate=1e-5)
trainer = Trainer(model=model, args=args, train_dataset=rows)
""",
)
def bf16_weights_without_masters(plan: Plan) -> Iterator[Finding]:
    """Small updates to bf16 weights are rounded away.

    bf16 keeps 8 significant bits: a step below a 256th of a weight leaves it where it is. Mixed
    precision trains fp32 weights and multiplies in bf16, and so loses none. An adapter has weights
    of its own, and DeepSpeed and FSDP keep copies.
    """
    sharded = plan.given.get("deepspeed") or plan.given.get("fsdp")
    if plan.dtype != "bfloat16" or plan.written.around.adapter or sharded or plan.written.unsloth:
        return
    argument = "weights"
    changes = {}
    word = _word_for_weights(plan)
    advice = f"load the model with {word}=torch.float32; from_pretrained keeps the file's format"
    if plan.ours:
        argument = "dtype"
        changes = {"dtype": "float32"}
        advice = ""
    # Of a config or a name the weights are not at hand.
    if plan.model and hasattr(plan.model.source, "named_parameters"):
        whose = "the model's weights"
        share = _unmoved_share_of(plan.model.source, plan.peak)
    else:
        whose = "weights of a usual size (spread 0.02)"
        share = unmoved_share(plan.peak)
    yield Finding(
        # A launcher that the file does not name may keep fp32 copies, as DeepSpeed does.
        severity="error" if share >= 0.5 and plan.live else "warning",
        argument=argument,
        message=(
            f"the weights are bf16 without fp32 copies: a step of {shown_rate(plan.peak)} "
            f"leaves {share:.0%} of {whose} where they are"
        ),
        changes=changes,
        advice="; ".join(filter(None, (advice, _multiplied_all_the_same(plan)))),
        evidence={"unmoved_share": share, "step": plan.peak},
    )


def _word_for_weights(plan: Plan) -> str:
    """What from_pretrained calls the format: `dtype` since transformers 4.56, both until today."""
    written = plan.written
    if plan.live:
        return "dtype"
    is_old = version_in_force("transformers", written.pins).number < (4, 56)
    return "torch_dtype" if is_old else written.around.weights_argument or "dtype"


def _multiplied_all_the_same(plan: Plan) -> str:
    return f"{plan.written.form.setting('bf16', True)} multiplies in bf16 all the same"


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


@rule(
    "bf16-emulated",
    "machine",
    "bf16",
    notebook="08",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", bf16=True)
""",
    options="--device t4",
)
def bf16_emulated(plan: Plan) -> Iterator[Finding]:
    """The machine multiplies no bf16 in hardware.

    torch emulates it then. A T4 or a V100 answers True when it is asked for bf16, and is slower
    with it than with fp32.
    """
    machine = plan.machine
    if not plan.value("bf16") or machine.native_bf16:
        return
    if machine.device == "cuda":
        severity = "warning"
        message = (
            f"{machine.name} has no bf16 hardware, which comes with compute capability 8.0: "
            "torch emulates it, slowly"
        )
        changes = {"bf16": False, "fp16": True}
        advice = "fp16 is native there, and the Trainer scales the loss"
    else:
        severity = "hint"
        message = (
            f"{machine.name} emulates bf16: results are right, but no faster than fp32, "
            "and still rounded to 8 significant bits"
        )
        changes = {"bf16": False}
        advice = ""
    yield Finding(
        severity=severity,
        argument="bf16",
        message=message,
        changes=changes,
        advice=advice,
        evidence={"native_bf16": False},
    )


@rule(
    "bf16-without-use-cpu",
    "machine",
    "bf16",
    "use_cpu",
    notebook="08",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", bf16=True)
""",
    options="--device cpu",
)
def bf16_without_use_cpu(plan: Plan) -> Iterator[Finding]:
    """transformers refuses bf16 on a CPU that it was not told to use.

    Without use_cpu it looks for a GPU with bf16, finds none, and stops with a ValueError.
    """
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
            changes={"use_cpu": True},
            evidence={"gpus": 0},
        )


@rule(
    "fp16-on-cpu",
    "machine",
    "fp16",
    notebook="08",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", fp16=True)
""",
    options="--device cpu",
)
def fp16_on_cpu(plan: Plan) -> Iterator[Finding]:
    """transformers leaves fp16 out on a CPU, and says nothing.

    The run is as slow and as large as one in fp32, because it is one.
    """
    if plan.value("fp16") and plan.machine.device == "cpu":
        yield Finding(
            severity="error",
            argument="fp16",
            message=(
                "fp16 on a CPU: transformers trains in fp32 without saying so, "
                "4 bytes a number and not 2"
            ),
            changes={"fp16": False, "bf16": True, "use_cpu": True},
            evidence={"bytes": 4},
        )


@rule(
    "both-halves",
    "bf16",
    "fp16",
    notebook="08",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", bf16=True, fp16=True)
""",
)
def both_halves(plan: Plan) -> Iterator[Finding]:
    """A run multiplies in one 16-bit format.

    bf16 has the range of fp32, fp16 more digits and a scaled loss; transformers refuses both at
    once.
    """
    if plan.value("bf16") and plan.value("fp16"):
        yield Finding(
            severity="error",
            argument="fp16",
            message=(
                "bf16 and fp16 are both true, and a run multiplies in 1 format: transformers stops"
            ),
            changes={"fp16": False},
            evidence={"formats": 2},
        )


@rule(
    "no-half-precision",
    "machine",
    "bf16",
    "fp16",
    notebook="08",
    example="""\
from transformers import TrainingArguments

args = TrainingArguments("out", learning_rate=1e-4)
""",
    options="--device a100",
)
def no_half_precision(plan: Plan) -> Iterator[Finding]:
    """The machine has hardware for 16 bits, and the run leaves it idle.

    A matrix product in 16 bits takes a part of the time of one in 32, and half the memory of its
    activations; the weights stay as they are.
    """
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
        changes={half: True},
        advice="the weights stay fp32",
        evidence={"bytes": 4},
    )


@rule(
    "fp16-weights-unscaled",
    "weights",
    "fp16",
    notebook="08",
    example="""\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("org/m", dtype="float16")
args = TrainingArguments("out", fp16=True)
trainer = Trainer(model=model, args=args, train_dataset=rows)
""",
)
def fp16_weights_unscaled(plan: Plan) -> Iterator[Finding]:
    """fp16 weights in a run with fp16=True.

    Mixed precision scales the loss so that small gradients do not vanish in fp16, and takes the
    scale out of the gradients before the update. torch does that for fp32 gradients alone: with
    fp16 weights the first update is a ValueError, "Attempting to unscale FP16 gradients". An
    adapter has fp32 weights of its own, and there it works.
    """
    written = plan.written
    sharded = plan.given.get("deepspeed") or plan.given.get("fsdp")
    if written.around.weights != "float16" or plan.trains_adapter or sharded or written.unsloth:
        return
    if plan.value("fp16"):
        yield Finding(
            severity="error",
            argument="weights",
            message=(
                "the model is loaded in float16 and fp16 is true: torch unscales gradients of 4 "
                "bytes alone, and the first update is a ValueError (Attempting to unscale FP16 "
                "gradients)"
            ),
            advice=f"load the model with {_word_for_weights(plan)}=torch.float32; fp16 multiplies "
            "in fp16 all the same",
            evidence={"bytes": 2},
        )


@rule(
    "fp16-adapter-unscaled",
    "fp16_adapter",
    "fp16",
    notebook="12",
    example="""\
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = get_peft_model(AutoModelForCausalLM.from_pretrained("org/m"), LoraConfig(r=16))
model.half()
args = TrainingArguments("out", fp16=True)
trainer = Trainer(model=model, args=args, train_dataset=rows)
""",
)
def fp16_adapter_unscaled(plan: Plan) -> Iterator[Finding]:
    """An adapter in float16 in a run with fp16=True.

    peft gives an adapter fp32 weights, on a model of 16 bits as well. Where the whole model is cast
    afterwards, or peft is told autocast_adapter_dtype=False, they become fp16, and torch unscales
    gradients of fp32 alone: the first update is a ValueError. With bf16 weights an adapter learns
    almost as well, and TRL takes them for QLoRA.
    """
    written = plan.written
    sharded = plan.given.get("deepspeed") or plan.given.get("fsdp")
    if sharded or written.unsloth or not plan.value("fp16"):
        return
    yield Finding(
        severity="error",
        argument="fp16_adapter",
        message=(
            f"{written.around.fp16_adapter} makes the adapter float16, and fp16 is true: torch "
            "unscales gradients of 4 bytes alone, and the first update is a ValueError (Attempting "
            "to unscale FP16 gradients)"
        ),
        advice="leave it out: the adapter stays float32, and fp16 multiplies in fp16 all the same",
        evidence={"bytes": 2},
    )


@rule(
    "halves-swapped",
    "halves_swapped",
    notebook="08",
    example="""\
from transformers import TrainingArguments
from unsloth import is_bfloat16_supported

args = TrainingArguments("out", fp16=is_bfloat16_supported(), bf16=not is_bfloat16_supported())
""",
)
def halves_swapped(plan: Plan) -> Iterator[Finding]:
    """fp16 where the GPU has bf16, and bf16 where it has not.

    The usual pair of lines with its `not` in the wrong one: a new card multiplies in fp16, with a
    scaled loss, and an old one is asked for the bf16 that it has no hardware for.
    """
    yield Finding(
        severity="error",
        argument="halves_swapped",
        message=(
            "fp16 is on where bf16 is supported, and bf16 where it is not: each GPU gets the wrong "
            "one of 2 formats"
        ),
        advice="swap the two values",
        evidence={"formats": 2},
    )
