"""Which versions a file is judged by: what its project, its launcher or a library's needs say."""

import json
import textwrap
from pathlib import Path

import pytest

from hpkit.check import check_file
from hpkit.check.pins import pins_of
from hpkit.preflight.libraries import TRL_NEEDS, number_of, version_in_force

from .examples import write

ALONE = dict(model=None, device=None, processes=1, lengths=None)
SCRIPT = "from transformers import TrainingArguments\nTrainingArguments('o', warmup_ratio=0.1)\n"
RECIPE = "dataset_name: o/d\nlearning_rate: 1.0e-4\nwarmup_ratio: 0.1\noutput_dir: o\n"


@pytest.fixture
def repository(tmp_path):
    """A folder with a repository's root, to which `repository(name=text)` adds files."""
    (tmp_path / ".git").mkdir()

    def add(files: dict[str, str]) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(textwrap.dedent(text))
        return tmp_path

    return add


def findings(file: Path) -> list[tuple[str, str]]:
    report = check_file(str(file), None, **ALONE)
    return [(finding["rule"], finding["severity"]) for finding in report.findings]


@pytest.mark.parametrize(
    "name, text, pin",
    [
        ("environment.yml", "dependencies:\n  - pip:\n      - transformers==4.44.2\n", "==4.44.2"),
        ("environment.yaml", "dependencies:\n- transformers=4.44.2=pyhd8ed1ab_0\n", "==4.44.2"),
        ("environment.yml", "dependencies:\n  - conda-forge::transformers=4.44\n", "==4.44.*"),
        ("conda_env.yml", 'dependencies:\n  - "transformers>=4.40,<4.45"\n', "<4.45,>=4.40"),
        ("speech_env.yml", "dependencies:\n  - transformers=4.44.2=py_0\n", "==4.44.2"),
        ("myenv.yaml", "name: a\ndependencies:\n- pip:\n  - transformers==4.44.2", "==4.44.2"),
        ("dev_requirements.txt", "torch\ntransformers==4.44.2\n", "==4.44.2"),
        ("requirements_linux.txt", "transformers==4.44.2\n", "==4.44.2"),
        ("requirement.txt", "transformers==4.44.2\n", "==4.44.2"),
        ("requirements.in", "transformers==4.44.2\n", "==4.44.2"),
        (
            "environment.yml",
            "- pip:\n  - git+https://github.com/huggingface/transformers@v4.44.2\n",
            "==4.44.2",
        ),
        ("setup.py", "setup(install_requires=['transformers==4.44.2'])", "==4.44.2"),
        ("setup.cfg", "[options]\ninstall_requires =\n    transformers==4.44.2\n", "==4.44.2"),
        ("setup.cfg", "[options]\ninstall_requires = transformers==4.44.2\n", "==4.44.2"),
        ("Pipfile", '[packages]\ntransformers = "==4.44.2"\n', "==4.44.2"),
        ("Pipfile", '[packages]\ntransformers = {version = "~=4.44.0"}\n', "~=4.44.0"),
        ("requirements/train.txt", "transformers==4.44.2  # tested\n", "==4.44.2"),
        ("pyproject.toml", '[project]\ndependencies = ["transformers==4.44.2"]\n', "==4.44.2"),
        (
            "pyproject.toml",
            '[project.optional-dependencies]\ntrain = ["transformers[torch]==4.44.2"]\n',
            "==4.44.2",
        ),
        ("pyproject.toml", '[dependency-groups]\ntrain = ["transformers<5"]\n', "<5"),
        ("pyproject.toml", '[tool.poetry.dependencies]\ntransformers = "^4.44.2"\n', "<5,>=4.44.2"),
        ("poetry.lock", '[[package]]\nname = "transformers"\nversion = "4.44.2"\n', "==4.44.2"),
        ("README.md", "    pip install transformers==4.44.2\n", "==4.44.2"),
        ("README.md", "# Needs\n- torch==2.2\n- transformers==4.44.2\n", "==4.44.2"),
        ("README.md", "* `Transformers == 4.44.2`\n", "==4.44.2"),
        ("README.md", "1. transformers~=4.44.0\n", "~=4.44.0"),
        ("README_zh.md", "| transformers | 4.44.2 |\n|---|---|\n", "==4.44.2"),
        ("README.md", "| for training | `transformers==4.44.2` |\n", "==4.44.2"),
        ("README.md", "Set up the other project (`transformers==4.44.2`), then run.\n", "==4.44.2"),
        ("README.md", "Use `torch` and `transformers~=4.44.0` here.\n", "~=4.44.0"),
        ("INSTALL.md", "> transformers==4.44.2\n", "==4.44.2"),
        ("Dockerfile", "RUN pip install \\\n    transformers==4.44.2\n", "==4.44.2"),
    ],
)
def test_where_a_project_says_what_it_needs(name, text, pin, repository):
    file = repository({name: text, "src/deep/tune.py": SCRIPT}) / "src/deep/tune.py"
    assert pins_of(str(file), [SCRIPT])[0]["transformers"] == pin
    assert findings(file) == [("removed-argument", "hint")]


def test_the_nearest_folder_counts_and_a_version_counts_more_than_a_name(repository):
    root = repository(
        {
            "environment.yml": "- trl=0.9.6\n- transformers=4.44.2\n",
            "requirements.txt": "transformers\n",
            "new/requirements.txt": "transformers>=5.20\n",
            "new/tune.py": SCRIPT,
            "tune.py": SCRIPT,
        }
    )
    assert findings(root / "tune.py") == [("removed-argument", "hint")]
    assert findings(root / "new/tune.py") == [("removed-argument", "error")]


def test_what_stands_above_a_repository_is_not_its_own(tmp_path):
    (tmp_path / "requirements.txt").write_text("transformers==4.44.2\n")
    (tmp_path / "one" / ".git").mkdir(parents=True)
    file = write(tmp_path / "one", SCRIPT)
    assert findings(file) == [("removed-argument", "warning")]


def test_what_a_launcher_installs_holds_for_what_it_starts(repository):
    cells = [
        {"cell_type": "code", "source": ["!pip install \\\n", '  "transformers==4.44.2" trl']},
        {"cell_type": "markdown", "source": "```bash\naccelerate launch scripts/a.py \\\n  --c"},
        {"cell_type": "code", "source": "!accelerate launch scripts/run.py --config ../r/one.yaml"},
    ]
    root = repository(
        {
            "book/start.ipynb": json.dumps({"cells": cells}),
            "start.sh": "pip install transformers==4.40.2\npython other/run.py --max_steps 3\n",
            "book/scripts/run.py": SCRIPT,
            "book/scripts/a.py": SCRIPT,
            "other/run.py": SCRIPT,
            "one/start.sh": "pip install transformers==4.40.2\npython tune.py --max_steps 3\n",
            "one/deep/tune.py": SCRIPT,
            "tune.py": SCRIPT,
            "two/tune.py": SCRIPT,
            "r/one.yaml": RECIPE,
            "r/two.yaml": RECIPE,
        }
    )
    for name in (
        "book/scripts/run.py",
        "book/scripts/a.py",
        "other/run.py",
        "r/one.yaml",
        "one/deep/tune.py",
        "tune.py",
    ):
        assert findings(root / name) == [("removed-argument", "hint")], name
    # A bare name beside the launcher's folder may be anybody's.
    assert findings(root / "two/tune.py") == [("removed-argument", "warning")]
    assert findings(root / "r/two.yaml") == [("removed-argument", "warning")]
    # What the file itself says counts more.
    own = "# pip install transformers==5.23\n" + SCRIPT
    (root / "other/run.py").write_text(own)
    assert findings(root / "other/run.py") == [("removed-argument", "error")]


def test_an_image_of_a_launcher_has_a_version(repository):
    cell = "estimator = HuggingFace(entry_point='run.py', source_dir='jobs',\n"
    cell += "    transformers_version='4.28', pytorch_version='2.0')\n"
    notebook = json.dumps({"cells": [{"cell_type": "code", "source": cell}]})
    root = repository({"start.ipynb": notebook, "jobs/run.py": SCRIPT, "jobs/other.py": SCRIPT})
    assert findings(root / "jobs/run.py") == [("removed-argument", "hint")]
    assert findings(root / "jobs/other.py") == [("removed-argument", "warning")]


@pytest.mark.parametrize(
    "image",
    [
        'image = modal.Image.debian_slim().pip_install("torch", "transformers==4.40.2")\n',
        "image = (\n    base.uv_pip_install(\n        'transformers==4.40.2',\n    )\n)\n",
    ],
)
def test_an_image_that_the_file_makes_has_a_version(image, tmp_path):
    assert findings(write(tmp_path, image + SCRIPT)) == [("removed-argument", "hint")]


def test_who_asks_for_a_version(repository):
    launch = "torchrun t.py --warmup_ratio 0.1 --per_device_train_batch_size 2\n"
    root = repository({"environment.yml": "- transformers=4.44.2\n", "r.yaml": RECIPE})
    parser = "from transformers import HfArgumentParser as H, TrainingArguments as T\nH((T,))\n"
    write(root, parser, "t.py")
    for file in (root / "r.yaml", write(root, launch, "run.sh")):
        (finding,) = check_file(str(file), None, **ALONE).findings
        assert "transformers 4.44.2, which its project names" in finding["message"], file


@pytest.mark.parametrize(
    "pins, newest",
    [
        ("transformers==4.32.0\ntrl>=0.5.0\n", "0.10.1"),
        ("transformers==4.44.2\n", "0.12.2"),
        ("transformers<4.56\ntrl\n", "0.22.2"),
        ("transformers==4.57.6\ntrl\n", "1.16.0"),
        ("transformers>=4.32\ntrl>=0.5\n", "1.16.0"),
        ("transformers==4.44.2\ntrl==0.20.0\n", "0.20.0"),
    ],
)
def test_a_transformers_lets_in_no_trl_that_needs_a_newer_one(pins, newest, repository):
    source = "from trl import PPOTrainer, ORPOConfig\nORPOConfig('o', max_steps=500)\n"
    root = repository({"requirements.txt": pins, "tune.py": source})
    file = root / "tune.py"
    found = pins_of(str(file), [source])[0]
    assert version_in_force("trl", found).text == newest
    gone = "gone-import" in [rule for rule, _ in findings(file)]
    assert gone == (number_of(newest) > (0, 28))


def test_the_table_of_what_trl_needs_ends_with_the_installed_one():
    from importlib.metadata import requires

    (needed,) = [one for one in requires("trl") if one.startswith("transformers>=")]
    assert list(TRL_NEEDS.values())[-1] == needed.removeprefix("transformers>=")


@pytest.mark.parametrize(
    "text",
    [
        "- the old code needs transformers==4.44.2\n",
        "- transformers\n",
        "With `transformers==4.44.2`, or with `transformers==4.51.3` for the large one.\n",
        "| | least | best |\n| transformers | 4.37.2 | 4.44.2 |\n",
        "| model A | transformers==4.44.2 |\n| model B | transformers==4.51.3 |\n",
    ],
)
def test_prose_about_a_version_is_no_pin(text, repository):
    file = repository({"README.md": text, "tune.py": SCRIPT}) / "tune.py"
    assert "transformers" not in pins_of(str(file), [SCRIPT])[0]


@pytest.mark.parametrize("name", ["compose.env.yml", "test-env.yaml"])
def test_a_file_named_after_an_environment_needs_dependencies(name, repository):
    file = repository({name: "steps:\n- transformers=4.44.2\n", "tune.py": SCRIPT}) / "tune.py"
    assert findings(file) == [("removed-argument", "warning")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_frozen_list_of_powershell_is_read(encoding, repository):
    root = repository({"tune.py": SCRIPT})
    text = "transformers==4.44.2\r\ntrl==0.9.6\r\n"
    (root / "requirements.txt").write_bytes(text.encode(encoding))
    assert pins_of(str(root / "tune.py"), [])[0] == {"transformers": "==4.44.2", "trl": "==0.9.6"}


OLD_NAMES = """\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
model = AutoModelForCausalLM.from_pretrained("org/m", load_in_8bit=True)
args = TrainingArguments("o", evaluation_strategy="no", gradient_checkpointing=True, optim="own")
args.warmup_ratio = 0.1
Trainer(model, args, tokenizer=tok)
"""
REPOSITORY = "git+https://github.com/huggingface/transformers"


@pytest.mark.parametrize(
    "pin, is_told",
    [
        (f"transformers @ {REPOSITORY}@e45e756d22206ca8fa9fb057c8c3d8fa79bf81c6", False),
        (f"{REPOSITORY}.git@0dcb46e7", False),
        (f"{REPOSITORY}.git@1234567#egg=transformers", False),
        ("transformers @ file:///home/conda/feedstock_root/transformers_1709/work", False),
        ("transformers @ file:///C:/wheels/transformers.whl", False),
        (f"{REPOSITORY}@main", True),
        (f"transformers @ {REPOSITORY}.git@master ; python_version > '3.8'", True),
        (REPOSITORY, True),
    ],
)
def test_of_a_commit_nobody_knows_the_version(pin, is_told, repository):
    root = repository({"requirements.txt": f"torch\n{pin}\n", "tune.py": OLD_NAMES})
    rules = {rule for rule, _ in findings(root / "tune.py")}
    told = {"removed-argument", "moved-argument", "deprecated-argument", "bits-argument-gone"}
    told |= {"unread-field", "invalid-value"}
    assert rules & told == (told if is_told else set())


def test_a_repository_in_the_requirements_is_newer_than_what_stands_above(repository):
    pins = f"transformers>=4.28,<4.40\ntransformers @ {REPOSITORY}.git\n"
    root = repository({"README.md": "- transformers==4.28.1\n", "requirements.txt": pins})
    assert findings(write(root, SCRIPT)) == [("removed-argument", "warning")]


def test_a_scripts_words_on_an_error_are_no_install(repository):
    words = f"assert ready, 'Please reinstall it: pip install {REPOSITORY}.git'\n"
    root = repository({"requirements.txt": f"transformers @ {REPOSITORY}@e45e756d\n"})
    assert findings(write(root, words + SCRIPT)) == []
    assert findings(write(root, "# pip install transformers==4.44.2\n" + SCRIPT)) == [
        ("removed-argument", "hint")
    ]


def test_a_commit_of_trl_says_nothing_of_transformers(repository):
    source = "from trl import SFTConfig, PPOTrainer\nSFTConfig('o', max_seq_length=5)\n"
    source += "from transformers import TrainingArguments\n"
    source += "TrainingArguments('o', overwrite_output_dir=True)\n"
    pin = "git+https://github.com/huggingface/trl@0a5aee7"
    root = repository({"requirements.txt": pin, "tune.py": source})
    (finding,) = check_file(str(root / "tune.py"), None, **ALONE).findings
    assert finding["argument"] == "overwrite_output_dir"


@pytest.mark.parametrize(
    "cells, pin",
    [
        (["!pip install transformers==4.46.2 trl", "!pip install -q transformers"], "4.46.2"),
        (["!pip install transformers==4.46.2", "#!pip install datasets transformers"], "4.46.2"),
        (["!pip install transformers==4.46.2", "# !pip install transformers==4.40.2"], "4.46.2"),
        (["# !pip install transformers==4.40.2", "print()"], "4.40.2"),
        (["!pip install transformers==4.46.2", "!pip install -qU trl transformers"], ""),
        (["!pip install transformers==4.46.2", "!pip install transformers --upgrade"], ""),
        (["!pip install transformers==4.46.2", f"!pip install {REPOSITORY}.git"], ""),
        (["!pip install -U transformers==4.46.2"], "4.46.2"),
        (["#!pip install transformers==4.40.2", "!pip install transformers"], ""),
    ],
)
def test_a_bare_name_leaves_what_is_installed(cells, pin, tmp_path):
    found = pins_of(str(tmp_path / "tune.ipynb"), cells)[0]
    assert found.get("transformers", "==").removeprefix("==") == pin


FACTORY = """\
model_name_or_path: org/m
stage: sft
finetuning_type: lora
dataset: d
cutoff_len: 512
warmup_ratio: 0.1
learning_rate: 3.0e-4
"""
FIELDS = """\
from dataclasses import dataclass, field
from typing import Literal
@dataclass
class Tuning:
    finetuning_type: Literal["lora", "full"] = field(default="lora")
"""


@pytest.mark.parametrize(
    "files, found",
    [
        ({}, "which LLaMA-Factory 0.9.5 installs"),
        ({"own/arguments.py": FIELDS}, "has no argument warmup_ratio"),
        (
            {"own/arguments.py": FIELDS, "requirements.txt": "transformers==4.44.2"},
            "transformers 4.44.2, which its project names",
        ),
        ({"LLaMA-Factory/src/hparams.py": FIELDS}, "which LLaMA-Factory 0.9.5 installs"),
        ({"run.py": "print(args.finetuning_type)\n"}, "which LLaMA-Factory 0.9.5 installs"),
        ({"requirements.txt": "transformers==4.44.2"}, "4.44.2, which its project names"),
    ],
)
def test_whose_parser_reads_a_file_like_llama_factorys(files, found, repository):
    root = repository({"examples/lora.yaml": FACTORY, **files})
    report = check_file(str(root / "examples/lora.yaml"), None, **ALONE)
    (finding,) = report.findings
    assert found in finding["message"]


# What other folders of a repository ask for.


@pytest.mark.parametrize(
    "files, severity",
    [
        ({"train/src/environment.yml": "- transformers==4.28.0\n"}, "hint"),
        ({"a/requirements.txt": "transformers<5\n", "b/setup.py": "'transformers<4.50'"}, "hint"),
        ({"a/requirements.txt": "transformers<5\n", "b/setup.py": "'transformers>4.50'"}, "error"),
        ({"a/requirements.txt": "transformers\n"}, "error"),
        ({"a/b/c/requirements.txt": "transformers==4.28.0\n"}, "warning"),
        ({"a/requirements.txt": "transformers<5\n", "requirements.txt": "trl\n"}, "error"),
    ],
)
def test_where_a_folder_is_silent_the_others_say(files, severity, repository):
    root = repository({**files, "code/deep/tune.py": SCRIPT})
    assert findings(root / "code/deep/tune.py") == [("removed-argument", severity)]


def test_of_several_the_newest_counts_and_accuses_no_new_name(repository):
    new = "from transformers import TrainingArguments\nTrainingArguments('o', eval_strategy='no')\n"
    root = repository(
        {
            "a/README.md": "- transformers==4.31.0\n",
            "b/requirements.txt": "transformers==4.36.2\n",
            "code/tune.py": new,
            "code/old.py": SCRIPT,
        }
    )
    assert pins_of(str(root / "code/tune.py"), [])[0]["transformers"] == "==4.36.2"
    assert findings(root / "code/tune.py") == []
    (finding,) = check_file(str(root / "code/old.py"), None, **ALONE).findings
    assert "4.36.2, which another folder of its project asks for" in finding["message"]


OF_TODAY_AND_OF_OLD = """\
from peft import get_peft_model
from transformers import AdamW, AutoModelForCausalLM, Trainer, TrainingArguments

model = get_peft_model(AutoModelForCausalLM.from_pretrained("org/m", load_in_8bit=True), LORA)
args = TrainingArguments("o", warmup_ratio=0.1, lerning_rate=1e-4, gradient_checkpointing=True)
Trainer(model, args, tokenizer=tok)
"""


def test_where_nobody_names_a_version_an_older_one_may_run_the_file(repository):
    root = repository({"README.md": "# Tuning\n", "tune.py": OF_TODAY_AND_OF_OLD})
    found = {}
    for finding in check_file(str(root / "tune.py"), None, **ALONE).findings:
        found[finding["argument"]] = finding["severity"]
        rests_on_the_version = "unless an older one runs it: no version was found here"
        assert (rests_on_the_version in finding["message"]) == (finding["severity"] == "warning")
    # No version took the misspelt word. What is merely renamed has its new name in no older one.
    assert found.pop("lerning_rate") == "error"
    assert found == dict.fromkeys(
        ["AdamW", "bits_argument", "warmup_ratio", "tokenizer"], "warning"
    )


@pytest.mark.parametrize(
    "files",
    [
        {"README.md": "pip install transformers\n"},
        {"requirements.txt": "trl\n"},
        {"a/requirements.txt": "transformers\n"},
        {"tune.py": "# pip install -U transformers\n" + OF_TODAY_AND_OF_OLD},
    ],
)
def test_a_library_without_a_version_is_the_newest(files, repository):
    root = repository({"tune.py": OF_TODAY_AND_OF_OLD, **files})
    found = check_file(str(root / "tune.py"), None, **ALONE).findings
    assert {finding["severity"] for finding in found} == {"error", "hint"}


def test_a_script_that_a_line_starts_says_the_version_where_the_lines_folder_is_silent(repository):
    root = repository(
        {
            "run.sh": "python train/tune.py --output_dir o --warmup_ratio 0.1\n",
            "train/requirements.txt": "transformers==4.44.2\n",
            "train/tune.py": """\
                from transformers import HfArgumentParser, TrainingArguments
                HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
                """,
        }
    )
    assert findings(root / "run.sh") == [("removed-argument", "hint")]


@pytest.mark.parametrize("place", ["transformers", "src/transformers"])
def test_a_copy_of_the_library_is_its_own_version(place, repository):
    root = repository({f"{place}/__init__.py": "__version__ = '4.2.0'", "examples/tune.py": SCRIPT})
    assert findings(root / "examples/tune.py") == []


def test_who_reads_the_old_name_is_to_be_mended_too(repository):
    reader = "\n\ndef last(args):\n    return args.warmup_ratio > 0\n"
    root = repository(
        {"requirements.txt": "transformers\n", "tune.py": SCRIPT, "lib/loop.py": reader}
    )
    (finding,) = check_file(str(root / "tune.py"), None, **ALONE).findings
    words = "where lib/loop.py, line 4, runs it, mend that too: it reads warmup_ratio"
    assert finding["fix"].endswith(words)


@pytest.mark.parametrize(
    "script",
    [
        "args.warmup_ratio = 0.1\n",
        "parser.add_argument('--warmup_ratio')\nuse(args.warmup_ratio)\n",
        "class Own:\n    warmup_ratio: float = 0.1\nuse(args.warmup_ratio)\n",
    ],
)
def test_who_sets_it_or_has_one_of_its_own_is_not(script, repository):
    files = {"requirements.txt": "transformers\n", "tune.py": SCRIPT, "lib/loop.py": script}
    (finding,) = check_file(str(repository(files) / "tune.py"), None, **ALONE).findings
    assert "mend" not in finding["fix"]


def test_what_went_and_came_back_is_not_missed_in_between(repository):
    root = repository({"requirements.txt": "transformers==4.44.2\n"})
    source = "from trl import PPOTrainer\nPPOTrainer(model=m, args=a, peft_config=lora)\n"
    assert "moved-argument" not in [rule for rule, _ in findings(write(root, source))]


@pytest.mark.parametrize(
    "pin", ["adapter-transformers==3.1.0", "git+https://github.com/o/adapter-transformers@3ee87f5"]
)
def test_a_fork_under_another_name_is_its_own_version(pin, repository):
    files = {"requirements.txt": f"{pin}\n", "tune.py": SCRIPT}
    assert findings(repository(files) / "tune.py") == []
