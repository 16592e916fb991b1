"""A real model: SmolLM2-135M, read from the 4 bits a weight of a GGUF file, trained offline on questions and answers."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hpkit.__main__ import main
from hpkit.corpus import blocks_of, load_corpus
from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.model import load_model, read_config

pytestmark = pytest.mark.slow
QUESTIONS = str(data_folder() / "questions.jsonl")


@pytest.fixture(scope="module")
def trained(smollm2, tmp_path_factory):
    """The folder of a run of 20 updates by one command, in a process of its own, whose peak memory is the run's."""
    import subprocess
    import sys

    out = tmp_path_factory.mktemp("smollm2") / "run"
    changes = "--max_steps 20 --warmup_steps 0.1 --per_device_train_batch_size 2 --max_seq_length 128 --learning_rate 1e-4"
    changes += " --optim adamw_torch_fused --logging_steps 5 --eval_strategy no --save_strategy no"
    command = [
        sys.executable,
        "-m",
        "hpkit",
        "finetune",
        "--model",
        smollm2,
        "--corpus",
        QUESTIONS,
        *changes.split(),
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_twenty_updates_of_a_real_model(trained):
    run = json.loads((trained / "run.json").read_text())
    assert run["parameters"] == 134_515_008 and run["updates"] == 20
    assert run["eval_loss_after"] < run["eval_loss_before"] - 0.5
    losses = [entry["loss"] for entry in run["history"] if "loss" in entry]
    assert len(losses) == 4 and losses[-1] < losses[0]
    # Weights, gradients and two averages of four bytes each are held at once.
    assert run["peak_memory_bytes"] > 16 * run["parameters"] and run["train_seconds"] > 0
    before, after = ((trained / f"{when}.txt").read_text() for when in ("before", "after"))
    assert (
        before.startswith("<|im_start|>system\n")
        and "<|im_start|>assistant\n[" in before
        and before != after
    )


def test_what_is_left_is_a_model_that_transformers_loads(trained):
    """It has the loss of the run's last evaluation; and in fp32 the logits of a packed row are those of each example alone."""
    model = AutoModelForCausalLM.from_pretrained(
        trained / "model", dtype=torch.float32, use_cache=False
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained / "model")
    assert "quantization_config" not in json.loads((trained / "model" / "config.json").read_text())
    _, blocks = blocks_of(load_corpus(QUESTIONS), tokenizer, 128)
    means = []
    with torch.no_grad():
        for start in range(0, len(blocks), 2):
            pair = blocks[start : start + 2]
            batch = {name: torch.tensor([block[name] for block in pair]) for name in pair[0]}
            with torch.autocast("cpu", torch.bfloat16):
                means += [model(**batch).loss.item()] * len(pair)
        packed = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits
        for row, logits in zip(pair, packed):
            starts = [place for place, position in enumerate(row["position_ids"]) if position == 0]
            assert len(starts) > 1
            for begin, end in pairwise([*starts, 128]):
                alone = model(input_ids=torch.tensor([row["input_ids"][begin:end]])).logits[0]
                torch.testing.assert_close(
                    logits[begin:end], alone, rtol=1e-3, atol=2e-3
                )  # among logits of up to 20
    run = json.loads((trained / "run.json").read_text())
    assert sum(means) / len(means) == pytest.approx(run["eval_loss_after"], rel=2e-3)


def test_the_shape_is_read_without_the_weights(smollm2):
    config = read_config(smollm2)
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (576, 30, 49_152)


def test_a_file_cut_short_is_refused_in_one_line(smollm2, tmp_path, capsys):
    part = tmp_path / "part.gguf"
    part.write_bytes(Path(smollm2).read_bytes()[:2_000_000])
    for bad in (part, tmp_path / "nothing.gguf"):
        assert (
            main(
                [
                    "finetune",
                    "--model",
                    str(bad),
                    "--corpus",
                    QUESTIONS,
                    "--out",
                    str(tmp_path / "out"),
                ]
            )
            == 2
        )
        error = capsys.readouterr().err
        assert error.startswith(f"hpkit: model {bad}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_the_package_that_reads_it(smollm2, monkeypatch):
    import hpkit.model as module

    real = module.importlib.util.find_spec
    monkeypatch.setattr(
        module.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "gguf" else real(name, *rest),
    )
    with pytest.raises(BadInput, match="pip install gguf"):
        load_model(smollm2)
