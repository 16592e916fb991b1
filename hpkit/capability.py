"""What this machine can do for a recipe: what was requested, what is used, and why."""

import importlib.util
import logging
import platform
import sys
from dataclasses import dataclass

from hpkit.errors import BadInput
from hpkit.recipe import Recipe

#: The names under which the Trainer knows bitsandbytes' 8-bit AdamW.
EIGHT_BIT_ADAMW = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")


@dataclass(frozen=True)
class Machine:
    """What matters of the hardware. `device` is cuda, mps or cpu; `native_bf16` is false where bf16 is emulated.

    `eight_bit` says whether bitsandbytes really kept 8-bit states when asked to, on `device`.
    """

    device: str
    name: str
    threads: int
    native_bf16: bool
    eight_bit: bool


@dataclass(frozen=True)
class Choice:
    """One decision. `requested` and `used` are the same words where the request could be met."""

    what: str
    requested: str
    used: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.requested} -> {self.used}: {self.why}"


@dataclass(frozen=True)
class Capability:
    """The decisions for one recipe on one machine, ready for TrainingArguments."""

    device: str
    device_name: str
    threads: int
    bf16: bool
    fp16: bool
    optim: str
    choices: list[Choice]

    @property
    def settings(self) -> dict:
        """What TrainingArguments must be told so that it does what was decided."""
        return dict(use_cpu=self.device == "cpu", bf16=self.bf16, fp16=self.fp16, optim=self.optim)


def probe() -> Machine:
    """Look at this machine. Takes a moment: it imports torch and takes one 8-bit optimizer step."""
    import torch

    threads = torch.get_num_threads()
    if torch.cuda.is_available():
        # torch.cuda.is_bf16_supported() counts emulation: a T4 says yes. Compute capability 8.0 has the hardware.
        native = torch.cuda.get_device_capability() >= (8, 0)
        return Machine("cuda", torch.cuda.get_device_name(), threads, native, _keeps_8bit_states("cuda"))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    if torch.backends.mps.is_available():
        return Machine("mps", platform.processor() or "Apple", threads, native, _keeps_8bit_states("cpu"))
    return Machine("cpu", platform.processor() or platform.machine(), threads, native, _keeps_8bit_states("cpu"))


def forget_32bit_overrides() -> None:
    """Empty bitsandbytes' process-wide list of parameters to keep at 32 bits; call it before an optimizer is made.

    The Trainer enters every embedding there, and bitsandbytes 0.50 looks entries up by a parameter's position. Left
    over from an earlier run in the same process, they keep other parameters at 32 bits, and the old model in memory.
    """
    if "bitsandbytes" in sys.modules:
        sys.modules["bitsandbytes"].optim.GlobalOptimManager.get_instance().initialize()


def _keeps_8bit_states(device: str) -> bool:
    """Take one step of bitsandbytes' AdamW on 4,096 numbers, the least it quantizes, and look at its state."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return False
    try:
        # Its warning about a missing 4-bit kernel says nothing about optimizers.
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
        import bitsandbytes
        import torch

        forget_32bit_overrides()
        weight = torch.nn.Parameter(torch.ones(4096, device=device))
        weight.grad = torch.ones_like(weight)
        optimizer = bitsandbytes.optim.AdamW([weight], optim_bits=8)
        optimizer.step()
        return optimizer.state[weight]["state1"].dtype == torch.uint8
    except Exception:  # a build without this device fails in its own ways; each of them means no
        return False


def decide(recipe: Recipe, machine: Machine) -> Capability:
    """What to use on `machine` for `recipe`. Raises BadInput where going on would deceive."""
    eight_bit = recipe.optim in EIGHT_BIT_ADAMW
    device, name = machine.device, machine.name
    wanted = {"cuda": "GPU", "mps": "Apple GPU", "cpu": "CPU"}[device]
    used, why = wanted, f"{name}, {machine.threads} threads" if device == "cpu" else name
    if device == "mps" and (eight_bit or recipe.fp16):
        device, used, why = "cpu", "CPU", "bitsandbytes keeps no 8-bit states on Apple's GPU, and fp16 needs loss scaling there"
    choices = [Choice("device", wanted, used, why)]

    bf16, fp16 = recipe.bf16, recipe.fp16
    if fp16 and device != "cuda":
        raise BadInput(
            "fp16 on a CPU: transformers would train in fp32 without saying so, and fp16 multiplication is many times slower there; "
            "set fp16 to false, and bf16 to true for 16 bits"
        )
    if bf16 and device == "cuda" and not machine.native_bf16:
        bf16, fp16 = False, True
        choices.append(Choice("precision", "bf16", "fp16", f"{name} only emulates bf16, slowly; fp16 with loss scaling is native"))
    elif bf16:
        native = "in hardware" if machine.native_bf16 else "emulated here: right, but not faster than fp32"
        choices.append(Choice("precision", "bf16", "bf16", f"autocast to bf16 {native}; weights stay {recipe.dtype}"))
    elif fp16:
        choices.append(Choice("precision", "fp16", "fp16", f"autocast to fp16 with loss scaling; weights stay {recipe.dtype}"))
    else:
        choices.append(Choice("precision", recipe.dtype, recipe.dtype, "no autocast was asked for"))

    optim, why = recipe.optim, "as asked"
    if eight_bit and not machine.eight_bit:
        optim, why = "adamw_torch", "bitsandbytes is absent or keeps no 8-bit states on this machine; these states take 8 bytes a parameter"
    elif recipe.optim == "paged_adamw_8bit" and device == "cpu":
        optim, why = "adamw_8bit", "paging moves states out of GPU memory, and there is none here"
    elif eight_bit:
        why = "bitsandbytes kept uint8 states when tried just now"
    choices.append(Choice("optimizer", recipe.optim, optim, why))
    return Capability(device, name, machine.threads, bf16, fp16, optim, choices)
