"""Language models: the starter, a fresh one of its shape, or any causal model by folder, file or hub id; sampling from them.

Only safetensors and GGUF files are read. Pickled weights and code that comes with a model are refused, because loading them runs
what their author wrote.
"""

import hashlib
import importlib.util
import json
import re
from contextlib import contextmanager
from pathlib import Path

from hpkit.corpus.notation import ALPHABET
from hpkit.errors import BadInput, did_you_mean
from hpkit.files import data_folder

_SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
#: The starter's shape, 1.78 million parameters. 52 token ids are in use; 56 is the next multiple of 8.
STARTER_SHAPE = dict(
    vocab_size=56,
    hidden_size=192,
    num_hidden_layers=4,
    num_attention_heads=6,
    num_key_value_heads=6,
    intermediate_size=512,
    max_position_embeddings=512,
    tie_word_embeddings=True,
)


def character_tokenizer():
    """A tokenizer of one token per character of normal form, as a transformers PreTrainedTokenizerFast."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate([*_SPECIAL.values(), *ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    limits = dict(
        model_max_length=STARTER_SHAPE["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL, **limits)


def _fresh_model():
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = character_tokenizer()
    ids = {
        f"{name}_id": getattr(tokenizer, f"{name}_id")
        for name in ("pad_token", "bos_token", "eos_token")
    }
    return LlamaForCausalLM(LlamaConfig(**STARTER_SHAPE, **ids)), tokenizer


def load_model(name: str, dtype: str = "float32"):
    """(model, tokenizer) for `starter`, `fresh`, a folder, a .gguf file or a hub id; weights in `dtype` whatever the file holds.

    `fresh` has random weights: set the seed before. A GGUF file's few bits a weight become full numbers, which can be
    trained. Raises BadInput for a model that is missing or refused.
    """
    import torch

    if name == "fresh":
        model, tokenizer = _fresh_model()
        return model.to(getattr(torch, dtype)), tokenizer
    place = _place(name)
    if place.is_dir():
        _refuse_unsafe(place, name)
    elif place.suffix != ".gguf" and not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise BadInput(
            f"model folder {name!r} not found: expected starter, fresh, a folder with config.json, a .gguf file, or a hub id"
        )
    return _pretrained(name, dtype)


def _place(name: str) -> Path:
    return data_folder() / "starter" if name == "starter" else Path(name).expanduser()


def _source(name: str) -> dict:
    """What transformers' from_pretrained must be told to find a model. Raises BadInput for a GGUF file that cannot be read."""
    place = _place(name)
    if place.suffix != ".gguf":
        return {"pretrained_model_name_or_path": str(place) if place.is_dir() else name}
    if not place.is_file():
        raise BadInput(f"model {name}: no such file")
    if importlib.util.find_spec("gguf") is None:
        raise BadInput(
            f"model {name}: GGUF files are read with the gguf package, which is not installed: pip install gguf"
        )
    return {"pretrained_model_name_or_path": str(place.parent), "gguf_file": place.name}


def read_config(name: str):
    """The transformers config of `starter`, `fresh`, a folder or a hub id, without its weights. Raises BadInput."""
    from transformers import AutoConfig, LlamaConfig

    return (
        LlamaConfig(**STARTER_SHAPE, architectures=["LlamaForCausalLM"])
        if name == "fresh"
        else _read(AutoConfig, name)
    )


def load_tokenizer(name: str):
    """The tokenizer alone, of a model named as for `read_config`. Raises BadInput."""
    from transformers import AutoTokenizer

    return character_tokenizer() if name == "fresh" else _read(AutoTokenizer, name)


def _read(auto_class, name: str):
    source = _source(name)
    try:
        return auto_class.from_pretrained(**source, trust_remote_code=False)
    except Exception as error:  # each kind of damage has its own
        first = next(
            (line for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise BadInput(
            f"model {name}: expected starter, fresh, a folder with config.json, or a hub id; got {first}"
        ) from None


def _refuse_unsafe(folder: Path, name: str) -> None:
    """Raise BadInput unless the folder holds a config without remote code, and safetensors."""
    config = folder / "config.json"
    if not config.is_file():
        raise BadInput(
            f"model {name}: the folder has no config.json, so it is not a model saved by transformers"
        )
    for file in (config, folder / "tokenizer_config.json"):
        try:
            settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except ValueError as error:
            raise BadInput(f"model {name}: {file.name} is not JSON ({error})") from None
        if not isinstance(settings, dict):
            raise BadInput(f"model {name}: {file.name} should hold a table of settings")
        if "auto_map" in settings:
            raise BadInput(
                f"model {name}: {file.name} asks for code that comes with the model (auto_map); hpkit runs no remote code"
            )
    if not any(folder.glob("*.safetensors")):
        pickled = next(
            (
                f.name
                for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt")
                for f in folder.glob(pattern)
            ),
            None,
        )
        found = (
            f"only {pickled}, a pickle, which can run code when it is loaded"
            if pickled
            else "no weights"
        )
        raise BadInput(
            f"model {name}: expected safetensors, found {found}; save it with save_pretrained of transformers 5"
        )


def _pretrained(name: str, dtype: str):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    source, verbosity = _source(name), logging.get_verbosity()
    logging.set_verbosity_error()  # its report on missing weights is repeated below in one line
    try:
        config = AutoConfig.from_pretrained(**source, trust_remote_code=False)
        if getattr(config, "auto_map", None):
            raise BadInput(
                f"model {name} asks for code that comes with the model (auto_map); hpkit runs no remote code"
            )
        tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
        # Without `dtype`, transformers 5 keeps the file's format: a bf16 file would leave no fp32 master weights.
        model, loading = AutoModelForCausalLM.from_pretrained(
            **source,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if (
            "gguf_file" in source
        ):  # transformers saves no model that it has marked as quantized, so it becomes one that is not
            del model.config.quantization_config
            weights = model.state_dict()
            model = type(model).from_pretrained(
                None, config=model.config, state_dict=weights, dtype=getattr(torch, dtype)
            )
    except BadInput:
        raise
    except Exception as error:
        first = next(
            (line for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        hint = (
            ""
            if _place(name).exists()
            else f"; it is no folder here{did_you_mean(name, ('starter', 'fresh'))}"
        )
        raise BadInput(f"model {name} cannot be loaded{hint}: {first}") from None
    finally:
        logging.set_verbosity(verbosity)
    wrong = sorted(loading["missing_keys"]) or sorted(
        str(key) for key in loading["mismatched_keys"]
    )
    if wrong:
        raise BadInput(
            f"model {name}: the file lacks weights of this model, {wrong[0]} first of {len(wrong)}; they would start at random"
        )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise BadInput(
            f"model {name}: its tokenizer has {len(tokenizer)} tokens, its embedding only {model.get_input_embeddings().num_embeddings}"
        )
    return model, tokenizer


def fingerprint(name: str) -> str:
    """Twelve hex digits of what `load_model` reads: a folder's files; for `fresh`, shape and alphabet, the rest is the seed's.

    Raises BadInput for a hub id: its files may change under the same name.
    """
    digest, place = hashlib.sha256(), _place(name)
    if name == "fresh":
        digest.update(json.dumps([STARTER_SHAPE, _SPECIAL, ALPHABET]).encode())
    elif place.exists():
        for file in (
            sorted(file for file in place.iterdir() if file.is_file())
            if place.is_dir()
            else [place]
        ):
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    else:
        raise BadInput(
            f"model {name!r}: expected starter, fresh or a folder, whose files can be compared; download the model first"
        )
    return digest.hexdigest()[:12]


@contextmanager
def quiet_transformers():
    """Keep its bars and warnings out of the run's own lines: a bar for each saved file, alarm over tied weights."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def context_length(model) -> int | None:
    """The longest sequence, in tokens, that the model's positions allow; None where its config does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def sample(model, tokenizer, count: int, max_new_tokens: int, seed: int) -> list[str]:
    """`count` texts drawn at temperature 1 from the model's own distribution, each from its first token to its end mark.

    All randomness comes from `seed`; the caller's random state and the model's mode are as before afterwards.
    """
    import torch

    start = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), 0)
    prompts = torch.full((count, 1), start, device=model.device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _continued(
            model,
            tokenizer,
            prompts,
            max_new_tokens,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
        )


def likeliest(model, tokenizer, prompt: str, max_new_tokens: int) -> str:
    """What the model says after `prompt` when it always takes the likeliest token, up to its end mark."""
    tokens = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"].to(
        model.device
    )
    return _continued(model, tokenizer, tokens, max_new_tokens, do_sample=False)[0]


def _continued(model, tokenizer, prompts, max_new_tokens: int, **settings) -> list[str]:
    """What generate puts behind `prompts` (count x tokens); the model's mode is as before afterwards."""
    end = tokenizer.eos_token_id
    was_training = model.training
    model.eval()
    tokens = model.generate(
        prompts,
        attention_mask=prompts.new_ones(prompts.shape),
        max_new_tokens=max_new_tokens,
        pad_token_id=next((i for i in (tokenizer.pad_token_id, end) if i is not None), 0),
        eos_token_id=end,
        use_cache=True,  # the Trainer has switched it off in the model's config
        **settings,
    )
    model.train(was_training)
    return tokenizer.batch_decode(tokens[:, prompts.shape[1] :], skip_special_tokens=True)
