"""Bytes of a full fine-tune: predicted from a model's shapes, tensor by tensor, and measured on the live run."""

import copy
import math
import re
import sys
from pathlib import Path
from typing import NamedTuple

from hpkit.capability import EIGHT_BIT_ADAMW
from hpkit.errors import BadInput, did_you_mean
from hpkit.hyperparameters import CARDS
from hpkit.recipe import Recipe

_BYTES = {"float32": 4, "bfloat16": 2}
_TORCH_ADAMW = ("adamw_torch", "adamw_torch_fused")
_OPTIMIZERS = (*_TORCH_ADAMW, *EIGHT_BIT_ADAMW, "adafactor", "sgd")


def optimizer_state_bytes(state: dict) -> dict[str, dict[str, int]]:
    """What an optimizer's `state` holds: `{"uint8": {"tensors": 58, "bytes": 3542016}, …}`.

    Takes the live `optimizer.state` or the one in a checkpoint. Each storage counts once, however often it is shared
    (bitsandbytes' code books are). Python numbers do not count.
    """
    import torch

    seen, result, left = set(), {}, [state]
    while left:
        for value in left.pop().values():
            if isinstance(
                value, dict
            ):  # a parameter's state, or what bitsandbytes packs together when it saves
                left.append(value)
            elif isinstance(value, torch.Tensor) and value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                entry = result.setdefault(
                    str(value.dtype).removeprefix("torch."), {"tensors": 0, "bytes": 0}
                )
                entry["tensors"] += 1
                entry["bytes"] += value.numel() * value.element_size()
    return result


def peak_memory_bytes(device: str) -> int:
    """The most memory used so far: on `cuda` what torch allocated there, elsewhere the process's resident set."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    if sys.platform == "linux":
        # getrusage starts with the peak of the process that started this one; a large notebook would be counted in.
        peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if peak:  # some sandboxes leave the line out
            return int(peak[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kilobytes


def reset_peak_memory(device: str) -> None:
    """Let `peak_memory_bytes` begin anew, for a process that trains several times. Apple and Windows have no such thing."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text(
                "5"
            )  # proc(5): 5 sets VmHWM to what is used now
        except OSError:  # some sandboxes keep the file to themselves
            pass


# Predicted: from names and shapes alone, before anything is loaded.


class Parameter(NamedTuple):
    """One trained tensor: its name, its shape in elements, and whether it is the weight of an `nn.Embedding`.

    The Trainer keeps embeddings at 32 bits under 8-bit optimizers. A tied output layer is the embedding itself.
    """

    name: str
    shape: tuple[int, ...]
    embedding: bool

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class State(NamedTuple):
    """One thing the optimizer holds for the parameter `name`: numbers in `dtype`, their size in bytes, and the reason."""

    name: str
    dtype: str
    bytes: int
    reason: str


class Memory(NamedTuple):
    """Where the bytes of a full fine-tune go."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self)


def parameters_of(source) -> list[Parameter]:
    """The tensors that are trained, each once, in the model's own order; of a live model not the frozen ones.

    `source` is a live torch model, a transformers config, or a number of parameters (`7_000_000_000`, "7B", "135M")
    from 5M to 1T. A number stands for a model with Llama's proportions, within 3 % of it: vocabulary 32,000, width
    about 128 times the layers, heads of 128, feed-forward 8/3 of the width, context 2,048; embeddings tied below 4B.
    Takes no memory for weights. Raises BadInput for anything else.
    """
    import torch

    if not isinstance(source, torch.nn.Module):
        with torch.device("meta"):  # shapes without numbers
            source = _build(_config_of(source))
    embeddings = {
        id(weight)
        for module in source.modules()
        if isinstance(module, torch.nn.Embedding)
        for weight in module.parameters()
    }
    trained = [(name, weight) for name, weight in source.named_parameters() if weight.requires_grad]
    return [
        Parameter(name, tuple(weight.shape), id(weight) in embeddings) for name, weight in trained
    ]


def optimizer_states(
    parameters: list[Parameter], optim: str, dtype: str = "float32"
) -> list[State]:
    """What the Trainer's `optim` holds after its first update, for weights in `dtype`: one or two entries a parameter.

    Summed per dtype it equals `optimizer_state_bytes(optimizer.state)` to the byte. bitsandbytes' two code books come
    last, as an entry of their own. Plain sgd holds nothing. Raises BadInput for an optimizer it does not know.
    """
    _check("dtype", dtype)
    if optim not in _OPTIMIZERS:
        raise BadInput(
            f"optim: the states of {', '.join(_OPTIMIZERS)} can be predicted, got {optim!r}{did_you_mean(optim, _OPTIMIZERS)}; "
            "choose one of them, or measure with optimizer_state_bytes"
        )
    states = [
        State(parameter.name, *held)
        for parameter in parameters
        for held in _held(parameter, optim, dtype)
    ]
    if any(state.dtype == "uint8" for state in states):
        states.append(
            State(
                "code books",
                "float32",
                2 * 256 * 4,
                "what the 256 codes mean, one book per average, shared by all tensors",
            )
        )
    return states


def _held(parameter: Parameter, optim: str, dtype: str) -> list[tuple[str, int, str]]:
    """(dtype, bytes, reason) of each thing that `optim` holds for `parameter`."""
    elements, shape = parameter.elements, parameter.shape
    if optim == "sgd":  # the Trainer asks for no momentum
        return []
    if optim == "adafactor":
        size = "float32", 4, "the update's size"
        if len(shape) < 2:
            return [("float32", 4 * elements, "a vector: one average of squares"), size]
        return [
            (
                "float32",
                4 * (elements // shape[-1] + elements // shape[-2]),
                "averages of rows and of columns",
            ),
            size,
        ]
    if optim in _TORCH_ADAMW:
        return [
            (dtype, 2 * elements * _BYTES[dtype], "two averages in the weights' format"),
            ("float32", 4, "step counter"),
        ]
    if parameter.embedding:
        return [("float32", 2 * elements * 4, "embedding: the Trainer keeps it at 32 bits")]
    if elements < 4096:
        return [("float32", 2 * elements * 4, "under 4,096 elements: 32 bits")]
    blocks = math.ceil(elements / 256)
    return [
        ("uint8", 2 * elements, "8-bit: two averages"),
        ("float32", 2 * blocks * 4, "8-bit: a scale per 256 elements and average"),
    ]


def activation_bytes(
    source, batch: int, length: int, bf16: bool, attention: str = "sdpa", dtype: str = "float32"
) -> int:
    """Bytes that autograd keeps from a forward pass with labels until the backward pass; storages count once.

    `source` as for `parameters_of`, a live model needing a transformers config; `batch` sequences of `length` tokens,
    without padding, nothing checkpointed; weights in `dtype`; `bf16` multiplies under autocast, and then the bf16
    copies of the weights count too, for they are kept as long. `attention` is sdpa or eager. torch's fake tensors walk
    the real code without memory or arithmetic, so any size takes seconds. Left out: the weights, buffers that live
    for one operation only (the loss has some of batch x length x vocabulary numbers), the gradients of activations,
    and under sdpa the mask of a sliding window. These are the CPU's kernels; a GPU's may keep other things. Raises
    BadInput.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AttentionInterface

    _check("per_device_train_batch_size", batch)
    _check("max_seq_length", length)
    _check("dtype", dtype)
    if attention not in ("sdpa", "eager"):
        raise BadInput(f"attention: expected sdpa or eager, got {attention!r}")
    if attention == "sdpa":
        # transformers leaves the causal mask to sdpa, but not for fake tensors, whose values it cannot look at. Under
        # a name it has no mask for, it makes none.
        attention = "sdpa_without_mask"
        AttentionInterface.register(attention, AttentionInterface()["sdpa"])
    config, kept = _config_of(source), {}
    with FakeTensorMode():
        model = _build(config, attn_implementation=attention, dtype=getattr(torch, dtype)).train()
        weights = {weight.untyped_storage()._cdata for weight in model.parameters()}

        def keep(tensor):
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                kept[storage._cdata] = storage  # held, so that its address stays its own
            return tensor

        tokens = torch.zeros(batch, length, dtype=torch.long)
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model(input_ids=tokens, labels=tokens, use_cache=False)
        return sum(storage.nbytes() for storage in kept.values())


def predict_memory(
    source, recipe: Recipe, batch: int | None = None, length: int | None = None
) -> Memory:
    """What a full fine-tune of `source` (as for `activation_bytes`) by `recipe` holds, in bytes, on a CPU or a GPU.

    `batch` defaults to the recipe's, per device; `length`, in tokens, to the recipe's, then to the model's context.
    The total supposes that everything is held at once; in truth activations go while gradients come. Temporary buffers
    come on top: the starter's peak in fp32 at 8 x 256 lies 10 to 15 % above the total. A CPU process under glibc also
    keeps freed blocks, and its peak lies 60 to 70 % above. tests/test_memory.py measures both. Raises BadInput.
    """
    parameters, config = parameters_of(source), _config_of(source)
    batch = recipe.per_device_train_batch_size if batch is None else batch
    if length is None:
        length = recipe.max_seq_length or getattr(
            config.get_text_config(), "max_position_embeddings", None
        )
    weights = sum(parameter.elements for parameter in parameters) * _BYTES[recipe.dtype]
    states = sum(state.bytes for state in optimizer_states(parameters, recipe.optim, recipe.dtype))
    half = recipe.bf16 or recipe.fp16  # both take two bytes
    return Memory(
        weights, weights, states, activation_bytes(source, batch, length, half, dtype=recipe.dtype)
    )


def checkpoint_bytes(source, recipe: Recipe) -> int:
    """Bytes of one checkpoint of a full fine-tune: weights and optimizer states, without files of a few kilobytes.

    `source` as for parameters_of: a live model, a transformers config or a size such as "7B". Raises BadInput.
    """
    parameters = parameters_of(source)
    weights = sum(parameter.elements for parameter in parameters) * _BYTES[recipe.dtype]
    return weights + sum(
        state.bytes for state in optimizer_states(parameters, recipe.optim, recipe.dtype)
    )


class Predictor:
    """predict_memory of one `source` for many recipes, sooner: activations take a walk through the model of up to seconds.

    For each length and precision two batches are walked, and further ones lie on the line through them, to the byte (a
    test compares). A batch of 1 keeps a few bytes less than the line says, so it is always walked. Raises BadInput.
    """

    def __init__(self, source):
        self.source, self.parameters, self._walked = source, parameters_of(source), {}

    def predict(self, recipe: Recipe) -> Memory:
        """As predict_memory; the recipe must say its `max_seq_length`."""
        weights = sum(parameter.elements for parameter in self.parameters) * _BYTES[recipe.dtype]
        states = sum(
            state.bytes for state in optimizer_states(self.parameters, recipe.optim, recipe.dtype)
        )
        return Memory(weights, weights, states, self._activations(recipe))

    def _activations(self, recipe: Recipe) -> int:
        batch, length, half = (
            recipe.per_device_train_batch_size,
            recipe.max_seq_length,
            recipe.bf16 or recipe.fp16,
        )
        walked = self._walked.setdefault((length, half, recipe.dtype), {})
        line = [(known, size) for known, size in walked.items() if known > 1][:2]
        if batch not in walked and batch > 1 and len(line) == 2:
            (first, start), (second, end) = line
            return start + (end - start) * (batch - first) // (second - first)
        if batch not in walked:
            walked[batch] = activation_bytes(self.source, batch, length, half, dtype=recipe.dtype)
        return walked[batch]

    def largest_batch(self, recipe: Recipe, free: int) -> int:
        """The largest batch up to the recipe's own whose prediction is at most `free` bytes; 0 where none is."""
        memory = self.predict(recipe)
        low, high = 0, recipe.per_device_train_batch_size + 1  # no batch always fits; high does not
        if memory.total - memory.activations > free:
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            fits = self.predict(recipe.replace(per_device_train_batch_size=middle)).total <= free
            low, high = (middle, high) if fits else (low, middle)
        return low


def _check(name: str, value) -> None:
    if value is None or not CARDS[name].valid(value):
        raise BadInput(f"{name}: expected {CARDS[name].expected}, got {value!r}")


def _build(config, **settings):
    import transformers

    # The copy keeps the settings out of a live model's config.
    config = copy.deepcopy(config)
    head = getattr(
        transformers, (config.architectures or [""])[0], None
    )  # such as BertForSequenceClassification
    if head:
        return head._from_config(config, **settings)
    return transformers.AutoModelForCausalLM.from_config(
        config, trust_remote_code=False, **settings
    )


def _config_of(source):
    """The transformers config of a live model, of a config, or of a number of parameters."""
    from transformers import LlamaConfig, PreTrainedConfig

    for config in (source, getattr(source, "config", None)):
        if isinstance(config, PreTrainedConfig):
            return config
    text = str(source) if isinstance(source, (int, str)) else ""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MBT]?)", text.strip().upper())
    count = float(match[1]) * {"": 1, "M": 1e6, "B": 1e9, "T": 1e12}[match[2]] if match else 0
    if not 5e6 <= count <= 1e12:
        got = repr(source) if text else f"an object of type {type(source).__name__}"
        raise BadInput(
            f"model: expected a transformers model, its config, or a number of parameters from 5M to 1T such as 7B, got {got}"
        )
    return LlamaConfig(**_llama_shape(count))


def _llama_shape(count: float) -> dict:
    """Among the Llamas within 3 % of `count` parameters, the one whose width is nearest to 128 times its layers."""
    tied, shapes = count < 4e9, []
    for heads in range(1, 257):
        width = 128 * heads
        forward = 256 * math.ceil(8 * width / 3 / 256)
        layer = 4 * width**2 + 3 * width * forward + 2 * width  # attention, feed-forward, two norms
        ends = 32_000 * width * (1 if tied else 2) + width
        layers = max(round((count - ends) / layer), 1)
        if abs(ends + layers * layer - count) <= 0.03 * count:
            shape = dict(
                hidden_size=width,
                num_attention_heads=heads,
                num_hidden_layers=layers,
                intermediate_size=forward,
            )
            shapes.append(
                (
                    max(layers / heads, heads / layers),
                    shape | dict(vocab_size=32_000, tie_word_embeddings=tied),
                )
            )
    return min(shapes, key=lambda shape: shape[0])[1]
