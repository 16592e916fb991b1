"""Models: the starter's shape and quality, the tokenizer, and everything that is refused."""

import json
import shutil

import pytest
import torch
from transformers.utils import logging

from hpkit.corpus import encode, load_corpus
from hpkit.corpus.notation import ALPHABET
from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.model import (
    character_tokenizer,
    context_length,
    load_model,
    quiet_transformers,
)


@pytest.fixture
def copy(tiny_model, tmp_path):
    """A copy of the tiny model to spoil."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def refused(folder, message):
    with pytest.raises(BadInput, match=message) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


def test_tokenizer_is_one_token_a_character():
    tokenizer = character_tokenizer()
    text = ALPHABET * 2
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text) and tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer("q")["input_ids"] == [tokenizer.unk_token_id]
    assert len(tokenizer) == len(ALPHABET) + 4 <= 56


def test_the_starter_on_disk():
    file = data_folder() / "starter" / "model.safetensors"
    assert file.stat().st_size <= 8_000_000
    model, tokenizer = load_model("starter")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_781_952
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert context_length(model) == 512
    assert tokenizer.get_vocab() == character_tokenizer().get_vocab()


@pytest.mark.slow
def test_the_starter_has_learned_its_corpus():
    model, tokenizer = load_model("starter")
    held_out = encode(load_corpus("oneills1850+ryansMammoth"), tokenizer)[1]
    total = 0
    count = 0
    with torch.no_grad():  # tune by tune, without the packing that training used
        for tune in held_out:
            ids = torch.tensor([tune[:512]])
            total += model(input_ids=ids, labels=ids).loss.item() * ids.numel()
            count += ids.numel()
    assert total / count <= 1.0


def test_fresh_has_the_starters_shape_and_the_seeds_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return load_model("fresh")[0].state_dict()

    one = weights(1)
    again = weights(1)
    other = weights(2)
    starter = load_model("starter")[0].state_dict()
    assert set(one) == set(starter)
    for name, tensor in one.items():
        assert tensor.shape == starter[name].shape
        assert torch.equal(tensor, again[name])
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_a_bf16_file_is_loaded_with_fp32_weights(copy):
    model, _ = load_model(str(copy))
    model.to(torch.bfloat16).save_pretrained(copy)
    assert {p.dtype for p in load_model(str(copy))[0].parameters()} == {torch.float32}
    assert {p.dtype for p in load_model(str(copy), "bfloat16")[0].parameters()} == {torch.bfloat16}


def test_missing_models():
    refused("runs/nowhere/at/all", "not found")
    refused("startr", "did you mean starter")
    refused("nobody/nothing", "cannot be loaded")


def test_a_folder_that_is_no_model(tmp_path):
    refused(tmp_path, "no config.json")


def test_no_weights_and_pickled_weights(copy):
    weights = torch.nn.Linear(2, 2).state_dict()
    (copy / "model.safetensors").unlink()
    refused(copy, "found no weights")
    torch.save(weights, copy / "pytorch_model.bin")
    refused(copy, "pytorch_model.bin, a pickle")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_remote_code(copy, file):
    settings = json.loads((copy / file).read_text())
    settings["auto_map"] = {"AutoModelForCausalLM": "mine.Model"}
    (copy / file).write_text(json.dumps(settings))
    (copy / "mine.py").write_text("raise SystemExit('remote code ran')")
    refused(copy, "no remote code")


def test_spoilt_files(copy):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[:5000])
    refused(copy, "cannot be loaded")
    (copy / "model.safetensors").write_bytes(whole)
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config[:50])
    refused(copy, "not JSON")
    deeper = config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    (copy / "config.json").write_text(deeper)
    refused(copy, "lacks weights")
    another = config.replace('"llama"', '"t5"')
    another = another.replace("LlamaForCausalLM", "T5ForConditionalGeneration")
    (copy / "config.json").write_text(another)
    refused(copy, "cannot be loaded")


def test_a_tokenizer_larger_than_the_embedding(copy):
    tokenizer = character_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(10)])
    tokenizer.save_pretrained(copy)
    refused(copy, "its tokenizer has 62 tokens")


def test_transformers_is_as_talkative_after_a_quiet_block_as_before():
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    with quiet_transformers(keep_bars=True):
        assert logging.get_verbosity() == logging.ERROR
        assert logging.is_progress_bar_enabled() == before[1]
        with quiet_transformers():
            assert not logging.is_progress_bar_enabled()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_a_hub_id_is_read_from_the_hubs_cache(tiny_model, tmp_path, monkeypatch):
    """The hub cannot be reached from a test; its cache can be laid out as a download leaves it."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    stored = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny_model, stored / "snapshots" / commit)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model, tokenizer = load_model("someone/tiny")
    assert model.config.hidden_size == 64 and len(tokenizer) == 52
    next((stored / "snapshots").rglob("*.safetensors")).unlink()
    refused("someone/tiny", "cannot be loaded")


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq"])
def test_quantized_weights_are_refused_with_what_trains_beside_them(copy, method):
    config = json.loads((copy / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "load_in_4bit": True, "bits": 4}
    (copy / "config.json").write_text(json.dumps(config))
    refused(
        copy, rf"is stored quantized \({method}\).*with lora_r and load_in_4bit an adapter trains"
    )
