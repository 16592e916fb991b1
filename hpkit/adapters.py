"""LoRA by the peft library, and 4-bit weights by bitsandbytes: what a recipe makes of a model."""

import re
import warnings
from contextlib import contextmanager
from pathlib import Path

from hpkit.errors import BadInput, did_you_mean, in_one_line
from hpkit.recipe import Recipe

#: peft's word for every linear layer but the output layer; two parts of them that have no word.
ALL_LINEAR = "all-linear"
PARTS = ("attention", "mlp")
#: Where a layer's name says that it belongs to attention; the others in a block are the mlp's.
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
#: A layer of one of the model's blocks, which are numbered: `model.layers.0.mlp.up_proj`.
_IN_BLOCK = re.compile(r"\.\d+\.")


def with_adapter(model, recipe: Recipe):
    """peft's model around `model`, whose weights it freezes: the recipe's adapter alone trains.

    Its first matrix is drawn from torch's random state, its second is 0, so that the model is at
    first what it was. Without a rank, `model` itself. Raises BadInput where no layer has the names,
    and for a model that peft does not adapt there: of Mamba, one layer does not bear it.
    """
    if recipe.lora_r is None:
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=target_names(model, recipe.target_modules),
        use_rslora=recipe.use_rslora,
        task_type="CAUSAL_LM",
    )
    try:
        with _without_old_names():
            return get_peft_model(model, config)
    except ValueError as error:
        raise BadInput(
            f"target_modules {recipe.target_modules}: peft puts no adapter there "
            f"({in_one_line(error)}); give the names of other layers, of "
            f"{_in_words(linear_layers(model))}"
        ) from None


def target_names(model, wanted: str) -> str | list[str]:
    """What peft is told of `wanted`: its own word, or the ends of layers' names.

    Raises BadInput where a name ends that of no layer: peft would pass over it without a word.
    """
    if wanted == ALL_LINEAR:
        return wanted
    layers = linear_layers(model)
    if wanted in PARTS:
        names = {
            _end_of(layer)
            for layer in layers
            if bool(_ATTENTION.search(layer)) == (wanted == "attention")
        }
        if names:
            return sorted(names)
        raise BadInput(
            f"target_modules {wanted}: no layer of this model has a name that says so; give names, "
            f"of {_in_words(layers)}"
        )
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if not any(f".{layer}".endswith(f".{name}") for layer in layers):
            ends = {layer.rpartition(".")[2] for layer in layers}
            raise BadInput(
                f"target_modules: no layer of this model is called {name!r}"
                f"{did_you_mean(name, sorted(ends | {ALL_LINEAR, *PARTS}))}: an adapter there has "
                f"no effect; it has {_in_words(layers)}"
            )
    return names


def linear_layers(model) -> list[str]:
    """The names of the layers in the model's blocks that multiply by a matrix."""
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds = (torch.nn.Linear, Conv1D)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, kinds) and _IN_BLOCK.search(name)
    ]


def _end_of(layer: str) -> str:
    """`self_attn.q_proj` of `model.layers.0.self_attn.q_proj`: the same in every block.

    Two parts, for GPT-2 has a c_proj in attention and another in the mlp.
    """
    end = layer.split(".")[-2:]
    return ".".join(part for part in end if not part.isdigit())


def _in_words(layers: list[str]) -> str:
    return ", ".join(dict.fromkeys(layer.rpartition(".")[2] for layer in layers))


def load_adapter(model, folder: Path) -> None:
    """Put the adapter that was saved in `folder` into peft's `model`, in the place of its own."""
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))


def beside(base, folder: Path):
    """peft's model around `base`, with the adapter that was saved in `folder`."""
    from peft import PeftModel

    with _without_old_names():
        return PeftModel.from_pretrained(base, str(folder))


@contextmanager
def _without_old_names():
    """Keep quiet that peft 0.21 asks transformers for checkpointing by a name that goes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def quantization_config(recipe: Recipe, compute_dtype: str | None = None):
    """transformers' BitsAndBytesConfig for the recipe; None where the weights stay as they are.

    `compute_dtype`: the format of the products, where it is not the recipe's.
    """
    if not recipe.load_in_4bit:
        return None
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=getattr(torch, compute_dtype or recipe.bnb_4bit_compute_dtype),
        bnb_4bit_use_double_quant=recipe.bnb_4bit_use_double_quant,
    )


def keep_differentiable(model) -> None:
    """Let gradients pass through 4-bit layers after an evaluation on a CPU.

    On one with AVX512-BF16 bitsandbytes 0.50 packs their weights anew in the first evaluation, for
    a kernel that has no backward pass: from then on all adapters but the last have gradients of 0.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_adapted(model) -> bool:
    """Whether a model is peft's."""
    return hasattr(model, "peft_config")


def trained_weights(model) -> list:
    """The weights that updates move, as tensors without a gradient."""
    return [weight.detach() for weight in model.parameters() if weight.requires_grad]


def adapter_bytes(model) -> int | None:
    """Bytes of the adapter's weights; None for a model without one."""
    if not is_adapted(model):
        return None
    return sum(weight.nbytes for weight in trained_weights(model))
