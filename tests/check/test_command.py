"""`hpkit check` as a linter: paths, formats, choosing and ignoring rules, statuses."""

import json
import os
import subprocess
import sys

import pytest
from sarif_pydantic import Sarif

from hpkit.__main__ import main
from hpkit.check.explain import finding_on_example, rules_page
from hpkit.preflight.rules import ALL_RULES

from .examples import notebook, write

GOOD = "from transformers import TrainingArguments\nTrainingArguments('o', max_steps=500)\n"
BAD = "from transformers import TrainingArguments\nTrainingArguments('o', bf16=True, fp16=True)\n"
WARNED = "from transformers import TrainingArguments\nTrainingArguments('o', eval_steps=9)\n"
NOTHING = "print('hello')\n"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """In a folder of its own, whose pyproject.toml no other is above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRE_COMMIT", raising=False)
    (tmp_path / "pyproject.toml").write_text("")


def run(capsys, *arguments) -> tuple[int, str]:
    status = main(["check", *map(str, arguments)])
    return status, capsys.readouterr().out


@pytest.mark.parametrize("text, status", [(GOOD, 0), (BAD, 1), (WARNED, 0), (NOTHING, 2)])
def test_the_status_of_one_file(text, status, capsys, tmp_path):
    file = write(tmp_path, text)
    got, said = run(capsys, file)
    assert got == status
    assert ("nothing was checked" in said) == (status == 2)


def test_several_files_and_folders(capsys, tmp_path):
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / ".venv").mkdir()
    write(tmp_path / "src", GOOD, "a.py")
    write(tmp_path / "src" / "deep", BAD, "b.py")
    write(tmp_path / "src" / ".venv", BAD, "hidden.py")
    write(tmp_path / "src", "x = = 1", "broken.py")
    write(tmp_path / "src", "learning_rate: 1\n", "other.yaml")
    notebook(tmp_path / "src", BAD)
    status, said = run(capsys, "src", "--output-format", "concise")
    assert status == 1
    lines = said.splitlines()
    assert lines[0].startswith("src/train.ipynb:cell 1:2: error both-halves: ")
    assert lines[1].startswith("src/deep/b.py:2: error both-halves: ")
    assert lines[-1] == "2 errors" and len(lines) == 3
    status, said = run(capsys, "src")
    assert "passed over: src/broken.py, line 1: expected Python" in said
    assert "5 files, 3 of them with settings of a training" in said
    # Among several, in a folder and under the hook a file that sets nothing is no fault.
    write(tmp_path, NOTHING, "n.py")
    assert run(capsys, "n.py", "src/a.py")[0] == 0
    (tmp_path / "empty").mkdir()
    status, said = run(capsys, "empty")
    assert status == 0 and said.endswith("nothing was checked\n")
    assert main(["check", "src", "--output-format", "concise"]) == 1
    assert "passed over: src/broken.py" in capsys.readouterr().err
    os.environ["PRE_COMMIT"] = "1"
    try:
        assert run(capsys, "n.py")[0] == 0
    finally:
        del os.environ["PRE_COMMIT"]


@pytest.mark.parametrize(
    "text, rule",
    [
        (BAD, "both-halves"),
        (
            "per_device_train_batch_size: 2\nlearning_rate: 1e-4\nbf16: true\nfp16: true\n",
            "both-halves",
        ),
        ("torchrun t.py --bf16 True --fp16 True --max_steps 500\n", "both-halves"),
    ],
)
def test_standard_input(text, rule, tmp_path):
    command = [sys.executable, "-m", "hpkit", "check", "-", "--output-format", "concise"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 1 and "<stdin>:" in done.stdout and rule in done.stdout


def test_choosing_rules(capsys, tmp_path):
    file = write(tmp_path, BAD.replace("bf16=True", "bf16=True, warmup_ratio=0.1"))
    assert run(capsys, file, "--select", "both-halves")[1].count("both-halves") == 1
    status, said = run(capsys, file, "--ignore", "both-halves,removed-argument")
    assert status == 0 and "nothing found" in said
    assert run(capsys, file, "--select", "both-halvs")[0] == 2


def test_a_misspelt_rule_is_one_line(capsys, tmp_path):
    file = write(tmp_path, BAD)
    assert main(["check", str(file), "--ignore", "both-halvs"]) == 2
    assert "did you mean both-halves?" in capsys.readouterr().err


def test_strict(capsys, tmp_path):
    file = write(tmp_path, WARNED)
    assert run(capsys, file)[0] == 0
    assert run(capsys, file, "--strict")[0] == 1


def test_settings_of_the_project(capsys, tmp_path):
    file = write(tmp_path, WARNED)
    project = tmp_path / "pyproject.toml"
    project.write_text("[tool.hpkit]\nstrict = true\n")
    assert run(capsys, file)[0] == 1
    project.write_text('[tool.hpkit]\nignore = ["evaluation-idle"]\n')
    assert "nothing found" in run(capsys, file)[1]
    project.write_text('[tool.hpkit]\nselect = ["both-halves"]\n')
    assert "nothing found" in run(capsys, file)[1]
    for wrong, words in (
        ("igonre = []", "did you mean ignore?"),
        ('ignore = ["x-y"]', "no rule 'x-y'"),
        ('ignore = "x"', "expected a list"),
        ('strict = "false"', "expected strict = true or false"),
    ):
        project.write_text(f"[tool.hpkit]\n{wrong}\n")
        assert main(["check", str(file)]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, left",
    [
        (BAD.replace("True)\n", "True)  # hpkit: ignore[both-halves]\n"), 0),
        (BAD.replace("True)\n", "True)  # hpkit: ignore\n"), 0),
        (BAD.replace("True)\n", "True)  # hpkit: ignore[seed-after-model]\n"), 1),
        (
            BAD.replace("Training", "# hpkit: ignore[both-halves]\nTraining", 2).replace(
                "import # hpkit: ignore[both-halves]\n", "import "
            ),
            0,
        ),
        ("# hpkit: ignore\n" + BAD, 1),  # of the next line alone
        (
            BAD.replace(
                "\nTraining",
                "\n# hpkit: ignore[both-halves]  a trial\n# hpkit: ignore[epochs-idle]\nTraining",
            ),
            0,
        ),
    ],
)
def test_a_finding_can_be_ignored_on_its_line(text, left, capsys, tmp_path):
    file = write(tmp_path, text)
    assert run(capsys, file)[1].count("both-halves ") == left


def test_ignoring_in_notebooks_and_recipes(capsys, tmp_path):
    file = notebook(tmp_path, BAD, "# hpkit: ignore[both-halves]\n" + BAD)
    said = run(capsys, file)[1]
    assert said.count("error   both-halves") == 1 and "cell 1" in said
    recipe = "max_steps: 500\nper_device_train_batch_size: 2\nnum_train_epochs: 3\nbf16: true\n"
    file = write(tmp_path, recipe + "fp16: true  # hpkit: ignore\noutput_dir: o\n", "r.yaml")
    assert "both-halves" not in run(capsys, file)[1]


def test_a_trainer_alone_was_checked(capsys, tmp_path):
    source = "from trl import SFTTrainer\nSFTTrainer('m', tokenizer=t)  # hpkit: ignore\n"
    status, said = run(capsys, write(tmp_path, source))
    assert status == 0 and said.endswith("nothing found\n")
    assert "no call" not in said and "--examples" not in said


def test_two_comments_in_one_cell(capsys, tmp_path):
    head = "# hpkit: ignore[both-halves]\n# hpkit: ignore[removed-argument]\n"
    file = notebook(tmp_path, head + BAD.replace("bf16=True", "bf16=True, warmup_ratio=0.1"))
    assert "nothing found" in run(capsys, file)[1]


def test_ignoring_what_does_not_exist_is_said(capsys, tmp_path):
    file = write(tmp_path, GOOD.replace("500)", "500)  # hpkit: ignore[both-halvs]"))
    assert "there is no such rule (did you mean both-halves?)" in run(capsys, file)[1]


def test_output_for_github(capsys, tmp_path):
    write(tmp_path, BAD)
    status, said = run(capsys, "train.py", "--output-format", "github")
    first = said.splitlines()[0]
    assert first.startswith("::error file=train.py,line=2,title=hpkit both-halves::")
    assert "%" not in first.replace("%25", "") and status == 1
    notebook(tmp_path, BAD)
    said = run(capsys, "train.ipynb", "--output-format", "github")[1]
    assert "line=1,title=hpkit both-halves::cell 1, line 2: " in said


def test_sarif_is_sarif(capsys, tmp_path):
    write(tmp_path, BAD + WARNED)
    said = run(capsys, "train.py", "--output-format", "sarif")[1]
    log = Sarif.model_validate_json(said)
    (one,) = log.runs
    assert {rule.id for rule in one.tool.driver.rules} == {rule.name for rule in ALL_RULES}
    levels = {result.rule_id: result.level.value for result in one.results}
    assert levels == {"both-halves": "error", "evaluation-idle": "warning"}
    place = one.results[0].locations[0].physical_location
    assert place.artifact_location.uri == "train.py" and place.region.start_line == 2
    # The model of the schema is no formality: it refuses what is no SARIF.
    broken = json.loads(said)
    broken["runs"][0]["results"][0]["level"] = "loud"
    with pytest.raises(ValueError):
        Sarif.model_validate(broken)


def test_json_of_several_files(capsys, tmp_path):
    write(tmp_path, BAD, "a.py")
    write(tmp_path, GOOD, "b.py")
    said = run(capsys, "a.py", "b.py", "--output-format", "json")[1]
    report = json.loads(said)
    assert [call["file"] for call in report["calls"]] == ["a.py", "b.py"]
    (finding,) = report["findings"]
    assert finding["changes"] == {"set": {"fp16": False}, "leave_out": []}


def test_many_files_are_shared_among_processes(capsys, tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(120):
        write(tmp_path / "many", BAD if number % 40 == 7 else GOOD, f"f{number:03}.py")
    status, said = run(capsys, "many", "--output-format", "concise")
    assert status == 1
    named = [line.partition(":")[0] for line in said.splitlines()[:-1]]
    assert named == ["many/f007.py", "many/f047.py", "many/f087.py"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["a.py", "b.py", "--with", "r.yaml"], "--with: expected one script"),
        (["nowhere.py"], "no such file"),
        (["a.py", "nowhere.py"], "no such file"),
        (["a.txt"], "expected a script (.py)"),
        (["a" * 300 + ".py"], "no such file"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys, tmp_path):
    write(tmp_path, GOOD, "a.py")
    write(tmp_path, GOOD, "b.py")
    write(tmp_path, GOOD, "a.txt")
    assert main(["check", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


# Explaining.


@pytest.mark.slow
@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.name)
def test_a_rule_speaks_of_its_own_example(rule):
    finding = finding_on_example(rule)
    assert finding["message"] and finding["fix"]
    assert len(rule.paragraph) > len(rule.summary), "it says why"


def test_explaining_rules(capsys):
    assert main(["explain", "warmup-outlasts-run"]) == 0
    said = capsys.readouterr().out
    for part in ("warmup_steps=100, max_steps=80", "-> set warmup_steps=0.1", "notebook 02_"):
        assert part in said
    assert main(["explain", "--rules"]) == 0
    said = capsys.readouterr().out
    assert all(rule.name in said for rule in ALL_RULES)
    # A hyperparameter may be written with hyphens, too.
    assert main(["explain", "learning-rate"]) == 0
    assert "what      " in capsys.readouterr().out
    assert main(["explain", "warmup-outlast-run"]) == 2
    assert "did you mean warmup-outlasts-run?" in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_of_rules_is_stored():
    from pathlib import Path

    stored = Path(__file__).parents[2] / "notebooks" / "RULES.md"
    assert stored.read_text(encoding="utf-8") == rules_page(), "run `make stamp`"
