"""What this machine can do for a recipe: what was requested, what is used, and why."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import platform
import sys
import time
from dataclasses import dataclass

from hpkit.errors import BadInput, did_you_mean
from hpkit.files import cache_folder, write_whole
from hpkit.formatting import plural
from hpkit.recipe import Recipe

#: The names under which the Trainer knows bitsandbytes' 8-bit AdamW.
EIGHT_BIT_ADAMW = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")
#: The least compute capability that multiplies bf16 in hardware. torch.cuda.is_bf16_supported()
#: counts emulation: a T4 says yes.
NATIVE_BF16 = (8, 0)

_DEVICE_WORDS = {"cuda": "GPU", "mps": "Apple GPU", "cpu": "CPU"}


@dataclass(frozen=True)
class Machine:
    """What matters of the hardware.

    `device` is cuda, mps or cpu; `threads` the CPU threads that torch uses; `native_bf16` is false
    where bf16 is emulated. `eight_bit`: whether bitsandbytes really kept 8-bit states when asked
    to. `memory_free`: bytes. `eight_bit_time`: how many times as long an update of adamw_8bit takes
    as one of fused AdamW. None is what was not looked at, or cannot be known.
    """

    device: str
    name: str
    threads: int
    native_bf16: bool
    eight_bit: bool | None = None
    memory_free: int | None = None
    eight_bit_time: float | None = None

    def __str__(self) -> str:
        """In a few words, for the first line of a notebook."""
        parts = [_DEVICE_WORDS[self.device]]
        if self.device == "cpu":
            parts.append(plural(self.threads, "thread"))
        if self.memory_free:
            parts.append(f"{self.memory_free / 1e9:.0f} GB free")
        bf16 = "in hardware" if self.native_bf16 else "only emulated"
        return f"{self.name} ({', '.join(parts)}), bf16 {bf16}"


def _graphics_card(name: str, compute_capability: tuple[int, int], mebibytes: int) -> Machine:
    return Machine(
        device="cuda",
        name=name,
        threads=2,
        native_bf16=compute_capability >= NATIVE_BF16,
        eight_bit=True,
        memory_free=mebibytes * 2**20,
    )


#: Machines by name, for asking about one that is not here; a card is taken as empty. Memory as
#: nvidia-smi reports it (modal-labs/modal-client pull request 2797), compute capability from
#: NVIDIA's CUDA GPUs page.
MACHINES = {
    "cpu": Machine("cpu", "a CPU with AVX512-BF16", threads=2, native_bf16=True, eight_bit=True),
    "cpu-without-bf16": Machine(
        "cpu", "a CPU without bf16 instructions", threads=2, native_bf16=False, eight_bit=True
    ),
    "mps": Machine("mps", "an Apple GPU", threads=8, native_bf16=True, eight_bit=True),
    "t4": _graphics_card("Tesla T4", (7, 5), 15_360),
    "l4": _graphics_card("NVIDIA L4", (8, 9), 23_034),
    "a100": _graphics_card("NVIDIA A100 40GB", (8, 0), 40_960),
    "a100-80gb": _graphics_card("NVIDIA A100 80GB", (8, 0), 81_920),
    "h100": _graphics_card("NVIDIA H100 80GB", (9, 0), 81_559),
}


def find_machine(name: str) -> Machine:
    """A machine of MACHINES, or this one for `here`, which takes seconds. Raises BadInput."""
    if name == "here":
        return probe()
    if name not in MACHINES:
        raise BadInput(
            f"device: expected here, {', '.join(MACHINES)}; "
            f"got {name!r}{did_you_mean(name, ['here', *MACHINES])}"
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
    """The decisions for one recipe on one machine, ready for TrainingArguments.

    `compute_dtype`: the format in which 4-bit weights are multiplied; None where there are none.
    """

    device: str
    device_name: str
    threads: int
    bf16: bool
    fp16: bool
    optim: str
    choices: list[Choice]
    compute_dtype: str | None = None

    @property
    def settings(self) -> dict:
        """What TrainingArguments must be told so that it does what was decided."""
        return dict(use_cpu=self.device == "cpu", bf16=self.bf16, fp16=self.fp16, optim=self.optim)


def probe(try_optimizer: bool = True) -> Machine:
    """Look at this machine.

    Takes seconds the first time: it imports torch and times an 8-bit optimizer.
    `try_optimizer=False` leaves that out; while a training runs it must, for trying empties
    bitsandbytes' overrides.
    """
    import torch

    machine = _look_at_gpu() if torch.cuda.is_available() else _look_at_cpu()
    if not try_optimizer:
        return machine
    # bitsandbytes has nothing for Apple's GPU: with 8-bit states, hpkit trains on its CPU.
    if not _keeps_8bit_states("cuda" if machine.device == "cuda" else "cpu"):
        return dataclasses.replace(machine, eight_bit=False)
    return dataclasses.replace(machine, eight_bit=True, eight_bit_time=_eight_bit_time(machine))


def _look_at_gpu() -> Machine:
    import torch

    free, _ = torch.cuda.mem_get_info()
    return Machine(
        device="cuda",
        name=torch.cuda.get_device_name(),
        threads=torch.get_num_threads(),
        native_bf16=torch.cuda.get_device_capability() >= NATIVE_BF16,
        memory_free=free,
    )


def _look_at_cpu() -> Machine:
    """A machine without an NVIDIA GPU; Apple's GPU shares its memory with the CPU."""
    import psutil
    import torch

    if torch.backends.mps.is_available():
        device = "mps"
        name = platform.processor() or "Apple"
    else:
        device = "cpu"
        name = _cpu_name()
    instructions = {}
    if hasattr(torch.cpu, "get_capabilities"):  # older versions of torch lack it
        instructions = torch.cpu.get_capabilities()
    # Of Intel's and AMD's vector units, of Intel's matrix units, of Arm.
    with_bf16 = ("avx512_bf16", "amx_bf16", "bf16")
    return Machine(
        device=device,
        name=name,
        threads=torch.get_num_threads(),
        native_bf16=any(instructions.get(instruction, False) for instruction in with_bf16),
        memory_free=psutil.virtual_memory().available,
    )


def _cpu_name() -> str:
    """The processor's name; on Linux `platform` knows only its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def forget_32bit_overrides() -> None:
    """Empty bitsandbytes' process-wide list of parameters to keep at 32 bits.

    Call it before an optimizer is made. The Trainer enters every embedding there, and bitsandbytes
    0.50 looks entries up by a parameter's position. Left over from an earlier run in the same
    process, they keep other parameters at 32 bits, and the old model in memory.
    """
    # What has not been imported has nothing to forget, and importing it takes seconds.
    if "bitsandbytes" in sys.modules:
        sys.modules["bitsandbytes"].optim.GlobalOptimManager.get_instance().initialize()


def _keeps_8bit_states(device: str) -> bool:
    """Take a step of bitsandbytes' AdamW on 4,096 numbers, the least it quantizes, and look."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return False
    try:
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
    """An update of 8-bit AdamW against one of fused AdamW, in time.

    Measured once per machine, then read from the cache.
    """
    versions = [importlib.metadata.version(package) for package in ("torch", "bitsandbytes")]
    key = "-".join([machine.name, str(machine.threads), *versions])
    cache = cache_folder() / "eight-bit-time.json"
    try:
        measured = dict(json.loads(cache.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        measured = {}
    if isinstance(measured.get(key), float):
        return measured[key]
    measured[key] = _measured_eight_bit_time("cuda" if machine.device == "cuda" else "cpu")
    write_whole(cache, json.dumps(measured), optional=True)
    return measured[key]


def _measured_eight_bit_time(device: str) -> float:
    """The fastest of five updates each, of a million weights in one tensor."""
    import bitsandbytes
    import torch

    weight = torch.nn.Parameter(torch.ones(1024, 1024, device=device))
    other_weight = torch.nn.Parameter(torch.ones(1024, 1024, device=device))
    weight.grad = torch.full_like(weight, 1e-3)
    other_weight.grad = torch.full_like(other_weight, 1e-3)
    eight_bit = bitsandbytes.optim.AdamW([weight], optim_bits=8)
    fused = torch.optim.AdamW([other_weight], fused=True)
    _step_seconds(eight_bit, device)  # the first update of each makes its states
    _step_seconds(fused, device)
    eight_bit_seconds = []
    fused_seconds = []
    # In turns, and of each the fastest: what else the machine does can only delay an update.
    for _ in range(5):
        eight_bit_seconds.append(_step_seconds(eight_bit, device))
        fused_seconds.append(_step_seconds(fused, device))
    return min(eight_bit_seconds) / min(fused_seconds)


def _step_seconds(optimizer, device: str) -> float:
    import torch

    # A GPU works behind the program's back: the clock must wait for it.
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    optimizer.step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def decide(recipe: Recipe, machine: Machine) -> Capability:
    """What to use on `machine` for `recipe`. Raises BadInput where going on would deceive."""
    device, device_choice = _choose_device(recipe, machine)
    precision = _choose_precision(recipe, machine, device)
    optimizer = _choose_optimizer(recipe, machine, device)
    choices = [device_choice, precision, optimizer]
    compute_dtype = None
    if recipe.load_in_4bit:
        weights = _choose_4bit_weights(recipe, machine, device)
        choices.append(weights)
        compute_dtype = weights.used
    return Capability(
        device=device,
        device_name=machine.name,
        threads=machine.threads,
        bf16=precision.used == "bf16",
        fp16=precision.used == "fp16",
        optim=optimizer.used,
        choices=choices,
        compute_dtype=compute_dtype,
    )


def _choose_device(recipe: Recipe, machine: Machine) -> tuple[str, Choice]:
    wanted = _DEVICE_WORDS[machine.device]
    of_bitsandbytes = recipe.optim in EIGHT_BIT_ADAMW or recipe.load_in_4bit
    if machine.device == "mps" and (of_bitsandbytes or recipe.fp16):
        why = "bitsandbytes keeps no 8-bit states on Apple's GPU, and fp16 needs loss scaling there"
        if recipe.load_in_4bit:
            why = "bitsandbytes has no 4-bit weights on Apple's GPU"
        return "cpu", Choice("device", wanted, "CPU", why)
    why = machine.name
    if machine.device == "cpu":
        why += f", {machine.threads} threads"
    return machine.device, Choice("device", wanted, wanted, why)


def _choose_precision(recipe: Recipe, machine: Machine, device: str) -> Choice:
    """bf16, fp16, or the format of the weights where nothing is multiplied in fewer bits."""
    if recipe.fp16:
        if device != "cuda":
            raise BadInput(
                "fp16 on a CPU: transformers would train in fp32 without saying so, and fp16 "
                "multiplication is many times slower there; "
                "set fp16 to false, and bf16 to true for 16 bits"
            )
        why = f"autocast to fp16 with loss scaling; {_kept(recipe)}"
        return Choice("precision", "fp16", "fp16", why)
    if not recipe.bf16:
        return Choice("precision", recipe.dtype, recipe.dtype, "no autocast was asked for")
    if machine.native_bf16:
        why = f"autocast to bf16 in hardware; {_kept(recipe)}"
        return Choice("precision", "bf16", "bf16", why)
    if device == "cuda":
        why = f"{machine.name} only emulates bf16, slowly; fp16 with loss scaling is native"
        return Choice("precision", "bf16", "fp16", why)
    why = f"autocast to bf16 emulated here: right, but not faster than fp32; {_kept(recipe)}"
    return Choice("precision", "bf16", "bf16", why)


def _kept(recipe: Recipe) -> str:
    """In what the weights stay, in words."""
    return "weights stay in 4 bits" if recipe.load_in_4bit else f"weights stay {recipe.dtype}"


def _choose_4bit_weights(recipe: Recipe, machine: Machine, device: str) -> Choice:
    """In which format 4-bit weights are multiplied. Raises BadInput where there can be none."""
    if recipe.lora_r is None:
        raise BadInput(
            "load_in_4bit: weights of 4 bits cannot be trained, and without lora_r nothing else "
            "is; give lora_r too, 16 for instance, or leave load_in_4bit out"
        )
    # None was not looked at, and a card of MACHINES takes them.
    if machine.eight_bit is False:
        raise BadInput(
            "load_in_4bit: bitsandbytes is absent or does not work on this machine: "
            "pip install bitsandbytes, or leave load_in_4bit out"
        )
    wanted = recipe.bnb_4bit_compute_dtype
    what = "products of 4-bit weights"
    if wanted == "bfloat16" and device == "cuda" and not machine.native_bf16:
        why = f"{machine.name} only emulates bf16; the weights stay in 4 bits"
        return Choice(what, wanted, "float16", why)
    why = "bitsandbytes keeps the frozen weights in NF4, and writes them out for each product"
    if device == "cpu":
        why += "; that is made for GPUs, and an update here takes up to twice as long as without"
    return Choice(what, wanted, wanted, why)


def _choose_optimizer(recipe: Recipe, machine: Machine, device: str) -> Choice:
    if recipe.optim not in EIGHT_BIT_ADAMW:
        return Choice("optimizer", recipe.optim, recipe.optim, "as asked")
    if not machine.eight_bit:
        why = (
            "bitsandbytes is absent or keeps no 8-bit states on this machine; "
            "these states take 8 bytes a parameter"
        )
        return Choice("optimizer", recipe.optim, "adamw_torch", why)
    if recipe.optim == "paged_adamw_8bit" and device == "cpu":
        why = "paging moves states out of GPU memory, and there is none here"
        return Choice("optimizer", recipe.optim, "adamw_8bit", why)
    why = "bitsandbytes keeps these states in uint8"
    if machine.eight_bit_time:
        times = f"{machine.eight_bit_time:.3g} times"
        why += f"; tried here, its update takes {times} as long as fused AdamW's"
    return Choice("optimizer", recipe.optim, recipe.optim, why)
