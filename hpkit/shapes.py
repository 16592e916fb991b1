"""A model's shapes without its numbers: of a config or a size, with an adapter and 4-bit layers."""

import copy
import functools
import math
import re
import sys

from hpkit.adapters import quantization_config, with_adapter
from hpkit.errors import BadInput
from hpkit.recipe import Recipe


def build_model(source, recipe: Recipe, **settings):
    """The model of `source`, with the adapter and the 4-bit layers of `recipe`, on torch's meta
    device.

    `source`: a live model, a transformers config, or a size such as "7B"; `settings` go to
    transformers' `_from_config`. Raises BadInput.
    """
    import torch

    config = config_of(source)
    with torch.device("meta"):
        model = _of_class(config, **settings)
        if recipe.load_in_4bit:
            _take_4bit_layers(model, config, recipe)
        return with_adapter(model, recipe)


def _of_class(config, **settings):
    # The copy keeps the settings out of a live model's config.
    return model_class(config)._from_config(copy.deepcopy(config), **settings)


def _take_4bit_layers(model, config, recipe: Recipe) -> None:
    """Put a stand-in for bitsandbytes' layer wherever transformers would put one."""
    import torch

    stand_in = _four_bit_stand_in()
    compute_dtype = getattr(torch, recipe.bnb_4bit_compute_dtype)
    for name in _layers_in_4bit(config, recipe):
        layer = model.get_submodule(name)
        # GPT-2's Conv1D has its numbers the other way round.
        rows, columns = layer.weight.shape
        if not isinstance(layer, torch.nn.Linear):
            rows, columns = columns, rows
        bias = layer.bias is not None
        new = stand_in(columns, rows, bias, dtype=compute_dtype)
        model.set_submodule(name, new.requires_grad_(False))


def _layers_in_4bit(config, recipe: Recipe) -> list[str]:
    """The names of the layers whose weights transformers keeps in 4 bits."""
    from bitsandbytes.nn import Linear4bit
    from transformers.quantizers.auto import AutoHfQuantizer

    quantizer = AutoHfQuantizer.from_config(quantization_config(recipe), pre_quantized=False)
    model = _of_class(config)
    quantizer.preprocess_model(model=model, device_map=None)
    return [name for name, module in model.named_modules() if isinstance(module, Linear4bit)]


@functools.cache
def _four_bit_stand_in():
    """A linear layer that keeps of its input what bitsandbytes' layer keeps: nothing.

    Its weight stands for the packed one; like that one it is written out anew for every product.
    """
    import torch

    class FourBit(torch.nn.Linear):
        def forward(self, inputs):
            # In its own format even under autocast, which would keep a copy of the weight.
            with torch.autocast(inputs.device.type, enabled=False):
                products = super().forward(inputs.to(self.weight.dtype))
            return products.to(inputs.dtype)

    return FourBit


def is_in_4bit(layer) -> bool:
    """Whether a layer's weight is kept in 4 bits, or stands for one that is."""
    kinds = [_four_bit_stand_in()]
    # What has not been imported has no layers, and importing it takes seconds.
    if "bitsandbytes" in sys.modules:
        kinds.append(sys.modules["bitsandbytes"].nn.Linear4bit)
    return isinstance(layer, tuple(kinds))


def model_class(config):
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


def config_of(source):
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
