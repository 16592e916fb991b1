"""The command line: one line and status 2 for a mistake, and no torch before it is needed."""

import dataclasses
import json
import pkgutil
import re
import subprocess
import sys

import pytest

import hpkit
from hpkit.__main__ import main
from hpkit.files import data_folder
from hpkit.hyperparameters import CARDS
from hpkit.recipe import NOTES

FACES = [
    package.name for package in pkgutil.iter_modules(hpkit.__path__, "hpkit.") if package.ispkg
]
HEAVY = {"torch", "transformers", "numpy", "matplotlib"}
#: What takes no time: Python that runs in a process of its own.
LIGHT = {
    "import": "import hpkit",
    "faces": f"import {', '.join(FACES)}",
    "explain": "import hpkit.__main__ as m; m.main(['explain'])",
    "explain one": "import hpkit.__main__ as m; m.main(['explain', 'optim'])",
    "check a recipe": "import hpkit.__main__ as m; "
    "m.main(['check', '--recipe', 'notes', '--examples', '640', '--device', 't4'])",
    "check a script": f"import hpkit.__main__ as m; m.main(['check', {__file__!r}, '--json'])",
}


@pytest.fixture
def tiny(tiny_model, few_tunes) -> list[str]:
    """The flags of a model and a corpus with which an update takes milliseconds."""
    return ["--model", tiny_model, "--corpus", few_tunes, "--max_seq_length", "32"]


def fails(capsys, *arguments) -> str:
    """The one line on stderr of a command that ends with status 2."""
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


@pytest.mark.parametrize("code", LIGHT.values(), ids=LIGHT)
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    assert len(FACES) >= 8, FACES
    check = f"import sys; {code}; sys.exit(str({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "set()", done.stderr


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
        (["--eval_corpus", "nowhere.abc"], "eval_corpus: corpus 'nowhere.abc' not found"),
        (["--eval_corpus", str(data_folder() / "questions.jsonl")], "give two of one kind"),
    ],
)
def test_mistakes_found_on_the_way_leave_nothing(flags, message, capsys, tiny, tmp_path):
    out = tmp_path / "out"
    # Of a flag that is given twice, argparse takes the last.
    assert main(["finetune", *tiny, "--out", str(out), *flags]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert not out.exists()


@pytest.mark.slow
def test_json_stands_alone_on_standard_output(capsys, tiny, tmp_path):
    out = tmp_path / "out"
    flags = "--max_steps 2 --logging_steps 1 --save_strategy no --eval_strategy no --json".split()
    assert main(["finetune", *tiny, *flags, "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((out / "run.json").read_text())
    assert "evaluation loss" in captured.err
    assert not list(out.glob("checkpoint-*"))


@pytest.fixture
def two_runs(tmp_path) -> list[str]:
    """Two folders of finished runs, taken from the recorded ones."""
    from hpkit.records import load_runs

    folders = []
    for number, run in enumerate(load_runs()[:2]):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        (folder / "run.json").write_text(run.to_json())
        folders.append(str(folder))
    return folders


def test_compare(capsys, two_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *two_runs]) == 0
    said = capsys.readouterr().out
    for part in ("made of", "eval_loss_after", "bars_valid_after", "One seed each proves little"):
        assert part in said
    assert "recorded runs of one recipe that differ by their seed alone end between" in said
    (picture,) = (tmp_path / "runs").glob("compare-*.png")
    assert picture.read_bytes().startswith(b"\x89PNG") and f"runs/{picture.name}" in said
    out = tmp_path / "new" / "both.png"
    assert main(["compare", *two_runs, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == two_runs and told["picture"] == str(out) and out.exists()
    before = out.read_bytes()
    assert "expected a new file" in fails(capsys, "compare", *two_runs, "--out", out)
    assert out.read_bytes() == before


def test_mistakes_of_compare(capsys, two_runs, tmp_path):
    one, other = two_runs
    out = ["--out", tmp_path / "both.png"]
    assert "RUN" in fails(capsys, "compare", one)
    assert "unrecognized" in fails(capsys, "compare", one, other, one)
    assert "twice" in fails(capsys, "compare", one, one, *out)
    assert "holds no run.json" in fails(capsys, "compare", one, tmp_path, *out)
    assert "ends in .png" in fails(capsys, "compare", one, other, "--out", tmp_path)
    assert "cannot be written" in fails(
        capsys, "compare", one, other, "--out", tmp_path / "run0" / "run.json" / "a.png"
    )
    (tmp_path / "run1" / "run.json").write_text("{")
    assert "is damaged" in fails(capsys, "compare", one, other, *out)
    assert not (tmp_path / "both.png").exists()


def test_explain(capsys):
    assert main(["explain"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for card in CARDS.values():
        assert f"{card.name}: " in text and card.why in text
    assert main(["explain", "warmup_steps"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert CARDS["warmup_steps"].verdict in text and re.search(r"notes 2000 ours 20\b", text)


def test_check_on_a_recipe(capsys):
    notes = "check --recipe notes --examples 640".split()
    assert main([*notes, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    (call,) = report["calls"]
    assert call["name"] == "Recipe" and call["unread"] == []
    assert call["arguments"] == dataclasses.asdict(NOTES)
    keys = set("rule severity argument message evidence fix changes file cell line".split())
    assert report["findings"][0].keys() == keys
    assert main([*notes, "--warmup_steps", "0", "--learning_rate", "1e-3"]) == 0
    assert main(["check", "--recipe", "starter", "--gradient_accumulation_steps", "32"]) == 0
    text = capsys.readouterr().out
    assert "batch-without-rate" in text and "no --examples" in text and "no --device" in text


@pytest.mark.slow
def test_check_counts_the_blocks_of_a_corpus(capsys, tiny, tmp_path):
    """The accounting that finetune prints for the same recipe, before it trains."""
    flags = [*tiny, "--max_steps", "1"]
    assert main(["check", "--recipe", "starter", *flags]) == 1  # one update, and a warmup of 20
    checked = capsys.readouterr().out
    assert main(["finetune", *flags, "--save_strategy", "no", "--out", str(tmp_path / "out")]) == 0
    blocks = re.search(r"(\d+) examples of 32 tokens", capsys.readouterr().out)[1]
    assert f"recipe starter, {blocks} examples" in checked and "length-cuts-tokens" in checked


@pytest.mark.slow
def test_finetune_says_what_check_finds(capsys, tiny, tmp_path):
    flags = "--max_steps 2 --logging_steps 5 --save_strategy no --out".split()
    assert main(["finetune", *tiny, *flags, str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "error warmup-outlasts-run: warmup takes 20 updates and the run has 2" in said
    assert said.index("warmup-outlasts-run") < said.index("evaluation loss before")
    states = re.search(
        r"optimizer state: (\S+) MB held, \d+% of it in 8 bits; (\S+) MB predicted", said
    )
    held, predicted = states.groups()
    assert held == predicted


def test_device(capsys):
    assert main(["device", "t4"]) == 0
    assert "bf16 -> fp16: Tesla T4 only emulates bf16" in capsys.readouterr().out
    assert main(["device", "cpu", "--recipe", "notes"]) == 0
    assert main(["device"]) == 0
    assert "times as long as fused AdamW's" in capsys.readouterr().out
    assert "did you mean h100?" in fails(capsys, "device", "h10")
