"""What a fine-tune with an adapter is predicted to hold, against a live one: to the byte."""

import copy
import warnings

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    Qwen2Config,
    Trainer,
)

from hpkit.adapters import quantization_config, with_adapter
from hpkit.capability import forget_32bit_overrides
from hpkit.measured_memory import optimizer_state_bytes, saved_for_backward
from hpkit.memory import activation_bytes, all_parameters, predict_memory, without_activations
from hpkit.recipe import LORA

# Widths that fill no whole block of 64 or 256, and a rank at which some matrices have 4,096 numbers
# or more, which are quantized, and others not.
SHAPE = dict(vocab_size=100, bos_token_id=0, eos_token_id=0, pad_token_id=0)
WIDTHS = dict(
    hidden_size=72, num_hidden_layers=2, num_attention_heads=4, intermediate_size=300, **SHAPE
)
CONFIGS = {
    "gpt2": GPT2Config(n_layer=2, n_embd=72, n_head=4, n_positions=64, **SHAPE),
    "llama": LlamaConfig(num_key_value_heads=2, tie_word_embeddings=False, **WIDTHS),
    "qwen2": Qwen2Config(num_key_value_heads=2, tie_word_embeddings=True, **WIDTHS),
    "opt": OPTConfig(
        ffn_dim=300, word_embed_proj_dim=72, max_position_embeddings=64, dropout=0.0, **WIDTHS
    ),
}
BASE = LORA.replace(
    max_steps=1,
    per_device_train_batch_size=2,
    max_seq_length=24,
    save_strategy="no",
    eval_strategy="no",
)
RECIPES = {
    "all linear layers": BASE,
    "attention, 8 bits": BASE.replace(target_modules="attention", optim="adamw_8bit"),
    "bf16 weights": BASE.replace(dtype="bfloat16", optim="adamw_torch"),
    "dropout, fp32": BASE.replace(lora_dropout=0.1, bf16=False, lora_r=3),
    "4 bits": BASE.replace(load_in_4bit=True),
    "4 bits, scales in 8": BASE.replace(load_in_4bit=True, bnb_4bit_use_double_quant=True),
    "4 bits, multiplied in fp32": BASE.replace(
        load_in_4bit=True, bnb_4bit_compute_dtype="float32", bf16=False
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of each model, for transformers quantizes only what it loads."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        AutoModelForCausalLM.from_config(copy.deepcopy(config)).save_pretrained(folder / name)
    return folder


def adapted(folder, recipe):
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, recipe.dtype),
        quantization_config=quantization_config(recipe),
    )
    return with_adapter(model, recipe)


@pytest.mark.slow
@pytest.mark.parametrize("what", RECIPES)
@pytest.mark.parametrize("shape", CONFIGS)
def test_predicted_bytes_equal_the_live_ones(shape, what, saved, tmp_path):
    recipe = RECIPES[what]
    model = adapted(saved / shape, recipe)
    predicted = without_activations(all_parameters(CONFIGS[shape], recipe), recipe)
    # The live model tells the same.
    assert without_activations(all_parameters(model, recipe), recipe) == predicted

    arguments = recipe.training_arguments(tmp_path, use_cpu=True, disable_tqdm=True)
    example = {"input_ids": [1, 2, 3, 4, 5, 6], "labels": [1, 2, 3, 4, 5, 6]}
    forget_32bit_overrides()
    trainer = Trainer(model, arguments, train_dataset=[example] * 2)
    gradients = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            weight.register_hook(lambda grad, name=name: gradients.update({name: grad.nbytes}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        trainer.train()
    states = optimizer_state_bytes(trainer.optimizer.state)
    assert predicted.optimizer == sum(entry["bytes"] for entry in states.values())
    assert predicted.gradients == sum(gradients.values())
    assert predicted.weights == held_weights(model)


def held_weights(model) -> int:
    """Bytes of every storage that the weights have, with the scales and codes of 4-bit ones."""
    storages = {}
    for weight in model.parameters():
        tensors = [weight]
        state = getattr(weight, "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.code]
            if state.nested:
                tensors += [state.state2.absmax, state.state2.code, state.offset]
        for tensor in tensors:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.slow
@pytest.mark.parametrize("what", RECIPES)
@pytest.mark.parametrize("shape", CONFIGS)
def test_predicted_activations_equal_the_live_ones(shape, what, saved):
    recipe = RECIPES[what]
    model = adapted(saved / shape, recipe).train()
    tokens = torch.randint(100, (2, 24))
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16)
    with saved_for_backward(model) as kept, autocast:
        model(input_ids=tokens, labels=tokens, use_cache=False)
    live = sum(storage.bytes for storage in kept.values())
    predicted = predict_memory(CONFIGS[shape], recipe, batch=2, length=24).activations
    assert predicted == pytest.approx(live, rel=0.02), (predicted, live)


def test_a_live_model_without_its_adapter_is_asked_about_as_with_it():
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS["llama"]))
    assert predict_memory(model, BASE) == predict_memory(CONFIGS["llama"], BASE)
    assert activation_bytes(model, 2, 24, False) != activation_bytes(
        model, 2, 24, False, adapted_by=BASE
    )
