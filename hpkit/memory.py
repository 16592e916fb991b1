"""Bytes of a fine-tune, predicted from a model's names and shapes before anything is loaded.

hpkit.measured_memory measures the same on a live training; tests/test_memory.py holds the two
against each other.
"""

import math
from typing import NamedTuple

from hpkit.adapters import is_adapted
from hpkit.capability import EIGHT_BIT_ADAMW
from hpkit.errors import BadInput, did_you_mean
from hpkit.hyperparameters import CARDS
from hpkit.measured_memory import saved_for_backward
from hpkit.recipe import FULL, Recipe
from hpkit.shapes import build_model, config_of, is_in_4bit, model_class

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_TORCH_ADAMW = ("adamw_torch", "adamw_torch_fused")
_OPTIMIZERS = (*_TORCH_ADAMW, *EIGHT_BIT_ADAMW, "adafactor", "sgd")
# bitsandbytes keeps smaller tensors at 32 bits, and scales blocks of so many values together.
_LEAST_QUANTIZED = 4096
_BLOCK_SIZE = 256
# Of 4-bit weights so many have a scale in common; with double quantization so many scales.
_BLOCK_SIZE_4BIT = 64
_SCALES_TOGETHER = 256


class Parameter(NamedTuple):
    """One tensor: name, shape in elements, and whether it is an `nn.Embedding`'s weight.

    The Trainer keeps embeddings at 32 bits under 8-bit optimizers. A tied output layer is the
    embedding itself. `trained`: false where it is frozen. `bytes`: what it takes, of a layer in 4
    bits; elsewhere that follows from the format of the weights.
    """

    name: str
    shape: tuple[int, ...]
    embedding: bool
    trained: bool = True
    bytes: int | None = None

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
    """Where the bytes of a fine-tune go; `weights` are all, the frozen ones too."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All four together, in bytes."""
        return sum(self)


def parameters_of(source, recipe: Recipe = FULL) -> list[Parameter]:
    """The tensors that are trained, each once, in the model's own order; not the frozen ones.

    `source` is a live torch model, a transformers config, or a number of parameters
    (`7_000_000_000`, "7B", "135M") from 5M to 1T. A number stands for a model with Llama's
    proportions, within 3 % of it: vocabulary 32,000, width about 128 times the layers, heads of
    128, feed-forward 8/3 of the width, context 2,048; embeddings tied below 4B. By a `recipe` with
    an adapter it is the adapter that trains. Takes no memory for weights. Raises BadInput for
    anything else.
    """
    return [parameter for parameter in all_parameters(source, recipe) if parameter.trained]


def all_parameters(source, recipe: Recipe = FULL) -> list[Parameter]:
    """The same with the frozen ones among them."""
    import torch

    # A live model without an adapter may be asked about before it gets one.
    is_ready = isinstance(source, torch.nn.Module) and (recipe.lora_r is None or is_adapted(source))
    if not is_ready:
        source = build_model(source, recipe)
    embeddings = set()
    in_4bit = {}
    for module in source.modules():
        if isinstance(module, torch.nn.Embedding):
            embeddings.update(id(weight) for weight in module.parameters(recurse=False))
        elif is_in_4bit(module):
            in_4bit |= _bytes_in_4bit(module, recipe)
    parameters = []
    for name, weight in source.named_parameters():
        parameter = Parameter(
            name,
            _shape_of(weight),
            embedding=id(weight) in embeddings,
            trained=weight.requires_grad,
            bytes=in_4bit.get(id(weight)),
        )
        parameters.append(parameter)
    return parameters


def _shape_of(weight) -> tuple[int, ...]:
    """The shape of the numbers that a weight stands for: packed, two are in a byte."""
    packed = getattr(weight, "quant_state", None)
    return tuple(packed.shape if packed else weight.shape)


def _bytes_in_4bit(layer, recipe: Recipe) -> dict[int, int]:
    """id of weight and bias -> bytes, as bitsandbytes keeps them in NF4.

    Two numbers are in a byte, each block has a scale in float32, and 16 numbers say what the codes
    mean. With double quantization the scales are bytes, which have scales, 256 codes and a mean.
    The bias is in the format of the products, from the first of them on.
    """
    elements = math.prod(_shape_of(layer.weight))
    blocks = math.ceil(elements / _BLOCK_SIZE_4BIT)
    scales = 4 * blocks
    if recipe.bnb_4bit_use_double_quant:
        scales = blocks + 4 * math.ceil(blocks / _SCALES_TOGETHER) + 256 * 4 + 4
    held = {id(layer.weight): math.ceil(elements / 2) + scales + 16 * 4}
    if layer.bias is not None:
        held[id(layer.bias)] = layer.bias.numel() * _BYTES[recipe.bnb_4bit_compute_dtype]
    return held


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
    source,
    batch: int,
    length: int,
    bf16: bool,
    attention: str = "sdpa",
    dtype: str = "float32",
    adapted_by: Recipe = FULL,
) -> int:
    """Bytes that autograd keeps from a forward pass with labels until the backward pass.

    `source` as for `parameters_of`, a live model needing a transformers config; `batch` sequences
    of `length` tokens, without padding, nothing checkpointed; weights in `dtype`; `bf16` multiplies
    under autocast, and then the bf16 copies of the weights count too, for they are kept as long.
    `attention` is sdpa or eager; a model that has no sdpa takes eager. Storages count once. The
    model has the adapter and the 4-bit layers of `adapted_by`, of which nothing else is looked at.
    torch's fake tensors walk the real code without memory or arithmetic, so any size takes seconds.

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
    config = config_of(source)
    if attention == "sdpa" and not model_class(config)._supports_sdpa:
        attention = "eager"
    if attention == "sdpa":
        # transformers leaves the causal mask to sdpa, but not for fake tensors, whose values it
        # cannot look at. Under a name it has no mask for, it makes none.
        attention = "sdpa_without_mask"
        AttentionInterface.register(attention, AttentionInterface()["sdpa"])
    try:
        settings = dict(attn_implementation=attention, dtype=getattr(torch, dtype))
        model = build_model(config, adapted_by, **settings)
        # What it does not make itself, the model on the meta device, it may take as it is.
        with FakeTensorMode(allow_non_fake_inputs=True):
            model.to_empty(device="cpu").train()
            tokens = torch.zeros(batch, length, dtype=torch.long)
            autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
            with saved_for_backward(model) as saved, autocast:
                model(input_ids=tokens, labels=tokens, use_cache=False)
    except Exception as error:  # each class of model has its own
        raise BadInput(
            f"model: the activations of {model_class(config).__name__} cannot be predicted "
            f"({type(error).__name__})"
        ) from error
    return sum(kept.bytes for kept in saved.values())


def predict_memory(
    source, recipe: Recipe, batch: int | None = None, length: int | None = None
) -> Memory:
    """What a fine-tune of `source` by `recipe` holds, in bytes, on a CPU or a GPU.

    `source` as for `activation_bytes`; `batch` defaults to the recipe's, per device; `length`, in
    tokens, to the recipe's, then to the model's context. The total supposes that everything is held
    at once; in truth activations go while gradients come.

    Temporary buffers come on top: the starter's peak in fp32 at 8 x 256 lies 10 to 15 % above the
    total. A CPU process under glibc also keeps freed blocks, and its peak lies 60 to 70 % above.
    tests/test_memory.py measures both. Raises BadInput.
    """
    if batch is None:
        batch = recipe.per_device_train_batch_size
    if length is None:
        length = length_of(source, recipe)
    held = without_activations(all_parameters(source, recipe), recipe)
    activations = activation_bytes(
        source,
        batch,
        length,
        bf16=multiplies_in_16_bits(recipe),
        dtype=recipe.dtype,
        adapted_by=recipe,
    )
    return held._replace(activations=activations)


def length_of(source, recipe: Recipe) -> int | None:
    """Tokens of a sequence: the recipe's, else the model's context; None where neither says."""
    if recipe.max_seq_length is not None:
        return recipe.max_seq_length
    return getattr(config_of(source).get_text_config(), "max_position_embeddings", None)


def without_activations(parameters: list[Parameter], recipe: Recipe) -> Memory:
    """What a fine-tune by `recipe` holds from its first update on.

    `parameters`: all that the model has, as `all_parameters` gives them. Raises BadInput.
    """
    trained = [parameter for parameter in parameters if parameter.trained]
    dtype = trained_dtype(recipe)
    gradients = weight_bytes(trained, dtype)
    return Memory(
        weights=gradients + frozen_bytes(parameters, recipe),
        gradients=gradients,
        optimizer=state_bytes(trained, recipe.optim, dtype),
        activations=0,
    )


def trained_dtype(recipe: Recipe) -> str:
    """The format of what trains: peft keeps an adapter in float32 beside weights of 16 bits."""
    return recipe.dtype if recipe.lora_r is None else "float32"


def frozen_bytes(parameters: list[Parameter], recipe: Recipe) -> int:
    """Bytes of the weights that are not trained."""
    held = 0
    for parameter in parameters:
        if parameter.bytes is not None:
            held += parameter.bytes
        elif not parameter.trained:
            held += weight_bytes([parameter], recipe.dtype)
    return held


def checkpoint_bytes(source, recipe: Recipe) -> int:
    """Bytes of one checkpoint: the weights that are trained, and optimizer states.

    Files of a few kilobytes are left out. `source` as for parameters_of: a live model, a
    transformers config or a size such as "7B". Raises BadInput.
    """
    parameters = parameters_of(source, recipe)
    dtype = trained_dtype(recipe)
    return weight_bytes(parameters, dtype) + state_bytes(parameters, recipe.optim, dtype)


def weight_bytes(parameters: list[Parameter], dtype: str) -> int:
    """Bytes of the weights, and of as many gradients, in float32 or bfloat16."""
    return sum(parameter.elements for parameter in parameters) * _BYTES[dtype]


def state_bytes(parameters: list[Parameter], optim: str, dtype: str = "float32") -> int:
    """Bytes of all that `optimizer_states` names. Raises BadInput as it does."""
    return sum(state.bytes for state in optimizer_states(parameters, optim, dtype))


def multiplies_in_16_bits(recipe: Recipe) -> bool:
    """Under autocast to bf16 or fp16, which take two bytes a number alike."""
    return recipe.bf16 or recipe.fp16


def _refuse_invalid(name: str, value) -> None:
    """Raise BadInput for a value that the hyperparameter's card does not allow, None among them."""
    if value is None or not CARDS[name].valid(value):
        raise BadInput(f"{name}: expected {CARDS[name].expected}, got {value!r}")
