"""What makes a run faster or smaller, and leaves its loss as it is.

Each thing is chosen for the machine, with its reason. The names are transformers'. What is asked
for by hand is taken, unless it cannot work here.
"""

import dataclasses
import importlib.util
import os
import shutil
from dataclasses import dataclass

from hpkit.capability import Capability, Choice
from hpkit.formatting import shown
from hpkit.preflight.libraries import training_argument_names

ATTENTION = ("eager", "sdpa", "flash_attention_2")
#: Measured on one core, starter, 8 x 256 tokens: compiling for training, evaluation and sampling
#: took 80 s, and an update then 0.04 s less, a tenth.
COMPILE_PAYS_AFTER = 2_000


@dataclass(frozen=True)
class Throughput:
    """What is asked for; None leaves it to `choose`.

    `attn_implementation`: eager, sdpa (torch's fused attention) or flash_attention_2.
    `use_liger_kernel`: loss and norms as fused GPU kernels. `torch_compile`: the model compiled
    before its first update. `activation_checkpointing`: keep few activations and compute them a
    second time. `dataloader_num_workers`: processes that put batches together ahead.
    """

    attn_implementation: str | None = None
    use_liger_kernel: bool | None = None
    torch_compile: bool | None = None
    activation_checkpointing: bool | None = None
    dataloader_num_workers: int | None = None

    @property
    def settings(self) -> dict:
        """What TrainingArguments must be told, where nothing is left open.

        Attention belongs to the model.
        """
        values = dataclasses.asdict(self)
        del values["attn_implementation"]
        # Before transformers 5.20 it had the name that torch gives it.
        if "activation_checkpointing" not in training_argument_names():
            values["gradient_checkpointing"] = values.pop("activation_checkpointing")
        return values


AUTO = Throughput()


def choose(
    asked: Throughput,
    capability: Capability,
    model,
    updates: int,
    short_of_memory: bool,
    packed_rows: int,
) -> tuple[Throughput, list[Choice]]:
    """Fill in what `asked` leaves open, for the live `model` and a run of so many `updates`.

    The choices say why. `short_of_memory`: what the run will hold was predicted, and exceeds the
    memory that is free. `packed_rows`: how many rows of several documents each a batch has.
    """
    proposals = [
        _attention(asked, capability, model, packed_rows),
        _liger(capability, model),
        _compiling(capability, updates),
        _checkpointing(short_of_memory),
        _workers(capability),
    ]
    settled = {}
    choices = []
    for proposal in proposals:
        value, choice = proposal.settle(getattr(asked, proposal.name))
        settled[proposal.name] = value
        choices.append(choice)
    return Throughput(**settled), choices


@dataclass(frozen=True)
class _Proposal:
    """What would be best for the field `name` of Throughput, and why.

    `obstacle`: why anything but `without` cannot be had here; None where nothing stands in its way.
    """

    name: str
    value: object
    why: str
    obstacle: str | None = None
    without: object = False

    def settle(self, asked) -> tuple[object, Choice]:
        """The value to use, and the choice in words; `asked` is None where nothing was."""
        value = self.value
        why = self.why
        requested = "auto"
        if asked is not None:
            value = asked
            why = "as asked"
            requested = shown(asked)
        if self.obstacle and value != self.without:
            value = self.without
            why = self.obstacle
        return value, Choice(self.name, requested, shown(value), why)


def _attention(asked: Throughput, capability: Capability, model, packed_rows: int) -> _Proposal:
    usual = model.config._attn_implementation
    if asked.attn_implementation == "sdpa" and not model._supports_sdpa:
        why = f"models of type {model.config.model_type} have no sdpa"
        return _Proposal("attn_implementation", usual, "", obstacle=why, without=usual)
    if asked.attn_implementation not in (None, "flash_attention_2"):
        # It is taken as asked: neither value nor reason is looked at.
        return _Proposal("attn_implementation", usual, "")
    return _Proposal(
        "attn_implementation",
        "flash_attention_2",
        "flash-attn is installed; it keeps packed documents apart without a mask",
        obstacle=_no_flash_attention(capability, model, packed_rows),
        without=usual,
    )


def _no_flash_attention(capability: Capability, model, packed_rows: int) -> str | None:
    if capability.device != "cuda":
        return "torch's own attention; flash-attn needs an NVIDIA GPU"
    if not (capability.bf16 or capability.fp16):
        return "torch's own attention; flash-attn takes 16-bit numbers alone"
    if not model._supports_flash_attn:
        return f"torch's own attention; models of type {model.config.model_type} have no other"
    if packed_rows > 1:
        # modeling_flash_attention_utils._is_packed_sequence looks at positions in one row alone.
        return (
            "torch's own attention; transformers lets flash-attn keep packed documents apart only "
            "in a batch of one row"
        )
    if importlib.util.find_spec("flash_attn") is None:
        return "torch's own attention; flash-attn is not installed"
    return None


def _liger(capability: Capability, model) -> _Proposal:
    why = "loss and norms in fused kernels: the logits are never held whole"
    return _Proposal("use_liger_kernel", True, why, obstacle=_no_liger(capability, model))


def _no_liger(capability: Capability, model) -> str | None:
    if capability.device != "cuda":
        return "its kernels need a GPU"
    if importlib.util.find_spec("liger_kernel") is None:
        return "not installed: pip install liger-kernel"
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    kind = model.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return f"it has no kernels for models of type {kind}"
    return None


def _compiling(capability: Capability, updates: int) -> _Proposal:
    why = (
        f"compiling takes more than a minute and pays after about {COMPILE_PAYS_AFTER:,} updates; "
        f"this run has {updates:,}"
    )
    pays = updates >= COMPILE_PAYS_AFTER
    return _Proposal("torch_compile", pays, why, obstacle=_no_compiler(capability.device))


def _no_compiler(device: str) -> str | None:
    if device == "cuda":
        if importlib.util.find_spec("triton") is None:
            return "torch compiles for a GPU with triton, which is not installed"
        return None
    # As torch looks for them: what CXX names, else g++; clang++; cl on Windows.
    if any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "cl"))):
        return None
    return "torch compiles for a CPU with a C++ compiler, and there is none"


def _checkpointing(short_of_memory: bool) -> _Proposal:
    why = "no shortage of memory is predicted"
    if short_of_memory:
        why = (
            "the run would hold more than is free: few activations are kept, and each layer is "
            "computed twice"
        )
    return _Proposal("activation_checkpointing", short_of_memory, why)


def _workers(capability: Capability) -> _Proposal:
    if capability.device == "cuda":
        why = "one process puts the next batch together while the GPU computes"
        return _Proposal("dataloader_num_workers", 1, why)
    why = "the blocks are in memory, and a worker would take a core"
    return _Proposal("dataloader_num_workers", 0, why)
