"""The command line: one line and status 2 for a mistake, and no torch before it is needed."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from hpkit.__main__ import main
from hpkit.hyperparameters import CARDS
from hpkit.recipe import NOTES


def fails(capsys, *arguments) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("hpkit: ")
    return line


def test_help_teaches_every_hyperparameter(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["finetune", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for card in CARDS.values():
        assert f"--{card.name} " in text
        assert " ".join(card.what.split()[:4]) in text
    assert "--resume" in text and "hpkit finetune --recipe notes" in text


def test_nothing_heavy_is_imported_before_it_is_needed():
    for code in (
        "import hpkit",
        "import hpkit.__main__ as m; m.main(['explain'])",
        "import hpkit.__main__ as m; m.main(['explain', 'optim'])",
        "import hpkit.__main__ as m; m.main(['check', '--recipe', 'notes', '--examples', '640', '--device', 't4'])",
        f"import hpkit.__main__ as m; m.main(['check', {__file__!r}, '--json'])",
    ):
        heavy = "{'torch', 'transformers', 'numpy', 'matplotlib'} & set(sys.modules)"
        check = f"import sys; {code}; heavy = {heavy}; sys.exit(str(heavy) if heavy else 0)"
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_mistakes_on_the_command_line(capsys, tmp_path):
    assert "did you mean --learning_rate?" in fails(capsys, "finetune", "--learning_rte", "1e-3")
    assert "learning_rate: expected a number above 0, got 'fast'" in fails(
        capsys, "finetune", "--learning_rate", "fast"
    )
    assert "learning_rate: expected a number above 0, got -1" in fails(
        capsys, "finetune", "--learning_rate=-1"
    )
    assert "bf16 and fp16" in fails(capsys, "finetune", "--bf16", "--fp16")
    assert "invalid choice: 'fintune'" in fails(capsys, "fintune")
    assert "required" in fails(capsys)
    assert "say which run" in fails(capsys, "finetune", "--resume")
    assert "nothing to resume" in fails(capsys, "finetune", "--resume", "--out", tmp_path)
    assert "no such file" in fails(capsys, "finetune", "--recipe", tmp_path / "none.toml")
    assert "did you mean learning_rate?" in fails(capsys, "explain", "learningrate")
    assert "not both" in fails(capsys, "check")
    assert "not both" in fails(capsys, "check", "train.py", "--recipe", "notes")
    assert "expected a whole number of 1 or more, got '0'" in fails(
        capsys, "check", "--recipe", "notes", "--examples", "0"
    )
    assert "did you mean t4?" in fails(capsys, "check", "--recipe", "notes", "--device", "t5")
    assert "no such file" in fails(capsys, "check", tmp_path / "train.py")
    assert "--bf16 belongs to --recipe" in fails(capsys, "check", tmp_path / "train.py", "--bf16")
    assert "expected at most" in fails(
        capsys, "check", "--recipe", "notes", "--examples", "1" + "0" * 15
    )


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--corpus", "nowhere.abc"], "not found"),
        (["--model", "no/where/to/be"], "not found"),
        (["--optim", "adamw_9bit"], "did you mean adamw_8bit?"),
        (["--max_seq_length", "1000"], "at most 64 tokens"),
        (["--bf16=false", "--fp16"], "fp16 on a CPU"),
    ],
)
def test_mistakes_found_on_the_way_leave_nothing(
    flags, message, capsys, tiny_model, few_tunes, tmp_path
):
    out = tmp_path / "out"
    command = [
        "finetune",
        "--model",
        tiny_model,
        "--corpus",
        few_tunes,
        "--max_seq_length",
        "32",
        "--out",
        str(out),
    ]
    assert main([*command, *flags]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert not out.exists()


@pytest.mark.slow
def test_json_stands_alone_on_standard_output(capsys, tiny_model, few_tunes, tmp_path):
    flags = "--max_steps 2 --max_seq_length 32 --logging_steps 1 --save_strategy no --eval_strategy no".split()
    command = [
        "finetune",
        "--model",
        tiny_model,
        "--corpus",
        few_tunes,
        "--out",
        str(tmp_path / "out"),
        "--json",
        *flags,
    ]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((tmp_path / "out" / "run.json").read_text())
    assert "evaluation loss" in captured.err
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_explain(capsys):
    assert main(["explain"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for card in CARDS.values():
        assert f"{card.name}: " in text and card.why in text
    assert main(["explain", "warmup_steps"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert CARDS["warmup_steps"].verdict in text and re.search(r"notes 2000 ours 20\b", text)


def test_check_on_a_recipe(capsys):
    assert main(["check", "--recipe", "notes", "--examples", "640", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    (call,) = report["calls"]
    assert (
        call["name"] == "Recipe"
        and call["arguments"] == dataclasses.asdict(NOTES)
        and call["unread"] == []
    )
    assert {"rule", "severity", "message", "evidence", "fix", "file", "cell", "line"} == set(
        report["findings"][0]
    )
    assert (
        main(
            [
                "check",
                "--recipe",
                "notes",
                "--examples",
                "640",
                "--warmup_steps",
                "0",
                "--learning_rate",
                "1e-3",
            ]
        )
        == 0
    )
    assert main(["check", "--recipe", "starter", "--gradient_accumulation_steps", "32"]) == 0
    text = capsys.readouterr().out
    assert "batch-without-rate" in text and "no --examples" in text and "no --device" in text


@pytest.mark.slow
def test_check_counts_the_blocks_of_a_corpus(capsys, tiny_model, few_tunes, tmp_path):
    """The accounting that finetune prints for the same recipe, before it trains."""
    flags = [
        "--model",
        tiny_model,
        "--corpus",
        few_tunes,
        "--max_seq_length",
        "32",
        "--max_steps",
        "1",
    ]
    assert main(["check", "--recipe", "starter", *flags]) == 1  # one update, and a warmup of 20
    checked = capsys.readouterr().out
    assert main(["finetune", *flags, "--save_strategy", "no", "--out", str(tmp_path / "out")]) == 0
    blocks = re.search(r"(\d+) examples of 32 tokens", capsys.readouterr().out)[1]
    assert f"recipe starter, {blocks} examples" in checked and "length-cuts-tokens" in checked


@pytest.mark.slow
def test_finetune_says_what_check_finds(capsys, tiny_model, few_tunes, tmp_path):
    flags = [
        "--max_steps",
        "2",
        "--max_seq_length",
        "32",
        "--logging_steps",
        "5",
        "--save_strategy",
        "no",
    ]
    assert (
        main(
            [
                "finetune",
                "--model",
                tiny_model,
                "--corpus",
                few_tunes,
                "--out",
                str(tmp_path / "out"),
                *flags,
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "error warmup-outlasts-run: warmup takes 20 updates and the run has 2" in said
    assert said.index("warmup-outlasts-run") < said.index("evaluation loss before")
    held, predicted = re.search(
        r"optimizer state: (\S+) MB held, \d+% of it in 8 bits; (\S+) MB predicted", said
    ).groups()
    assert held == predicted


def test_device(capsys):
    assert main(["device", "t4"]) == 0
    assert "bf16 -> fp16: Tesla T4 only emulates bf16" in capsys.readouterr().out
    assert main(["device", "cpu", "--recipe", "notes"]) == 0
    assert main(["device"]) == 0
    assert "times as long as fused AdamW's" in capsys.readouterr().out
    assert "did you mean h100?" in fails(capsys, "device", "h10")
