"""A small recipe, a finished run of it, and what several test modules here look at."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hpkit.errors import BadInput
from hpkit.finetune import finetune
from hpkit.recipe import Recipe

SMALL = Recipe(
    per_device_train_batch_size=2,
    max_seq_length=32,
    max_steps=12,
    learning_rate=1e-3,
    warmup_steps=2,
    optim="adamw_8bit",
    bf16=True,
    logging_steps=3,
    eval_strategy="steps",
    eval_steps=6,
    save_steps=6,
    save_total_limit=2,
)


def weights(out) -> dict[str, torch.Tensor]:
    """The weights of the model, or of the adapter, that the run in `out` left."""
    (file,) = (Path(out) / "model").glob("*.safetensors")
    return load_file(file)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def one_thread():
    """Sums of several threads differ in their last bits from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def finished(tiny_model, few_tunes, tmp_path_factory):
    """(folder, Run, lines) of one small run."""
    out = tmp_path_factory.mktemp("runs") / "one"
    lines = []
    run = finetune(SMALL, tiny_model, few_tunes, out, log=lines.append)
    return out, run, lines


def refused(message, *arguments, **options):
    """`finetune` with these arguments is refused in one line that matches `message`."""
    with pytest.raises(BadInput, match=message) as caught:
        finetune(*arguments, log=None, **options)
    assert "\n" not in str(caught.value)
