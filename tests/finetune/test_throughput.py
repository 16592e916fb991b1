"""What makes a run fast or small: chosen for the machine with a reason, and without an effect on
the loss.
"""

import dataclasses
import importlib.util
import json

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from hpkit.__main__ import main
from hpkit.capability import MACHINES, decide, probe
from hpkit.errors import BadInput
from hpkit.finetune import AUTO, Throughput, finetune, loading, session
from hpkit.finetune import throughput as module
from hpkit.finetune.checkpoints import Request, Started
from hpkit.finetune.throughput import COMPILE_PAYS_AFTER, choose
from hpkit.finetune.training import make_trainer
from hpkit.model import load_model
from hpkit.recipe import STARTER, Recipe

SMALL = Recipe(
    per_device_train_batch_size=2,
    max_seq_length=32,
    max_steps=6,
    learning_rate=1e-3,
    logging_steps=1,
    save_strategy="no",
)


def chosen(
    monkeypatch,
    device: str,
    asked=AUTO,
    installed=(),
    recipe=STARTER,
    updates=100,
    short=False,
    model=None,
    packed_rows=1,
):
    """({name: value}, {name: why}) on a machine of that name with those packages."""
    real = importlib.util.find_spec

    def find(name, *rest):
        return (
            (name in installed or None) if name in ("flash_attn", "triton") else real(name, *rest)
        )

    monkeypatch.setattr(module.importlib.util, "find_spec", find)
    model = model or load_model("starter")[0]
    capability = decide(recipe, MACHINES[device])
    result, choices = choose(asked, capability, model, updates, short, packed_rows)
    return vars(result), {choice.what: choice.why for choice in choices}


def test_on_a_cpu_nothing_that_a_cpu_lacks(monkeypatch):
    values, why = chosen(monkeypatch, "cpu", installed=("flash_attn", "triton"))
    assert values == {
        "attn_implementation": "sdpa",
        "use_liger_kernel": False,
        "torch_compile": False,
        "activation_checkpointing": False,
        "dataloader_num_workers": 0,
    }
    assert all(why.values()) and "GPU" in why["attn_implementation"]


@pytest.mark.parametrize(
    ("device", "installed", "recipe", "attention", "reason"),
    [
        ("a100", ("flash_attn",), STARTER, "flash_attention_2", "without a mask"),
        ("t4", ("flash_attn",), STARTER, "flash_attention_2", "without a mask"),
        ("a100", (), STARTER, "sdpa", "not installed"),
        ("a100", ("flash_attn",), STARTER.replace(bf16=False), "sdpa", "16-bit"),
    ],
)
def test_flash_attention_where_it_is_present_and_the_run_is_in_16_bits(
    monkeypatch, device, installed, recipe, attention, reason
):
    values, why = chosen(monkeypatch, device, installed=installed, recipe=recipe)
    assert values["attn_implementation"] == attention and reason in why["attn_implementation"]
    assert values["dataloader_num_workers"] == 1


@pytest.mark.parametrize("asked", [AUTO, Throughput("flash_attention_2")])
def test_flash_attention_would_mix_the_documents_of_a_batch_of_several_rows(monkeypatch, asked):
    from transformers.modeling_flash_attention_utils import _is_packed_sequence

    positions = torch.tensor([[0, 1, 2, 0, 1]])
    assert _is_packed_sequence(positions, 1) and not _is_packed_sequence(positions.repeat(8, 1), 8)
    values, why = chosen(monkeypatch, "a100", asked, installed=("flash_attn",), packed_rows=8)
    assert values["attn_implementation"] == "sdpa" and "one row" in why["attn_implementation"]


def test_a_model_without_flash_attention(monkeypatch):
    model = BloomForCausalLM(BloomConfig(vocab_size=16, hidden_size=8, n_layer=1, n_head=2))
    values, why = chosen(monkeypatch, "a100", installed=("flash_attn",), model=model)
    assert (
        values["attn_implementation"] == model.config._attn_implementation
        and "bloom" in why["attn_implementation"]
    )


def test_compiling_is_for_long_runs_where_there_is_a_compiler(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert not chosen(monkeypatch, "cpu", updates=COMPILE_PAYS_AFTER - 1)[0]["torch_compile"]
    assert chosen(monkeypatch, "cpu", updates=COMPILE_PAYS_AFTER)[0]["torch_compile"]
    assert not chosen(monkeypatch, "a100", updates=COMPILE_PAYS_AFTER)[0]["torch_compile"]
    assert chosen(monkeypatch, "a100", updates=COMPILE_PAYS_AFTER, installed=("triton",))[0][
        "torch_compile"
    ]
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    values, why = chosen(
        monkeypatch, "cpu", updates=COMPILE_PAYS_AFTER, asked=Throughput(torch_compile=True)
    )
    assert not values["torch_compile"] and "compiler" in why["torch_compile"]


def test_each_can_be_turned_off_and_a_request_is_taken_where_it_works(monkeypatch):
    off = Throughput("eager", False, False, False, 0)
    values, _ = chosen(
        monkeypatch,
        "a100",
        asked=off,
        installed=("flash_attn", "triton"),
        updates=10**6,
        short=True,
    )
    assert values == vars(off)
    values, why = chosen(
        monkeypatch, "cpu", asked=Throughput("flash_attention_2", True, None, True, 2)
    )
    assert values["attn_implementation"] == "sdpa" and not values["use_liger_kernel"]
    assert values["activation_checkpointing"] and values["dataloader_num_workers"] == 2
    assert why["dataloader_num_workers"] == "as asked"


def losses(run) -> list[float]:
    return [
        run.eval_loss_before,
        *[entry["loss"] for entry in run.history if "loss" in entry],
        run.eval_loss_after,
    ]


@pytest.fixture(scope="module")
def plain(tiny_model, few_tunes, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "run"
    return losses(
        finetune(
            SMALL,
            tiny_model,
            few_tunes,
            out,
            log=None,
            throughput=Throughput("sdpa", False, False, False, 0),
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        Throughput(attn_implementation="eager"),
        Throughput(activation_checkpointing=True),
        Throughput(dataloader_num_workers=1),
        Throughput(torch_compile=True),
        AUTO,
    ],
    ids=["eager", "activation_checkpointing", "dataloader_num_workers", "torch_compile", "auto"],
)
def test_the_loss_is_the_same_within_rounding(
    asked, plain, tiny_model, few_tunes, tmp_path, monkeypatch
):
    seen = []

    def remembered(*given):
        seen.append(make_trainer(*given))
        return seen[0]

    monkeypatch.setattr(session, "make_trainer", remembered)
    torch._dynamo.utils.counters.clear()
    run = finetune(SMALL, tiny_model, few_tunes, tmp_path / "run", log=None, throughput=asked)
    assert losses(run) == pytest.approx(plain, rel=1e-5)
    (trainer,) = seen
    assert trainer.model.config._attn_implementation == (asked.attn_implementation or "sdpa")
    assert trainer.model.is_activation_checkpointing == bool(asked.activation_checkpointing)
    assert trainer.get_train_dataloader().num_workers == (asked.dataloader_num_workers or 0)
    assert bool(torch._dynamo.utils.counters["stats"]["unique_graphs"]) == bool(asked.torch_compile)
    written = json.loads((tmp_path / "run" / "run.json").read_text())
    said = {choice["what"] for choice in written["capability"]["choices"]}
    assert said >= vars(asked).keys()


@pytest.mark.slow
def test_a_shortage_of_memory_turns_checkpointing_on(tiny_model, few_tunes, tmp_path, monkeypatch):
    # Weights, gradients and states of this model take 1.4 MB, the activations of 2 x 32 tokens
    # another 0.7.
    small = dataclasses.replace(probe(), memory_free=1_600_000)
    monkeypatch.setattr(loading, "probe", lambda: small)
    lines = []
    finetune(SMALL, tiny_model, few_tunes, tmp_path / "run", log=lines.append)
    text = "\n".join(lines)
    assert "activation_checkpointing: auto -> true: the run would hold more than is free" in text
    assert "memory-over-free" not in text


def test_a_bad_value_is_one_line(tmp_path, capsys):
    for flags in (
        ["--torch_compile", "perhaps"],
        ["--attn_implementation", "magic"],
        ["--dataloader_num_workers", "-1"],
    ):
        assert main(["finetune", *flags, "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_resumed_run_keeps_what_was_asked_of_it(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    asked = Throughput("eager", torch_compile=False)
    request = Request(STARTER, "starter", "aksak", throughput=asked)
    Started(request, corpus_fingerprint="889").write(out)
    seen = []

    def stop(*given, throughput, **rest):
        seen.append(throughput)
        raise BadInput("far enough")

    monkeypatch.setattr("hpkit.finetune.finetune", stop)
    resume = ["finetune", "--resume", "--out", str(out)]
    assert main(resume) == 2
    assert main([*resume, "--attn_implementation", "sdpa", "--use_liger_kernel", "false"]) == 2
    assert seen == [
        asked,
        Throughput("sdpa", use_liger_kernel=False, torch_compile=False),
    ]
