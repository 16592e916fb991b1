"""Bytes of a full fine-tune, predicted from a model's names and shapes before anything is loaded.

hpkit.measured_memory measures the same on a live training; tests/test_memory.py holds the two
against each other.
"""

import copy
import math
import re
from typing import NamedTuple

from hpkit.capability import EIGHT_BIT_ADAMW
from hpkit.errors import BadInput, did_you_mean
from hpkit.hyperparameters import CARDS
from hpkit.measured_memory import saved_for_backward
from hpkit.recipe import Recipe

_BYTES = {"float32": 4, "bfloat16": 2}
_TORCH_ADAMW = ("adamw_torch", "adamw_torch_fused")
_OPTIMIZERS = (*_TORCH_ADAMW, *EIGHT_BIT_ADAMW, "adafactor", "sgd")
# bitsandbytes keeps smaller tensors at 32 bits, and scales blocks of so many values together.
_LEAST_QUANTIZED = 4096
_BLOCK_SIZE = 256


class Parameter(NamedTuple):
    """One trained tensor: name, shape in elements, and whether it is an `nn.Embedding`'s weight.

    The Trainer keeps embeddings at 32 bits under 8-bit optimizers. A tied output layer is the
    embedding itself.
    """

    name: str
    shape: tuple[int, ...]
    embedding: bool

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


class State(NamedTuple):
    """One thing the optimizer holds for the parameter `name`: in `dtype`, its bytes, the reason."""

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
        """All four together, in bytes."""
        return sum(self)


def parameters_of(source) -> list[Parameter]:
    """The tensors that are trained, each once, in the model's own order; not the frozen ones.

    `source` is a live torch model, a transformers config, or a number of parameters
    (`7_000_000_000`, "7B", "135M") from 5M to 1T. A number stands for a model with Llama's
    proportions, within 3 % of it: vocabulary 32,000, width about 128 times the layers, heads of
    128, feed-forward 8/3 of the width, context 2,048; embeddings tied below 4B. Takes no memory
    for weights. Raises BadInput for anything else.
    """
    import torch

    if not isinstance(source, torch.nn.Module):
        with torch.device("meta"):  # shapes without numbers
            source = _build_model(_config_of(source))
    embeddings = set()
    for module in source.modules():
        if isinstance(module, torch.nn.Embedding):
            embeddings.update(id(weight) for weight in module.parameters())
    parameters = []
    for name, weight in source.named_parameters():
        if weight.requires_grad:
            parameters.append(Parameter(name, tuple(weight.shape), id(weight) in embeddings))
    return parameters


def optimizer_states(
    parameters: list[Parameter], optim: str, dtype: str = "float32"
) -> list[State]:
    """What the Trainer's `optim` holds after its first update, for weights in `dtype`.

    One or two entries a parameter. Summed per dtype they equal
    `optimizer_state_bytes(optimizer.state)` to the byte. bitsandbytes' two code books come last, as
    an entry of their own. Plain sgd holds nothing. Raises BadInput for an unknown optimizer.
    """
    _refuse_invalid("dtype", dtype)
    if optim not in _OPTIMIZERS:
        raise BadInput(
            f"optim: the states of {', '.join(_OPTIMIZERS)} can be predicted, got {optim!r}"
            f"{did_you_mean(optim, _OPTIMIZERS)}; "
            "choose one of them, or measure with optimizer_state_bytes"
        )
    states = []
    for parameter in parameters:
        states += _states_of(parameter, optim, dtype)
    if any(state.dtype == "uint8" for state in states):
        reason = "what the 256 codes mean, one book per average, shared by all tensors"
        states.append(State("code books", "float32", 2 * 256 * 4, reason))
    return states


def _states_of(parameter: Parameter, optim: str, dtype: str) -> list[State]:
    if optim == "sgd":  # the Trainer asks for no momentum
        return []
    if optim == "adafactor":
        return _adafactor_states(parameter)
    if optim in _TORCH_ADAMW:
        size = 2 * parameter.elements * _BYTES[dtype]
        return [
            State(parameter.name, dtype, size, "two averages in the weights' format"),
            State(parameter.name, "float32", 4, "step counter"),
        ]
    return _eight_bit_adamw_states(parameter)


def _adafactor_states(parameter: Parameter) -> list[State]:
    """Adafactor keeps rows and columns of a matrix's squares; a vector's it keeps as they are."""
    if len(parameter.shape) < 2:
        averages = parameter.elements
        reason = "a vector: one average of squares"
    else:
        *_, rows, columns = parameter.shape
        averages = parameter.elements // columns + parameter.elements // rows
        reason = "averages of rows and of columns"
    return [
        State(parameter.name, "float32", 4 * averages, reason),
        State(parameter.name, "float32", 4, "the update's size"),
    ]


def _eight_bit_adamw_states(parameter: Parameter) -> list[State]:
    in_32_bits = 2 * parameter.elements * 4
    if parameter.embedding:
        reason = "embedding: the Trainer keeps it at 32 bits"
        return [State(parameter.name, "float32", in_32_bits, reason)]
    if parameter.elements < _LEAST_QUANTIZED:
        return [State(parameter.name, "float32", in_32_bits, "under 4,096 elements: 32 bits")]
    blocks = math.ceil(parameter.elements / _BLOCK_SIZE)
    scales = "8-bit: a scale per 256 elements and average"
    return [
        State(parameter.name, "uint8", 2 * parameter.elements, "8-bit: two averages"),
        State(parameter.name, "float32", 2 * blocks * 4, scales),
    ]


def activation_bytes(
    source, batch: int, length: int, bf16: bool, attention: str = "sdpa", dtype: str = "float32"
) -> int:
    """Bytes that autograd keeps from a forward pass with labels until the backward pass.

    `source` as for `parameters_of`, a live model needing a transformers config; `batch` sequences
    of `length` tokens, without padding, nothing checkpointed; weights in `dtype`; `bf16` multiplies
    under autocast, and then the bf16 copies of the weights count too, for they are kept as long.
    `attention` is sdpa or eager; a model that has no sdpa takes eager. Storages count once. torch's
    fake tensors walk the real code without memory or arithmetic, so any size takes seconds.

    Left out: the weights, buffers that live for one operation only (the loss has some of batch x
    length x vocabulary numbers), the gradients of activations, and under sdpa the mask of a sliding
    window. These are the CPU's kernels; a GPU's may keep other things. Raises BadInput, also for a
    model that cannot be walked: experts, for one, choose by numbers that fake tensors do not have.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AttentionInterface

    _refuse_invalid("per_device_train_batch_size", batch)
    _refuse_invalid("max_seq_length", length)
    _refuse_invalid("dtype", dtype)
    if attention not in ("sdpa", "eager"):
        raise BadInput(f"attention: expected sdpa or eager, got {attention!r}")
    config = _config_of(source)
    if attention == "sdpa" and not _model_class(config)._supports_sdpa:
        attention = "eager"
    if attention == "sdpa":
        # transformers leaves the causal mask to sdpa, but not for fake tensors, whose values it
        # cannot look at. Under a name it has no mask for, it makes none.
        attention = "sdpa_without_mask"
        AttentionInterface.register(attention, AttentionInterface()["sdpa"])
    try:
        with FakeTensorMode():
            model = _build_model(config, attn_implementation=attention, dtype=getattr(torch, dtype))
            model.train()
            tokens = torch.zeros(batch, length, dtype=torch.long)
            autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
            with saved_for_backward(model) as saved, autocast:
                model(input_ids=tokens, labels=tokens, use_cache=False)
    except Exception as error:  # each class of model has its own
        raise BadInput(
            f"model: the activations of {_model_class(config).__name__} cannot be predicted "
            f"({type(error).__name__})"
        ) from error
    return sum(kept.bytes for kept in saved.values())


def predict_memory(
    source, recipe: Recipe, batch: int | None = None, length: int | None = None
) -> Memory:
    """What a full fine-tune of `source` by `recipe` holds, in bytes, on a CPU or a GPU.

    `source` as for `activation_bytes`; `batch` defaults to the recipe's, per device; `length`, in
    tokens, to the recipe's, then to the model's context. The total supposes that everything is held
    at once; in truth activations go while gradients come.

    Temporary buffers come on top: the starter's peak in fp32 at 8 x 256 lies 10 to 15 % above the
    total. A CPU process under glibc also keeps freed blocks, and its peak lies 60 to 70 % above.
    tests/test_memory.py measures both. Raises BadInput.
    """
    parameters = parameters_of(source)
    config = _config_of(source)
    if batch is None:
        batch = recipe.per_device_train_batch_size
    if length is None:
        length = recipe.max_seq_length
    if length is None:
        length = getattr(config.get_text_config(), "max_position_embeddings", None)
    held = without_activations(parameters, recipe)
    activations = activation_bytes(
        source, batch, length, bf16=_multiplies_in_16_bits(recipe), dtype=recipe.dtype
    )
    return held._replace(activations=activations)


def without_activations(parameters: list[Parameter], recipe: Recipe) -> Memory:
    """What a full fine-tune by `recipe` holds from its first update on. Raises BadInput."""
    weights = weight_bytes(parameters, recipe.dtype)
    states = state_bytes(parameters, recipe.optim, recipe.dtype)
    return Memory(weights=weights, gradients=weights, optimizer=states, activations=0)


def checkpoint_bytes(source, recipe: Recipe) -> int:
    """Bytes of one checkpoint of a full fine-tune: weights and optimizer states.

    Files of a few kilobytes are left out. `source` as for parameters_of: a live model, a
    transformers config or a size such as "7B". Raises BadInput.
    """
    parameters = parameters_of(source)
    return weight_bytes(parameters, recipe.dtype) + state_bytes(
        parameters, recipe.optim, recipe.dtype
    )


def weight_bytes(parameters: list[Parameter], dtype: str) -> int:
    """Bytes of the weights, and of as many gradients, in float32 or bfloat16."""
    return sum(parameter.elements for parameter in parameters) * _BYTES[dtype]


def state_bytes(parameters: list[Parameter], optim: str, dtype: str = "float32") -> int:
    """Bytes of all that `optimizer_states` names. Raises BadInput as it does."""
    return sum(state.bytes for state in optimizer_states(parameters, optim, dtype))


def _multiplies_in_16_bits(recipe: Recipe) -> bool:
    """Under autocast to bf16 or fp16, which take two bytes a number alike."""
    return recipe.bf16 or recipe.fp16


class Predictor:
    """predict_memory of one `source` for many recipes, sooner.

    Activations take a walk through the model of up to seconds. For each length and precision two
    batches are walked, and further ones lie on the line through them, to the byte (a test
    compares). A batch of 1 keeps a few bytes less than the line says, so it is always walked.
    Raises BadInput.
    """

    def __init__(self, source):
        self.source = source
        self.parameters = parameters_of(source)
        # (length, 16 bits or not, dtype) -> {batch: bytes}
        self._walked = {}

    def predict(self, recipe: Recipe) -> Memory:
        """As predict_memory; the recipe must say its `max_seq_length`."""
        held = without_activations(self.parameters, recipe)
        return held._replace(activations=self._activation_bytes(recipe))

    def _activation_bytes(self, recipe: Recipe) -> int:
        batch = recipe.per_device_train_batch_size
        bf16 = _multiplies_in_16_bits(recipe)
        walked = self._walked.setdefault((recipe.max_seq_length, bf16, recipe.dtype), {})
        if batch in walked:
            return walked[batch]
        line = [known for known in walked if known > 1][:2]
        if batch > 1 and len(line) == 2:
            first, second = line
            rise = walked[second] - walked[first]
            return walked[first] + rise * (batch - first) // (second - first)
        walked[batch] = activation_bytes(
            self.source, batch, recipe.max_seq_length, bf16, dtype=recipe.dtype
        )
        return walked[batch]

    def largest_batch(self, recipe: Recipe, free: int) -> int:
        """The largest batch up to the recipe's own that is predicted to take at most `free` bytes.

        0 where none does.
        """
        memory = self.predict(recipe)
        if memory.total - memory.activations > free:
            return 0
        fits = 0
        too_large = recipe.per_device_train_batch_size + 1  # larger than asked for, at any rate
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            if self.predict(recipe.replace(per_device_train_batch_size=middle)).total <= free:
                fits = middle
            else:
                too_large = middle
        return fits


def _refuse_invalid(name: str, value) -> None:
    """Raise BadInput for a value that the hyperparameter's card does not allow, None among them."""
    if value is None or not CARDS[name].valid(value):
        raise BadInput(f"{name}: expected {CARDS[name].expected}, got {value!r}")


def _build_model(config, **settings):
    # The copy keeps the settings out of a live model's config.
    config = copy.deepcopy(config)
    return _model_class(config)._from_config(config, **settings)


def _model_class(config):
    """The class that the config names, else the causal language model of its type."""
    import transformers

    # A config that names a class, such as BertForSequenceClassification, may be no language model.
    architecture = (config.architectures or [""])[0]
    model_class = getattr(transformers, architecture, None)
    if model_class is None:
        try:
            model_class = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        except KeyError:
            raise BadInput(
                f"model: transformers has no causal language model of type {config.model_type}"
            ) from None
    return model_class


def _config_of(source):
    """The transformers config of a live model, of a config, or of a number of parameters."""
    from transformers import LlamaConfig, PreTrainedConfig

    for config in (source, getattr(source, "config", None)):
        if isinstance(config, PreTrainedConfig):
            return config
    return LlamaConfig(**_llama_shape(_parameter_count(source)))


def _parameter_count(source) -> float:
    """The number that `7_000_000_000`, "7B" or "135M" says. Raises BadInput for anything else."""
    text = ""
    if isinstance(source, (int, str)):
        text = str(source)
    count = 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MBT]?)", text.strip().upper())
    if match:
        count = float(match[1]) * {"": 1, "M": 1e6, "B": 1e9, "T": 1e12}[match[2]]
    if not 5e6 <= count <= 1e12:
        got = repr(source) if text else f"an object of type {type(source).__name__}"
        raise BadInput(
            "model: expected a transformers model, its config, "
            f"or a number of parameters from 5M to 1T such as 7B, got {got}"
        )
    return count


def _llama_shape(count: float) -> dict:
    """Among the Llamas within 3 % of `count` parameters, the one nearest to Llama's proportions.

    There the width is 128 times the layers, which is as many heads of 128 as there are layers.
    """
    tied = count < 4e9
    best = None
    least_distortion = math.inf
    for heads in range(1, 257):
        width = 128 * heads
        forward = 256 * math.ceil(8 * width / 3 / 256)
        layer = 4 * width**2 + 3 * width * forward + 2 * width  # attention, feed-forward, two norms
        vocabularies = 1 if tied else 2  # the embedding, and an output layer of its own
        ends = 32_000 * width * vocabularies + width
        layers = max(round((count - ends) / layer), 1)
        distortion = max(layers / heads, heads / layers)
        near = abs(ends + layers * layer - count) <= 0.03 * count
        if near and distortion < least_distortion:
            least_distortion = distortion
            best = dict(
                hidden_size=width,
                num_attention_heads=heads,
                num_hidden_layers=layers,
                intermediate_size=forward,
            )
    return best | dict(vocab_size=32_000, tie_word_embeddings=tied)
