"""What makes a run faster or smaller and leaves its loss as it is: each thing chosen for the machine, with its reason.

The names are transformers'. What is asked for by hand is taken, unless it cannot work here.
"""

import dataclasses
import importlib.util
import os
import shutil
from dataclasses import dataclass

from hpkit.capability import Capability, Choice
from hpkit.formatting import shown
from hpkit.preflight.arguments import training_argument_names

ATTENTION = ("eager", "sdpa", "flash_attention_2")
#: Measured on one core, starter, 8 x 256 tokens: compiling for training, evaluation and sampling took 80 s, and an update then
#: 0.04 s less, a tenth.
COMPILE_PAYS_AFTER = 2_000


@dataclass(frozen=True)
class Throughput:
    """What is asked for; None leaves it to `choose`.

    `attn_implementation`: eager, sdpa (torch's fused attention) or flash_attention_2. `use_liger_kernel`: loss and norms as
    fused GPU kernels. `torch_compile`: the model compiled before its first update. `activation_checkpointing`: keep few
    activations and compute them a second time. `dataloader_num_workers`: processes that put batches together ahead.
    """

    attn_implementation: str | None = None
    use_liger_kernel: bool | None = None
    torch_compile: bool | None = None
    activation_checkpointing: bool | None = None
    dataloader_num_workers: int | None = None

    @property
    def settings(self) -> dict:
        """What TrainingArguments must be told, of a choice that leaves nothing open; attention belongs to the model."""
        values = dataclasses.asdict(self)
        del values["attn_implementation"]
        if (
            "activation_checkpointing" not in training_argument_names()
        ):  # its name before transformers 5.20
            values["gradient_checkpointing"] = values.pop("activation_checkpointing")
        return values


AUTO = Throughput()


def choose(
    asked: Throughput, capability: Capability, model, updates: int, short_of_memory: bool
) -> tuple[Throughput, list[Choice]]:
    """Fill in what `asked` leaves open, for the live `model` and a run of so many `updates`, and say why.

    `short_of_memory`: what the run will hold was predicted, and exceeds the memory that is free.
    """
    gpu = capability.device == "cuda"
    chosen, choices = {}, []

    def settle(name: str, value, why: str, obstacle: str | None = None, without=False) -> None:
        """`value` for the reason `why`, or what was asked for; `without` where `obstacle` says that it cannot be had."""
        wanted = getattr(asked, name)
        if wanted is not None:
            value, why = wanted, "as asked"
        if obstacle and value != without:
            value, why = without, obstacle
        chosen[name] = value
        choices.append(Choice(name, "auto" if wanted is None else shown(wanted), shown(value), why))

    usual, flash = model.config._attn_implementation, _no_flash_attention(capability, model)
    if asked.attn_implementation in (None, "flash_attention_2"):
        why = "flash-attn is installed; it keeps packed documents apart without a mask"
        settle("attn_implementation", "flash_attention_2", why, flash, usual)
    else:
        settle("attn_implementation", usual, "")
    settle(
        "use_liger_kernel",
        True,
        "loss and norms in fused kernels: the logits are never held whole",
        _no_liger(capability, model),
        False,
    )
    pays = updates >= COMPILE_PAYS_AFTER
    why = f"compiling takes more than a minute and pays after about {COMPILE_PAYS_AFTER:,} updates; this run has {updates:,}"
    settle("torch_compile", pays, why, _no_compiler(gpu))
    why = "the run would hold more than is free: few activations are kept, and each layer is computed twice"
    settle(
        "activation_checkpointing",
        short_of_memory,
        why if short_of_memory else "no shortage of memory is predicted",
    )
    why = (
        "one process puts the next batch together while the GPU computes"
        if gpu
        else "the blocks are in memory, and a worker would take a core"
    )
    settle("dataloader_num_workers", int(gpu), why)
    return Throughput(**chosen), choices


def _no_flash_attention(capability: Capability, model) -> str | None:
    if capability.device != "cuda":
        return "torch's own attention; flash-attn needs an NVIDIA GPU"
    if not (capability.bf16 or capability.fp16):
        return "torch's own attention; flash-attn takes 16-bit numbers alone"
    if not model._supports_flash_attn:
        return f"torch's own attention; models of type {model.config.model_type} have no other"
    return (
        None
        if importlib.util.find_spec("flash_attn")
        else "torch's own attention; flash-attn is not installed"
    )


def _no_liger(capability: Capability, model) -> str | None:
    if capability.device != "cuda":
        return "its kernels need a GPU"
    if importlib.util.find_spec("liger_kernel") is None:
        return "not installed: pip install liger-kernel"
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    kind = model.config.model_type
    return (
        None
        if kind in MODEL_TYPE_TO_APPLY_LIGER_FN
        else f"it has no kernels for models of type {kind}"
    )


def _no_compiler(gpu: bool) -> str | None:
    if gpu:
        return (
            None
            if importlib.util.find_spec("triton")
            else "torch compiles for a GPU with triton, which is not installed"
        )
    found = any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "cl")))
    return None if found else "torch compiles for a CPU with a C++ compiler, and there is none"
