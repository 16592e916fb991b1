"""Language models: how they are found, loaded and refused.

The starter, a fresh one of its shape, or any causal model by folder, file or hub id. Only
safetensors and GGUF files are read. Pickled weights and code that comes with a model are refused,
because loading them runs what their author wrote.
"""

import hashlib
import importlib.util
import json
import re
from contextlib import contextmanager
from pathlib import Path

from hpkit.adapters import keep_differentiable
from hpkit.corpus.notation import ALPHABET
from hpkit.errors import BadInput, did_you_mean
from hpkit.files import data_folder, existing_path

_SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
#: The starter's shape, 1.78 million parameters. 52 token ids are in use, and 56 is the next
#: multiple of 8.
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
    """A transformers PreTrainedTokenizerFast of one token per character of normal form."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate([*_SPECIAL.values(), *ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_SPECIAL["unk_token"]))
    # A dot would not match the end of a line; without Fuse, decoding puts spaces between tokens.
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


def load_model(name: str, dtype: str = "float32", quantization=None):
    """(model, tokenizer) for `starter`, `fresh`, a folder, a .gguf file or a hub id.

    The weights are in `dtype` whatever the file holds; `quantization`, transformers'
    BitsAndBytesConfig, puts those of the linear layers into 4 bits. `fresh` has random weights: set
    the seed before. A GGUF file's few bits a weight become full numbers, which can be trained.
    Raises BadInput for a model that is missing or refused.
    """
    import torch

    if name == "fresh":
        if quantization:
            raise BadInput(
                "load_in_4bit: the weights of fresh are random, and frozen they stay so; choose a "
                "model that is trained, or leave load_in_4bit out"
            )
        model, tokenizer = _fresh_model()
        return model.to(getattr(torch, dtype)), tokenizer
    path = _path_of(name)
    if path.is_dir():
        _refuse_unsafe(path, name)
    elif path.suffix != ".gguf" and not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise BadInput(
            f"model folder {name!r} not found: expected starter, fresh, "
            "a folder with config.json, a .gguf file, or a hub id"
        )
    return _load_pretrained(name, dtype, quantization)


def _path_of(name: str) -> Path:
    """Where a model lies if it lies on this machine; a hub id makes a path that does not exist."""
    if name == "starter":
        return data_folder() / "starter"
    # No file system has longer names: to ask for one is an error, where no is the answer.
    return existing_path(name) or Path(name[:255])


def _from_pretrained_arguments(name: str) -> dict:
    """What transformers' from_pretrained must be told to find a model.

    Raises BadInput for a GGUF file that cannot be read.
    """
    path = _path_of(name)
    if path.suffix != ".gguf":
        return {"pretrained_model_name_or_path": str(path) if path.is_dir() else name}
    if not path.is_file():
        raise BadInput(f"model {name}: no such file")
    if importlib.util.find_spec("gguf") is None:
        raise BadInput(
            f"model {name}: GGUF files are read with the gguf package, "
            "which is not installed: pip install gguf"
        )
    return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}


def read_config(name: str):
    """The transformers config of `starter`, `fresh`, a folder or a hub id, without its weights.

    Raises BadInput.
    """
    from transformers import AutoConfig, LlamaConfig

    if name == "fresh":
        return LlamaConfig(**STARTER_SHAPE, architectures=["LlamaForCausalLM"])
    return _read_without_weights(AutoConfig, name)


def load_tokenizer(name: str):
    """The tokenizer alone, of a model named as for `read_config`. Raises BadInput."""
    from transformers import AutoTokenizer

    if name == "fresh":
        return character_tokenizer()
    return _read_without_weights(AutoTokenizer, name)


def _read_without_weights(auto_class, name: str):
    arguments = _from_pretrained_arguments(name)
    try:
        return auto_class.from_pretrained(**arguments, trust_remote_code=False)
    except Exception as error:  # each kind of damage has its own
        raise BadInput(
            f"model {name}: expected starter, fresh, a folder with config.json, or a hub id; "
            f"got {_first_line(error)}"
        ) from None


def _first_line(error: Exception) -> str:
    """transformers' messages run over many lines, of which the first says what is wrong."""
    for line in str(error).splitlines():
        if line.strip():
            return line
    return type(error).__name__


def _refuse_unsafe(folder: Path, name: str) -> None:
    """Raise BadInput unless the folder holds a config without remote code, and safetensors."""
    if not (folder / "config.json").is_file():
        raise BadInput(
            f"model {name}: the folder has no config.json, "
            "so it is not a model saved by transformers"
        )
    for file in (folder / "config.json", folder / "tokenizer_config.json"):
        if file.is_file():
            _refuse_remote_code(file, name)
    if any(folder.glob("*.safetensors")):
        return
    found = "no weights"
    for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt"):
        pickled = next(folder.glob(pattern), None)
        if pickled:
            found = f"only {pickled.name}, a pickle, which can run code when it is loaded"
            break
    raise BadInput(
        f"model {name}: expected safetensors, found {found}; "
        "save it with save_pretrained of transformers 5"
    )


def _refuse_remote_code(file: Path, name: str) -> None:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"model {name}: {file.name} is not JSON ({error})") from None
    if not isinstance(settings, dict):
        raise BadInput(f"model {name}: {file.name} should hold a table of settings")
    if "auto_map" in settings:
        raise BadInput(
            f"model {name}: {file.name} asks for code that comes with the model (auto_map); "
            "hpkit runs no remote code"
        )


def _load_pretrained(name: str, dtype: str, quantization):
    """(model, tokenizer) from files, whole and fitting each other. Raises BadInput."""
    arguments = _from_pretrained_arguments(name)
    try:
        # Its report on missing weights is repeated below in one line. Its bars stay as the caller
        # has them: a download may take minutes.
        with quiet_transformers(keep_bars=True):
            model, tokenizer, loading = _load_parts(name, arguments, dtype, quantization)
        if quantization:
            keep_differentiable(model)
    except BadInput:
        raise
    except Exception as error:  # each kind of damage has its own
        hint = ""
        if not _path_of(name).exists():
            hint = f"; it is no folder here{did_you_mean(name, ('starter', 'fresh'))}"
        raise BadInput(f"model {name} cannot be loaded{hint}: {_first_line(error)}") from None
    wrong = sorted(loading["missing_keys"])
    if not wrong:
        wrong = sorted(str(key) for key in loading["mismatched_keys"])
    if wrong:
        raise BadInput(
            f"model {name}: the file lacks weights of this model, "
            f"{wrong[0]} first of {len(wrong)}; they would start at random"
        )
    embeddings = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embeddings:
        raise BadInput(
            f"model {name}: its tokenizer has {len(tokenizer)} tokens, "
            f"its embedding only {embeddings}"
        )
    return model, tokenizer


def _load_parts(name: str, arguments: dict, dtype: str, quantization):
    """(model, tokenizer, transformers' report on the weights that it loaded)."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    # A folder has been looked into before; of a hub's model the config is known only now.
    config = AutoConfig.from_pretrained(**arguments, trust_remote_code=False)
    if getattr(config, "auto_map", None):
        raise BadInput(
            f"model {name} asks for code that comes with the model (auto_map); "
            "hpkit runs no remote code"
        )
    _refuse_quantized(config, name)
    tokenizer = AutoTokenizer.from_pretrained(**arguments, trust_remote_code=False)
    # Without `dtype`, transformers 5 keeps the file's format: a bf16 file would leave no fp32
    # master weights.
    formats = dict(dtype=getattr(torch, dtype))
    is_gguf = "gguf_file" in arguments
    if quantization and not is_gguf:
        formats["quantization_config"] = quantization
    model, loading = AutoModelForCausalLM.from_pretrained(
        **arguments,
        **formats,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if is_gguf:
        # transformers saves no model that it has marked as quantized: it becomes one that is not.
        del model.config.quantization_config
        if quantization:
            formats["quantization_config"] = quantization
        weights = model.state_dict()
        model = type(model).from_pretrained(
            None, config=model.config, state_dict=weights, **formats
        )
    return model, tokenizer, loading


def _refuse_quantized(config, name: str) -> None:
    """Raise BadInput for weights stored in a few bits, which no update can move."""
    how = getattr(config, "quantization_config", None)
    if how is None:
        return
    if not isinstance(how, dict):
        how = how.to_dict()
    method = how.get("quant_method", "an unknown method")
    raise BadInput(
        f"model {name} is stored quantized ({method}), and such weights cannot be trained: choose "
        "the model that it was quantized from; with lora_r and load_in_4bit an adapter trains "
        "beside weights that are put into 4 bits here"
    )


def fingerprint(name: str) -> str:
    """Twelve hex digits of what `load_model` reads: a folder's files, or a single file.

    For `fresh`, shape and alphabet; the rest is the seed's. Raises BadInput for a hub id: its files
    may change under the same name.
    """
    digest = hashlib.sha256()
    path = _path_of(name)
    if name == "fresh":
        digest.update(json.dumps([STARTER_SHAPE, _SPECIAL, ALPHABET]).encode())
    elif path.is_dir():
        for file in sorted(path.iterdir()):
            if file.is_file():
                digest.update(_name_and_digest(file))
    elif path.exists():
        digest.update(_name_and_digest(path))
    else:
        raise BadInput(
            f"model {name!r}: expected starter, fresh or a folder, whose files can be compared; "
            "download the model first"
        )
    return digest.hexdigest()[:12]


def _name_and_digest(file: Path) -> bytes:
    return file.name.encode() + hashlib.sha256(file.read_bytes()).digest()


@contextmanager
def quiet_transformers(keep_bars: bool = False):
    """Keep its warnings and bars out of the run's own lines.

    It has a bar for each saved file, and an alarm over tied weights.
    """
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not keep_bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars and not keep_bars:
            logging.enable_progress_bar()


def context_length(model) -> int | None:
    """The longest sequence, in tokens, that the model's positions allow.

    None where its config does not say.
    """
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    # XLNet's config says -1.
    return length if length and length > 0 else None
