"""A real model: SmolLM2-135M, read from the 4 bits a weight of a GGUF file, trained offline on
questions and answers."""

import importlib.util
import json
import subprocess
import sys
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
LENGTH = 128
CHANGES = f"""
    --max_steps 20 --warmup_steps 0.1 --per_device_train_batch_size 2 --max_seq_length {LENGTH}
    --learning_rate 1e-4 --optim adamw_torch_fused --logging_steps 5 --eval_strategy no
    --save_strategy no"""


@pytest.fixture(scope="module")
def trained(smollm2, tmp_path_factory):
    """The folder of a run of 20 updates by one command, in a process of its own, whose peak memory
    is the run's."""
    out = tmp_path_factory.mktemp("smollm2") / "run"
    command = [sys.executable, "-m", "hpkit", "finetune", "--out", str(out)]
    command += ["--model", smollm2, "--corpus", QUESTIONS, *CHANGES.split()]
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
    before = (trained / "before.txt").read_text()
    after = (trained / "after.txt").read_text()
    assert before.startswith("<|im_start|>system\n") and "<|im_start|>assistant\n[" in before
    assert before != after


def test_what_is_left_is_a_model_that_transformers_loads(trained):
    """It has the loss of the run's last evaluation; and in fp32 the logits of a packed row are
    those of each example alone."""
    model = AutoModelForCausalLM.from_pretrained(
        trained / "model", dtype=torch.float32, use_cache=False
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained / "model")
    assert "quantization_config" not in json.loads((trained / "model" / "config.json").read_text())
    _, blocks = blocks_of(load_corpus(QUESTIONS), tokenizer, LENGTH)
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(blocks), 2):
            rows = blocks[start : start + 2]
            batch = {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}
            with torch.autocast("cpu", torch.bfloat16):
                total += len(rows) * model(**batch).loss.item()
        packed_rows_are_their_examples(model, rows, batch)  # of the last batch
    run = json.loads((trained / "run.json").read_text())
    assert total / len(blocks) == pytest.approx(run["eval_loss_after"], rel=2e-3)


def test_an_adapter_beside_a_real_model(smollm2, trained, tmp_path):
    """Rank 16: 3.5 % of all weights, and less memory than all of them take."""
    out = tmp_path / "adapter"
    command = [sys.executable, "-m", "hpkit", "finetune", "--out", str(out), "--model", smollm2]
    command += ["--corpus", QUESTIONS, *CHANGES.split(), "--lora_r", "16"]
    command += ["--learning_rate", "1e-3", "--max_steps", "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    run = json.loads((out / "run.json").read_text())
    full = json.loads((trained / "run.json").read_text())
    assert run["parameters"] == full["parameters"] + run["trained_parameters"]
    assert run["trained_parameters"] == 4_884_480
    assert run["eval_loss_after"] < run["eval_loss_before"] - 0.3
    assert run["optimizer_state_bytes"] < 0.04 * full["optimizer_state_bytes"]
    # Gradients and two averages of the frozen weights are not held: twelve bytes each.
    spared = full["peak_memory_bytes"] - run["peak_memory_bytes"]
    assert spared > 0.5 * 12 * full["parameters"]


def packed_rows_are_their_examples(model, rows: list[dict], batch: dict) -> None:
    packed = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits
    for row, logits in zip(rows, packed):
        starts = [place for place, position in enumerate(row["position_ids"]) if position == 0]
        assert len(starts) > 1
        for begin, end in pairwise([*starts, LENGTH]):
            alone = model(input_ids=torch.tensor([row["input_ids"][begin:end]])).logits[0]
            # Of logits of up to 20; another shape adds in another order.
            torch.testing.assert_close(logits[begin:end], alone, rtol=1e-3, atol=2e-3)


def test_the_shape_is_read_without_the_weights(smollm2):
    config = read_config(smollm2)
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (576, 30, 49_152)


def test_a_file_cut_short_is_refused_in_one_line(smollm2, tmp_path, capsys):
    part = tmp_path / "part.gguf"
    part.write_bytes(Path(smollm2).read_bytes()[:2_000_000])
    out = tmp_path / "out"
    for bad in (part, tmp_path / "nothing.gguf"):
        command = ["finetune", "--model", bad, "--corpus", QUESTIONS, "--out", out]
        assert main([str(argument) for argument in command]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"hpkit: model {bad}") and error.count("\n") == 1
    assert not out.exists()


def test_without_the_package_that_reads_it(smollm2, monkeypatch):
    find_spec = importlib.util.find_spec

    def find_all_but_gguf(name, *rest):
        return None if name == "gguf" else find_spec(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_gguf)
    with pytest.raises(BadInput, match="pip install gguf"):
        load_model(smollm2)
