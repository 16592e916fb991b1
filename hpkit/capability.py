"""What this machine can do for a recipe: what was requested, what is used, and why."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import logging
import platform
import sys
import time
from dataclasses import dataclass

from hpkit.errors import BadInput, did_you_mean
from hpkit.files import cache_folder, write_whole
from hpkit.recipe import Recipe

#: The names under which the Trainer knows bitsandbytes' 8-bit AdamW.
EIGHT_BIT_ADAMW = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")
#: The least compute capability that multiplies bf16 in hardware. torch.cuda.is_bf16_supported() counts emulation: a T4 says yes.
NATIVE_BF16 = (8, 0)


@dataclass(frozen=True)
class Machine:
    """What matters of the hardware. `device` is cuda, mps or cpu; `native_bf16` is false where bf16 is emulated.

    `threads`: CPU threads that torch uses. `eight_bit`: whether bitsandbytes really kept 8-bit states when asked to.
    `memory_free`: bytes. `eight_bit_time`: how many times as long an update of adamw_8bit takes as one of fused AdamW.
    None is what was not looked at, or cannot be known.
    """

    device: str
    name: str
    threads: int
    native_bf16: bool
    eight_bit: bool | None = None
    memory_free: int | None = None
    eight_bit_time: float | None = None

    def __str__(self) -> str:
        """In a few words, for the first line of a notebook: what it is, the memory that is free, and bf16."""
        kind = {
            "cuda": "GPU",
            "mps": "Apple GPU",
            "cpu": f"CPU, {self.threads} thread{'s' * (self.threads > 1)}",
        }[self.device]
        free = f", {self.memory_free / 1e9:.0f} GB free" if self.memory_free else ""
        return f"{self.name} ({kind}{free}), bf16 {'in hardware' if self.native_bf16 else 'only emulated'}"


def _card(name: str, compute_capability: tuple[int, int], mebibytes: int) -> Machine:
    return Machine("cuda", name, 2, compute_capability >= NATIVE_BF16, True, mebibytes * 2**20)


#: Machines by name, for asking about one that is not here; a card is taken as empty. Memory as nvidia-smi reports it
#: (modal-labs/modal-client pull request 2797), compute capability from NVIDIA's CUDA GPUs page.
MACHINES = {
    "cpu": Machine("cpu", "a CPU with AVX512-BF16", 2, True, True),
    "cpu-without-bf16": Machine("cpu", "a CPU without bf16 instructions", 2, False, True),
    "mps": Machine("mps", "an Apple GPU", 8, True, True),
    "t4": _card("Tesla T4", (7, 5), 15_360),
    "l4": _card("NVIDIA L4", (8, 9), 23_034),
    "a100": _card("NVIDIA A100 40GB", (8, 0), 40_960),
    "a100-80gb": _card("NVIDIA A100 80GB", (8, 0), 81_920),
    "h100": _card("NVIDIA H100 80GB", (9, 0), 81_559),
}


def find_machine(name: str) -> Machine:
    """A machine of MACHINES, or this one for `here`, which takes seconds. Raises BadInput."""
    if name == "here":
        return probe()
    if name not in MACHINES:
        raise BadInput(
            f"device: expected here, {', '.join(MACHINES)}; got {name!r}{did_you_mean(name, ['here', *MACHINES])}"
        )
    return MACHINES[name]


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


def probe(try_optimizer: bool = True) -> Machine:
    """Look at this machine. Takes seconds the first time: it imports torch and times an 8-bit optimizer.

    `try_optimizer=False` leaves that out; while a training runs it must, for trying empties bitsandbytes' overrides.
    """
    import torch

    threads, cuda = torch.get_num_threads(), torch.cuda.is_available()
    if cuda:
        device, name, free = "cuda", torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0]
        native = torch.cuda.get_device_capability() >= NATIVE_BF16
    else:
        import psutil

        apple = torch.backends.mps.is_available()
        device, name = ("mps", platform.processor() or "Apple") if apple else ("cpu", _cpu_name())
        capabilities = (
            torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        )
        native = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        free = psutil.virtual_memory().available
    machine = Machine(device, name, threads, native, memory_free=free)
    if not try_optimizer:
        return machine
    eight_bit = _keeps_8bit_states(
        "cuda" if cuda else "cpu"
    )  # bitsandbytes has nothing for Apple's GPU
    return dataclasses.replace(
        machine, eight_bit=eight_bit, eight_bit_time=_eight_bit_time(machine) if eight_bit else None
    )


def _cpu_name() -> str:
    """The processor's name; on Linux `platform` knows only its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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


def _eight_bit_time(machine: Machine) -> float:
    """An update of 8-bit AdamW against one of fused AdamW, in time: measured once per machine, then read from the cache.

    A million weights in one tensor; the fastest of five updates each, taken in turns, for only delays disturb them.
    """
    import torch

    versions = [importlib.metadata.version(package) for package in ("torch", "bitsandbytes")]
    key = "-".join([machine.name, str(machine.threads), *versions])
    cache = cache_folder() / "eight-bit-time.json"
    try:
        measured = dict(json.loads(cache.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        measured = {}
    if isinstance(measured.get(key), float):
        return measured[key]
    import bitsandbytes

    device = "cuda" if machine.device == "cuda" else "cpu"
    weights = [torch.nn.Parameter(torch.ones(1024, 1024, device=device)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.full_like(weight, 1e-3)
    optimizers = (
        bitsandbytes.optim.AdamW(weights[:1], optim_bits=8),
        torch.optim.AdamW(weights[1:], fused=True),
    )
    times = ([], [])
    for _ in range(6):
        for optimizer, seconds in zip(optimizers, times):
            if device == "cuda":
                torch.cuda.synchronize()
            began = time.perf_counter()
            optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    eight_bit, fused = (min(seconds[1:]) for seconds in times)  # the first update makes the states
    measured[key] = eight_bit / fused
    write_whole(cache, json.dumps(measured), optional=True)
    return measured[key]


def decide(recipe: Recipe, machine: Machine) -> Capability:
    """What to use on `machine` for `recipe`. Raises BadInput where going on would deceive."""
    eight_bit = recipe.optim in EIGHT_BIT_ADAMW
    device, name = machine.device, machine.name
    wanted = {"cuda": "GPU", "mps": "Apple GPU", "cpu": "CPU"}[device]
    used, why = wanted, f"{name}, {machine.threads} threads" if device == "cpu" else name
    if device == "mps" and (eight_bit or recipe.fp16):
        device, used, why = (
            "cpu",
            "CPU",
            "bitsandbytes keeps no 8-bit states on Apple's GPU, and fp16 needs loss scaling there",
        )
    choices = [Choice("device", wanted, used, why)]

    bf16, fp16 = recipe.bf16, recipe.fp16
    if fp16 and device != "cuda":
        raise BadInput(
            "fp16 on a CPU: transformers would train in fp32 without saying so, and fp16 multiplication is many times slower there; "
            "set fp16 to false, and bf16 to true for 16 bits"
        )
    if bf16 and device == "cuda" and not machine.native_bf16:
        bf16, fp16 = False, True
        choices.append(
            Choice(
                "precision",
                "bf16",
                "fp16",
                f"{name} only emulates bf16, slowly; fp16 with loss scaling is native",
            )
        )
    elif bf16:
        native = (
            "in hardware"
            if machine.native_bf16
            else "emulated here: right, but not faster than fp32"
        )
        choices.append(
            Choice(
                "precision",
                "bf16",
                "bf16",
                f"autocast to bf16 {native}; weights stay {recipe.dtype}",
            )
        )
    elif fp16:
        choices.append(
            Choice(
                "precision",
                "fp16",
                "fp16",
                f"autocast to fp16 with loss scaling; weights stay {recipe.dtype}",
            )
        )
    else:
        choices.append(Choice("precision", recipe.dtype, recipe.dtype, "no autocast was asked for"))

    optim, why = recipe.optim, "as asked"
    if eight_bit and not machine.eight_bit:
        optim, why = (
            "adamw_torch",
            "bitsandbytes is absent or keeps no 8-bit states on this machine; these states take 8 bytes a parameter",
        )
    elif recipe.optim == "paged_adamw_8bit" and device == "cpu":
        optim, why = "adamw_8bit", "paging moves states out of GPU memory, and there is none here"
    elif eight_bit:
        why = "bitsandbytes keeps these states in uint8"
        if machine.eight_bit_time:
            why += f"; tried here, its update takes {machine.eight_bit_time:.3g} times as long as fused AdamW's"
    choices.append(Choice("optimizer", recipe.optim, optim, why))
    return Capability(device, name, machine.threads, bf16, fp16, optim, choices)
