"""What the command line takes: six commands, their options, and the words of `--help`."""

import argparse

from hpkit.capability import MACHINES
from hpkit.errors import BadInput, did_you_mean
from hpkit.formatting import shown
from hpkit.hyperparameters import CARDS

_FINETUNE = """\
Fine-tune a language model and see, hear and keep what came of it.

  hpkit finetune                                    the starter on James Aird's Airs, about a minute
  hpkit finetune --learning_rate 1e-2               the same with one thing changed
  hpkit finetune --recipe notes                     the notes' recipe: watch how little it trains
  hpkit finetune --model fresh                      from random weights
  hpkit finetune --model org/name --corpus my.txt   any causal model, your own text
  hpkit finetune --model chat.gguf --corpus my.jsonl   a chat model, questions and answers
  hpkit finetune --corpus my.txt --eval_corpus held.txt   evaluated on a text of its own
  hpkit finetune --corpus my.csv --text_column prompt=question,completion=answer   other names
  hpkit finetune --lora_r 16 --merge                an adapter beside frozen weights, then merged
  hpkit finetune --lora_r 16 --load_in_4bit         the same beside weights of 4 bits (QLoRA)
  hpkit finetune --model org/name --dry-run         how long it would take, and would it fit
  hpkit finetune --resume --out runs/mine           go on after Ctrl-C or a crash
  torchrun --nproc-per-node 2 -m hpkit finetune     on two GPUs, with twice the examples an update

A text's documents are parted by blank lines. A row of a JSON, JSON Lines, CSV or Parquet file, and
of a hub data set, has `text`, or `prompt` and `completion`, or `messages`, which go through the
model's chat template; --text_column says which columns hold them. Where there are answers, the loss
counts their tokens alone. What becomes of every document is said and in run.json.

The run's folder holds run.json, loss.png, model/, and before and after the run 32 sampled tunes in
ABC notation, with sound and piano roll of the first that parses. Exit status: 0 done, 2 bad input,
3 done but diverged (a loss that is no number), 130 stopped by Ctrl-C.
"""


_CHECK = f"""\
Say what would go wrong in a run, before it runs: each finding with its number, and the change that
mends it.

  hpkit check --recipe notes --examples 640           6 updates, and a warmup of 2,000
  hpkit check --recipe starter --corpus airdsAirs     examples and lengths from the text itself
  hpkit check train.py --examples 52000 --device t4   a script, which is read and never run
  hpkit check tune.ipynb --model org/name             a notebook; memory and loss of that model
  hpkit check recipe.yaml launch.sh src/              settings, launch lines, a whole folder
  hpkit check sft.py --with recipe.yaml               a script that reads its values there
  hpkit check . --output-format github --strict       in a workflow, beside the changed lines

A script's TrainingArguments, SFTConfig and their like are found, and their arguments read as far as
the text alone tells them. What it does not tell is named, and rules that need it stay silent. What
a file installs (`pip install transformers==4.56.2`) decides which names are right; settings of
TRL's command, axolotl and LLaMA-Factory go by those tools' own names. `hpkit explain --rules` lists
what is looked for; `# hpkit: ignore[rule]` on a line, alone above it, or alone in a cell leaves a
finding out, and so do --ignore and [tool.hpkit] in pyproject.toml (select, ignore, strict).
Devices: here (this machine, looked at), {", ".join(MACHINES)}.
Exit status: 0 no errors, 1 errors found, 2 bad input, or a file named alone that sets nothing.
"""


_RECORD = """\
Train every run of a grid of settings and keep them in a table, so that a slider shows real curves.

  hpkit record --list                        the grids, their questions, what is recorded and left
  hpkit record --grid seeds --processes 2    one grid, two runs at a time, one thread each
  hpkit record --processes 2                 all grids
  hpkit record --part 1/4                    on each of four machines another part; Slurm arrays and
                                             Kubernetes' indexed jobs say which by themselves (there
                                             give --part /4)
  hpkit record --merge runs/record/runs …    put the parts, copied here, into the table
  hpkit record --grids my.toml               grids of your own, declared like data/grids.toml, or
                                             studies like data/studies.toml: each setting is tuned
                                             by three seeds and judged by five others, and the
                                             verdicts are printed (data/METHOD.md has the rule)

Stop with Ctrl-C or kill it: the same command goes on with the runs that are missing, and none is
trained twice. Each finished run is a file of its own until all are merged into the table. Exit
status: 0 done, 2 bad input, 130 stopped.
"""


_COMPARE = """\
Show two finished runs side by side: what was asked differently, both curves, and how they ended.

  hpkit compare runs/one runs/other                    table here, picture in runs/compare-….png
  hpkit compare runs/one runs/other --out both.png     the picture where you want it

Losses are compared where both runs were evaluated on the same tokens. One seed each proves little:
repeat both with other seeds (--seed) before you believe a small difference.
Exit status: 0 done, 2 bad input.
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the nearest option for a misspelt one."""

    def error(self, message: str):
        raise BadInput(message)

    def parse_known_args(self, args=None, namespace=None):
        namespace, unknown = super().parse_known_args(args, namespace)
        # argparse would list all words that it does not know, and guess at none.
        for word in unknown:
            if word.startswith("--"):
                name = word.partition("=")[0]
                hint = did_you_mean(name, self._option_string_actions)
                raise BadInput(f"unknown option {name}{hint}; `{self.prog} --help` lists all")
        return namespace, unknown


def build_parser(attention: tuple[str, ...]) -> argparse.ArgumentParser:
    """The parser of all six commands; `attention`: what --attn_implementation takes."""
    parser = _Parser(
        prog="hpkit",
        description="Learn every fine-tuning hyperparameter by moving it.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    plain = dict(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    finetune = commands.add_parser(
        "finetune",
        help="train a model and keep what came of it",
        description=_FINETUNE,
        usage="hpkit finetune [options]",
        **plain,
    )
    _add_finetune(finetune, attention)
    compare = commands.add_parser(
        "compare",
        help="two finished runs side by side",
        description=_COMPARE,
        usage="hpkit compare RUN RUN [options]",
        **plain,
    )
    _add_compare(compare)
    check = commands.add_parser(
        "check",
        help="what would go wrong in a run: of scripts, notebooks, recipes, launch lines",
        description=_CHECK,
        usage="hpkit check (PATH… | --recipe RECIPE) [options]",
        **plain,
    )
    _add_check(check)
    record = commands.add_parser(
        "record",
        help="train grids of settings into a table",
        description=_RECORD,
        usage="hpkit record [options]",
        **plain,
    )
    _add_record(record)
    _add_device(commands)
    _add_explain(commands)
    return parser


def _add_finetune(finetune: argparse.ArgumentParser, attention: tuple[str, ...]) -> None:
    _add_what_is_trained(finetune)
    finetune.add_argument(
        "--out",
        metavar="FOLDER",
        help="new or empty folder for the run (default: runs/ and the time)",
    )
    finetune.add_argument(
        "--resume",
        action="store_true",
        help="continue the unfinished run in --out; nothing else need be repeated",
    )
    finetune.add_argument(
        "--merge",
        action="store_true",
        help="with --lora_r: also save the model with the adapter added to its weights, in merged/",
    )
    finetune.add_argument(
        "--json",
        action="store_true",
        help="print run.json, or what --dry-run found, on standard output, all else on standard "
        "error",
    )
    finetune.add_argument(
        "--dry-run",
        action="store_true",
        help="say what the run would do and take (updates, memory, disk, time), and train nothing",
    )
    _add_throughput(finetune, attention)
    _add_hyperparameters(finetune)


def _add_what_is_trained(finetune: argparse.ArgumentParser) -> None:
    finetune.add_argument(
        "--recipe",
        metavar="starter|notes|lora|FILE.toml",
        help="where the hyperparameters start from (default: starter)",
    )
    finetune.add_argument(
        "--model",
        metavar="NAME",
        help="starter (default), fresh, a folder, a .gguf file or a hub id; no pickle is read",
    )
    finetune.add_argument(
        "--corpus",
        metavar="NAME",
        help="airdsAirs (default), oneills1850, ryansMammoth, aksak, or your own: a text, ABC, "
        "JSON, CSV or Parquet file, perhaps packed with gzip, a folder, a hub data set's id",
    )
    _add_text_column(finetune)
    finetune.add_argument(
        "--eval_corpus",
        metavar="NAME",
        help="evaluate on all of this, named as for --corpus, and train on all of --corpus "
        "(default: one document in ten of --corpus is held out)",
    )


def _add_text_column(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--text_column",
        metavar="COLUMN",
        help="where rows name it otherwise: the column of the text, or "
        "prompt=COLUMN,completion=COLUMN, or messages=COLUMN",
    )


def _add_throughput(finetune: argparse.ArgumentParser, attention: tuple[str, ...]) -> None:
    group = finetune.add_argument_group(
        "speed and memory: the loss stays as it is; chosen for the machine unless given"
    )
    group.add_argument("--attn_implementation", choices=attention, help="how attention is computed")
    switches = {
        "use_liger_kernel": "loss and norms as fused GPU kernels, where the liger-kernel package "
        "is installed",
        "torch_compile": "compile the model before its first update: a minute first, faster "
        "updates then",
        "activation_checkpointing": "keep few activations and compute them twice: a larger batch "
        "or model fits, and an update takes longer",
    }
    for name, text in switches.items():
        group.add_argument(
            f"--{name}", type=_switch, nargs="?", const=True, metavar="true|false", help=text
        )
    group.add_argument(
        "--dataloader_num_workers",
        type=_whole,
        metavar="N",
        help="processes that put batches together ahead",
    )


def _add_compare(compare: argparse.ArgumentParser) -> None:
    compare.add_argument("runs", nargs=2, metavar="RUN", help="the folder of a finished run")
    compare.add_argument(
        "--out", metavar="FILE.png", help="a new file (default: runs/compare- and the time)"
    )
    compare.add_argument(
        "--json", action="store_true", help="print the comparison as JSON, in place of the table"
    )


def _add_check(check: argparse.ArgumentParser) -> None:
    check.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="scripts (.py), notebooks (.ipynb), settings (.yaml, .json), launch lines (.sh), "
        "folders of them, or - for standard input; they are read, never run",
    )
    check.add_argument(
        "--with",
        dest="started_with",
        metavar="FILE",
        help="the settings or launch line that the one script is started with",
    )
    check.add_argument(
        "--recipe",
        metavar="starter|notes|lora|FILE.toml",
        help="a recipe, with the hyperparameters below changed",
    )
    check.add_argument(
        "--examples",
        type=_count,
        metavar="N",
        help="how many training examples there are; without it, nothing is counted",
    )
    check.add_argument(
        "--processes",
        type=_count,
        default=1,
        metavar="N",
        help="how many devices share them (default: 1)",
    )
    check.add_argument(
        "--model",
        metavar="NAME",
        help="starter, fresh, a folder, a hub id, or a size such as 7B: memory and loss are "
        "checked",
    )
    check.add_argument(
        "--corpus", metavar="NAME", help="as in finetune: examples and lengths come from its text"
    )
    _add_text_column(check)
    check.add_argument(
        "--device",
        metavar="NAME",
        help=f"here, {', '.join(MACHINES)}: precision and memory are checked",
    )
    check.add_argument(
        "--select", type=_names, metavar="RULE,…", help="only these rules (default: all)"
    )
    check.add_argument("--ignore", type=_names, metavar="RULE,…", help="not these rules")
    check.add_argument("--strict", action="store_true", help="a warning is as bad as an error")
    check.add_argument(
        "--output-format",
        choices=("full", "concise", "json", "github", "sarif"),
        default="full",
        help="for a person (full, concise) or for another program (default: full)",
    )
    check.add_argument("--json", action="store_true", help="the same as --output-format json")
    _add_hyperparameters(check)


def _add_record(record: argparse.ArgumentParser) -> None:
    record.add_argument(
        "--grid",
        metavar="NAME",
        action="append",
        help="only this grid; may be given several times (default: all)",
    )
    record.add_argument("--list", action="store_true", help="show the grids, and train nothing")
    record.add_argument(
        "--processes",
        metavar="N",
        type=_count,
        default=1,
        help="runs at a time; no more than cores (default: 1)",
    )
    record.add_argument(
        "--part",
        metavar="i/n",
        help="only the i-th of n parts, for several machines; not merged by itself",
    )
    record.add_argument(
        "--merge",
        metavar="FOLDER",
        nargs="*",
        help="train nothing; merge parts into the table (default: --parts)",
    )
    record.add_argument(
        "--grids",
        metavar="FILE.toml",
        help="declared grids (default: data/grids.toml and data/studies.toml)",
    )
    record.add_argument(
        "--table",
        metavar="FILE",
        help="default: that of the grids in data/, or runs/NAME.parquet for --grids NAME.toml",
    )
    record.add_argument(
        "--parts",
        metavar="FOLDER",
        help="where finished runs wait (default: runs/record/ and the table's name)",
    )


def _add_device(commands) -> None:
    device = commands.add_parser(
        "device", help="what this machine can do for a recipe, and why", allow_abbrev=False
    )
    device.add_argument(
        "name", nargs="?", default="here", help=f"here (default), {', '.join(MACHINES)}"
    )
    device.add_argument(
        "--recipe",
        default="starter",
        metavar="starter|notes|lora|FILE.toml",
        help="what is asked of it (default: starter)",
    )


def _add_explain(commands) -> None:
    explain = commands.add_parser(
        "explain",
        help="what a hyperparameter does, the notes' value, ours, and why; what a rule looks for",
        allow_abbrev=False,
    )
    explain.add_argument(
        "name",
        nargs="?",
        help="one hyperparameter, or one rule of `hpkit check`; without it, the whole recipe",
    )
    explain.add_argument(
        "--rules", action="store_true", help="the rules of `hpkit check`, a line each"
    )
    explain.add_argument(
        "--markdown",
        action="store_true",
        help="the recipe as a Markdown table; with --rules, the page of the rules",
    )
    explain.add_argument(
        "--cheat-sheet",
        action="store_true",
        help="one page: what to set first, what to change when something is wrong",
    )


def _add_hyperparameters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "hyperparameters, under transformers' and peft's names; each overrides the recipe"
    )
    for card in CARDS.values():
        # A flag such as --bf16 may stand alone; every other hyperparameter wants its value.
        alone = {}
        if isinstance(card.default, bool):
            alone = dict(nargs="?", const="true")
        text = f"{card.what} ours: {shown(card.starter)}".replace("%", "%%")
        group.add_argument(f"--{card.name}", metavar="VALUE", help=text, **alone)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _count(text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of {least} or more, got {text!r}"
        )
    return int(text)


def _whole(text: str) -> int:
    return _count(text, 0)


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"
