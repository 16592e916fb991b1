"""What `hpkit explain` says of a rule: why, an example, what is said of it, and the notebook."""

import shlex
import tempfile
import textwrap
from pathlib import Path

from hpkit.capability import find_machine
from hpkit.check.report import check_file, check_recipe, measure
from hpkit.errors import BadInput, did_you_mean
from hpkit.preflight.register import REGISTERED_RULES, Rule
from hpkit.preflight.rules import ALL_RULES
from hpkit.recipe import load_recipe

LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml"}

NOTEBOOKS = {
    "00": "00_start_here",
    "01": "01_learning_rate",
    "02": "02_warmup_and_schedules",
    "03": "03_batch_and_accumulation",
    "04": "04_epochs",
    "05": "05_weight_decay",
    "06": "06_seed",
    "07": "07_number_formats",
    "08": "08_mixed_precision",
    "09": "09_eight_bit_adamw",
    "10": "10_log_eval_save",
    "11": "11_sequence_length",
    "12": "12_your_own_run",
}


def explained_rule(name: str, width: int) -> str:
    """All that is known of a rule, in lines of `width`. Raises BadInput."""
    known = [rule.name for rule in ALL_RULES]
    if name not in known:
        raise BadInput(
            f"there is no rule {name!r}{did_you_mean(name, known)}; `hpkit explain --rules` lists "
            "all"
        )
    rule = REGISTERED_RULES[name]
    finding = finding_on_example(rule)
    lines = [f"{name}: {rule.summary}", ""]
    why = rule.paragraph.removeprefix(rule.summary).strip()
    if why:
        lines += [textwrap.fill(why, width), ""]
    lines += ["    " + line if line else "" for line in rule.example.rstrip().split("\n")]
    lines += ["", f"{command_of(rule)} says:"]
    said = f"{finding['severity']}: {finding['message']}"
    indent = "    "
    lines.append(textwrap.fill(said, width, initial_indent=indent, subsequent_indent=indent))
    lines.append(
        textwrap.fill(
            f"-> {finding['fix']}", width, initial_indent=indent, subsequent_indent=indent + "   "
        )
    )
    lines += ["", f"notebook {NOTEBOOKS[rule.notebook]} teaches what it is about"]
    return "\n".join(lines)


def all_rules(width: int) -> str:
    """Every rule in a line."""
    longest = max(len(rule.name) for rule in ALL_RULES)
    lines = []
    for rule in ALL_RULES:
        first = f"{rule.name:{longest}}  "
        rest = " " * len(first)
        lines.append(
            textwrap.fill(rule.summary, width, initial_indent=first, subsequent_indent=rest)
        )
    return "\n".join([*lines, "", "`hpkit explain RULE` tells the rest about one of them."])


def rules_page() -> str:
    """All rules as Markdown: why, the example, what is said of it, the notebook."""
    parts = [
        "# What `hpkit check` looks for",
        "",
        textwrap.fill(
            f"{len(ALL_RULES)} rules. Below each stands a file that it speaks about, and what it "
            "says, as `hpkit check` says it today. `# hpkit: ignore[rule]` on a line, alone above "
            "it, or alone in a cell silences one; `--select`, `--ignore` and `[tool.hpkit]` in "
            "pyproject.toml choose among them. This page is made by `make notebooks`.",
            130,
        ),
    ]
    for rule in ALL_RULES:
        finding = finding_on_example(rule)
        language = LANGUAGES[Path(name_of_example(rule)).suffix]
        parts += [
            "",
            f"## {rule.name}",
            "",
            textwrap.fill(rule.paragraph, 130),
            "",
            f"```{language}",
            rule.example.rstrip(),
            "```",
            "",
            textwrap.fill(
                f"`{command_of(rule)}`: {finding['severity']}: {finding['message']}. "
                f"**To mend it:** {finding['fix']}.",
                130,
            ),
            "",
            f"Notebook [{NOTEBOOKS[rule.notebook]}]({NOTEBOOKS[rule.notebook]}.ipynb).",
        ]
    return "\n".join(parts) + "\n"


def name_of_example(rule: Rule) -> str:
    """The name of a file that the rule's example could be: a script, a recipe, another tool's."""
    if "import" in rule.example:
        return "tune.py"
    return "tune.yaml" if ": " in rule.example else "tune.toml"


def command_of(rule: Rule) -> str:
    """The command that checks the rule's example."""
    name = name_of_example(rule)
    if name.endswith(".toml"):
        name = f"--recipe {name}"
    return f"hpkit check {name} {rule.options}".rstrip()


def finding_on_example(rule: Rule) -> dict:
    """What the check says of the rule's example, as JSON has it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name_of_example(rule)
        file.write_text(rule.example, encoding="utf-8")
        known = known_of(rule)
        if file.suffix == ".toml":
            report = check_recipe("tune.toml", load_recipe(str(file)), **known)
        else:
            report = check_file(str(file), **known)
    for finding in report.findings:
        if finding["rule"] == rule.name:
            return finding
    raise AssertionError(f"{rule.name} says nothing of its own example")


def _example_model():
    """A model with a head that averages its own loss; the hub cannot be asked everywhere."""
    from transformers import BertConfig

    return BertConfig(architectures=["BertForSequenceClassification"])


def known_of(rule: Rule) -> dict:
    """What `check_file` takes beside the file, from a rule's options."""
    known = dict(examples=None, model=None, device=None, processes=1, lengths=None)
    words = shlex.split(rule.options)
    for name, value in zip(words[::2], words[1::2]):
        if name == "--examples":
            known["examples"] = int(value)
        elif name == "--device":
            known["device"] = find_machine(value)
        elif name == "--model":
            known["model"] = _example_model() if value == "org/bert" else value
        elif name == "--corpus":
            lengths, _ = measure(value, "starter", None)
            known["lengths"] = lengths
    return known
