"""The command line: `finetune` trains, `record` trains many, `check` finds what is wrong beforehand.

torch and transformers are imported only once a command needs them, so that `--help` answers at once.
"""

import argparse
import dataclasses
import shutil
import sys
import textwrap
import time
from pathlib import Path

from hpkit.capability import MACHINES, decide, find_machine
from hpkit.errors import BadInput, did_you_mean
from hpkit.finetune import processes
from hpkit.finetune.throughput import ATTENTION, Throughput
from hpkit.formatting import shown
from hpkit.hyperparameters import CARDS, recipe_table
from hpkit.lessons.sheets import cheat_sheet
from hpkit.recipe import NOTES, STARTER, Recipe, load_recipe, parse_value

_FINETUNE = """\
Fine-tune a language model and see, hear and keep what came of it.

  hpkit finetune                                    the starter on James Aird's Airs, about a minute
  hpkit finetune --learning_rate 1e-2               the same with one thing changed
  hpkit finetune --recipe notes                     the notes' recipe: watch how little it trains
  hpkit finetune --model fresh                      from random weights
  hpkit finetune --model org/name --corpus my.txt   any causal model, your own text
  hpkit finetune --model chat.gguf --corpus my.jsonl   a chat model, questions and answers
  hpkit finetune --resume --out runs/mine           go on after Ctrl-C or a crash
  torchrun --nproc-per-node 2 -m hpkit finetune     the same on two GPUs; an update then sees twice as many examples

A line of a JSONL file, and a row of a hub data set, has `text`, or `prompt` and `completion`, or `messages`, which go
through the model's chat template. Where there are answers, the loss counts their tokens alone.

The run's folder holds run.json, loss.png, model/, and before and after the run 32 sampled tunes in ABC notation,
with sound and piano roll of the first that parses. Exit status: 0 done, 2 bad input, 130 stopped by Ctrl-C.
"""


_CHECK = f"""\
Say what would go wrong in a run, before it runs: each finding with its number, and the change that mends it.

  hpkit check --recipe notes --examples 640           6 updates, and a warmup of 2,000
  hpkit check --recipe starter --corpus airdsAirs     examples and lengths from the text itself
  hpkit check train.py --examples 52000 --device t4   a script, which is read and never run
  hpkit check tune.ipynb --model org/name --json      a notebook; memory and loss of that model

A script's TrainingArguments, SFTConfig and their like are found, and their arguments read as far as the text alone
tells them. What it does not tell is named, and rules that need it stay silent.
Devices: here (this machine, looked at), {", ".join(MACHINES)}.
Exit status: 0 no errors, 1 errors found, 2 bad input.
"""


_RECORD = """\
Train every run of a grid of settings and keep them in a table, so that a slider shows real curves.

  hpkit record --list                        the grids, their questions, what is recorded and what is left
  hpkit record --grid seeds --processes 2    one grid, two runs at a time, one thread each
  hpkit record --processes 2                 all grids
  hpkit record --part 1/4                    on each of four machines another part; Slurm arrays and Kubernetes' indexed
                                             jobs say which by themselves (there give --part /4)
  hpkit record --merge runs/record/runs …    put the parts, copied here, into the table
  hpkit record --grids my.toml               grids of your own, declared like data/grids.toml

Stop with Ctrl-C or kill it: the same command goes on with the runs that are missing, and none is trained twice. Each
finished run is a file of its own until all are merged into the table. Exit status: 0 done, 2 bad input, 130 stopped.
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the nearest option for a misspelt one."""

    def error(self, message: str):
        raise BadInput(message)

    def parse_known_args(self, args=None, namespace=None):
        namespace, unknown = super().parse_known_args(args, namespace)
        option = next((word for word in unknown if word.startswith("--")), None)
        if option:
            known = [name for action in self._actions for name in action.option_strings]
            name = option.split("=")[0]
            raise BadInput(
                f"unknown option {name}{did_you_mean(name, known)}; `{self.prog} --help` lists all"
            )
        return namespace, unknown


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hpkit",
        description="Learn every fine-tuning hyperparameter by moving it.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def add(
        name: str, help: str, description: str, usage: str = "[options]"
    ) -> argparse.ArgumentParser:
        settings = dict(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        return commands.add_parser(
            name, help=help, usage=f"hpkit {name} {usage}", description=description, **settings
        )

    _add_finetune(add("finetune", "train a model and keep what came of it", _FINETUNE))
    _add_check(
        add(
            "check",
            "what would go wrong in a run: of a recipe, a script or a notebook",
            _CHECK,
            "(FILE | --recipe RECIPE) [options]",
        )
    )
    _add_record(add("record", "train grids of settings into a table", _RECORD))

    device = commands.add_parser(
        "device", help="what this machine can do for a recipe, and why", allow_abbrev=False
    )
    device.add_argument(
        "name", nargs="?", default="here", help=f"here (default), {', '.join(MACHINES)}"
    )
    device.add_argument(
        "--recipe",
        default="starter",
        metavar="starter|notes|FILE.toml",
        help="what is asked of it (default: starter)",
    )

    explain = commands.add_parser(
        "explain",
        help="what a hyperparameter does, the notes' value, ours, and why",
        allow_abbrev=False,
    )
    explain.add_argument("name", nargs="?", help="one hyperparameter; without it, the whole recipe")
    explain.add_argument("--markdown", action="store_true", help="the recipe as the README's table")
    explain.add_argument(
        "--cheat-sheet",
        action="store_true",
        help="one page: what to set first, what to change when something is wrong",
    )
    return parser


def _add_finetune(finetune: argparse.ArgumentParser) -> None:
    finetune.add_argument(
        "--recipe",
        metavar="starter|notes|FILE.toml",
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
        help="airdsAirs (default), oneills1850, ryansMammoth, aksak, or your own: a text, ABC or JSONL file, a folder, a hub data set's id",
    )
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
        "--json",
        action="store_true",
        help="print run.json on standard output, everything else on standard error",
    )
    group = finetune.add_argument_group(
        "speed and memory: the loss stays as it is; chosen for the machine unless given"
    )
    group.add_argument("--attn_implementation", choices=ATTENTION, help="how attention is computed")
    for name, text in {
        "use_liger_kernel": "loss and norms as fused GPU kernels, where the liger-kernel package is installed",
        "torch_compile": "compile the model before its first update: a minute first, faster updates then",
        "activation_checkpointing": "keep few activations and compute them twice: a larger batch or model fits, and an update takes longer",
    }.items():
        group.add_argument(
            f"--{name}", type=_switch, nargs="?", const=True, metavar="true|false", help=text
        )
    group.add_argument(
        "--dataloader_num_workers",
        type=_whole,
        metavar="N",
        help="processes that put batches together ahead",
    )
    _add_hyperparameters(finetune)


def _add_check(check: argparse.ArgumentParser) -> None:
    check.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="a Python script (.py) or a notebook (.ipynb); it is read, never run",
    )
    check.add_argument(
        "--recipe",
        metavar="starter|notes|FILE.toml",
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
        help="starter, fresh, a folder, a hub id, or a size such as 7B: memory and loss are checked",
    )
    check.add_argument(
        "--corpus", metavar="NAME", help="as in finetune: examples and lengths come from its text"
    )
    check.add_argument(
        "--device",
        metavar="NAME",
        help=f"here, {', '.join(MACHINES)}: precision and memory are checked",
    )
    check.add_argument("--json", action="store_true", help="print calls and findings as JSON")
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
        "--grids", metavar="FILE.toml", help="declared grids (default: data/grids.toml)"
    )
    record.add_argument(
        "--table",
        metavar="FILE",
        help="default: data/runs.parquet, or runs/NAME.parquet for --grids NAME.toml",
    )
    record.add_argument(
        "--parts",
        metavar="FOLDER",
        help="where finished runs wait (default: runs/record/ and the table's name)",
    )


def _add_hyperparameters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "hyperparameters, under transformers' names; each overrides the recipe"
    )
    for card in CARDS.values():
        # A flag such as --bf16 may stand alone; every other hyperparameter wants its value.
        alone = dict(nargs="?", const="true") if isinstance(card.default, bool) else {}
        text = f"{card.what} ours: {shown(card.starter)}".replace("%", "%%")
        group.add_argument(f"--{card.name}", metavar="VALUE", help=text, **alone)


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


def _changes(options: argparse.Namespace) -> dict:
    """The hyperparameters given as flags."""
    return {
        name: parse_value(name, text)
        for name in CARDS
        if (text := getattr(options, name)) is not None
    }


def _settle(options: argparse.Namespace) -> tuple[Path, dict, Recipe]:
    """A run's folder, what it was asked to do if it is to be resumed, and its recipe."""
    if options.resume and not options.out:
        raise BadInput("--resume: say which run with --out FOLDER")
    out = Path(options.out or time.strftime("runs/%Y-%m-%d-%H%M%S"))
    changes = _changes(options)
    started = {}
    if options.resume:
        from hpkit.finetune.checkpoints import read_started

        started = read_started(out)
    base = (
        Recipe().replace(**started["recipe"])
        if started and not options.recipe
        else load_recipe(options.recipe or "starter")
    )
    return out, started, base.replace(**changes)


def _finetune(options: argparse.Namespace) -> None:
    out, started, recipe = processes.from_main(lambda: _settle(options))

    from hpkit.finetune import Interrupted, finetune

    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(Throughput)}
    asked = started.get("throughput", {}) | {
        name: value for name, value in given.items() if value is not None
    }
    stream = sys.stderr if options.json else sys.stdout
    try:
        run = finetune(
            recipe,
            model=options.model or started.get("model", "starter"),
            corpus=options.corpus or started.get("corpus", "airdsAirs"),
            out=out,
            resume=options.resume,
            log=lambda line: print(line, file=stream, flush=True),
            throughput=Throughput(**asked),
        )
    except Interrupted as stop:
        if not processes.is_main():
            processes.let_main_end_first()
        elif (out / "started.json").exists():
            print(
                f"hpkit: {stop}; continue with: {processes.launcher()} finetune --resume --out {out}",
                file=sys.stderr,
            )
        else:
            print(
                f"hpkit: {stop} before anything was written; start again with the same command",
                file=sys.stderr,
            )
        raise SystemExit(128 + stop.signum) from None
    if not processes.is_main():
        return
    print(
        f"evaluation loss {run.eval_loss_before:.4f} -> {run.eval_loss_after:.4f} in {run.updates} updates, {run.train_seconds:.0f} s, "
        f"{run.peak_memory_bytes / 1e9:.1f} GB of memory at most; everything is in {out}",
        file=stream,
    )
    if options.json:
        print(run.to_json())


def _check(options: argparse.Namespace) -> int:
    """Prints the findings; 1 where one of them is an error."""
    from hpkit.check.report import as_json, as_text, check_file, check_recipe, measure

    if bool(options.file) == bool(options.recipe):
        raise BadInput(
            "check: give a script or notebook, or --recipe, and not both; `hpkit check --help` shows examples"
        )
    changes = _changes(options)
    if options.file and changes:
        raise BadInput(
            f"--{next(iter(changes))} belongs to --recipe: a file is checked as it is written"
        )
    base = load_recipe(options.recipe) if options.recipe else None
    recipe = base and base.replace(**changes)
    machine = find_machine(options.device) if options.device else None
    lengths, counted = (
        measure(options.corpus, options.model or "starter", recipe)
        if options.corpus
        else (None, None)
    )
    examples = options.examples or counted
    known = dict(model=options.model, device=machine, processes=options.processes, lengths=lengths)
    if options.file:
        report = check_file(options.file, examples, **known)
    else:
        report = check_recipe(
            options.recipe, recipe, examples, base=base if changes else None, **known
        )
    if options.json:
        for note in report.notes:
            print(note, file=sys.stderr)
        print(as_json(report))
    else:
        print(as_text(report, min(shutil.get_terminal_size().columns, 110)))
    return int(any(finding["severity"] == "error" for finding in report.findings))


def _device(options: argparse.Namespace) -> None:
    machine = find_machine(options.name)
    print(f"{machine.name}, {machine.threads} threads")
    print(f"bf16: {'in hardware' if machine.native_bf16 else 'emulated'}")
    print(f"8-bit states: {'kept by bitsandbytes' if machine.eight_bit else 'not to be had'}")
    if machine.memory_free:
        print(f"memory free: {machine.memory_free / 1e9:,.1f} GB")
    print(f"\nrecipe {options.recipe}: what is asked for -> what is used: why")
    for choice in decide(load_recipe(options.recipe), machine).choices:
        print(f"  {choice}")


def _record(options: argparse.Namespace) -> None:
    from hpkit.files import data_folder
    from hpkit.finetune.stopping import Interrupted
    from hpkit.records.grids import load_grids
    from hpkit.records.parts import merge, recorded_keys
    from hpkit.records.recording import plan, record, which_part

    table = Path(
        options.table
        or (
            f"runs/{Path(options.grids).stem}.parquet"
            if options.grids
            else data_folder() / "runs.parquet"
        )
    )
    parts = Path(options.parts or f"runs/record/{table.stem}")
    if options.merge is not None:
        folders = [Path(folder) for folder in options.merge] or [parts]
        for folder in folders:
            if not folder.is_dir():
                raise BadInput(
                    f"--merge {folder}: expected a folder of recorded parts, and there is none"
                )
        merge(table, folders)
        return
    grids = load_grids(options.grids)
    for name in options.grid or ():
        if name not in grids:
            raise BadInput(
                f"--grid: no grid {name!r}{did_you_mean(name, grids)}; there are {', '.join(grids)}"
            )
    chosen = [grids[name] for name in options.grid or grids]
    if options.list:
        done = recorded_keys(table, [parts])
        for name, keys in [(grid.name, plan([grid], parts).keys()) for grid in chosen] + [
            ("all, each once", plan(chosen, parts).keys())
        ]:
            asks = f"  {grids[name].asks}" if name in grids else ""
            print(
                f"{name:20} {len(keys):4} runs, {len(keys & done):4} recorded, {len(keys - done):4} left{asks}"
            )
        return
    try:
        record(
            chosen,
            table,
            parts,
            options.processes,
            which_part(options.part),
            log=lambda line: print(line, flush=True),
        )
    except Interrupted as stop:
        print(
            f"hpkit: {stop}; what was finished is kept, and the same command goes on",
            file=sys.stderr,
        )
        raise SystemExit(128 + stop.signum) from None


def _explain(options: argparse.Namespace) -> None:
    if options.markdown or options.cheat_sheet:
        print(recipe_table() if options.markdown else cheat_sheet().rstrip())
        return
    if options.name and options.name not in CARDS:
        raise BadInput(
            f"unknown hyperparameter {options.name!r}{did_you_mean(options.name, CARDS)}; `hpkit explain` lists all"
        )
    width = min(shutil.get_terminal_size().columns, 110)
    if options.name:
        card = CARDS[options.name]
        rows = {
            "what": card.what,
            "unit": card.unit,
            "accepts": card.expected,
            "default": shown(card.default),
            "notes": shown(card.notes),
            "ours": shown(card.starter),
            "why": card.why or "the notes' value does no harm",
            "verdict": card.verdict,
            **({"practice": card.practice} if card.practice else {}),
            "source": card.source,
            "notebook": card.notebook,
        }
        for name, text in rows.items():
            print(
                textwrap.fill(text, width, initial_indent=f"{name:9} ", subsequent_indent=" " * 10)
            )
        return
    print("hyperparameter: the notes' value -> ours, with the reason where they differ\n")
    for name, card in CARDS.items():
        notes, ours = shown(getattr(NOTES, name)), shown(getattr(STARTER, name))
        text = f"{name}: {notes}" if notes == ours else f"{name}: {notes} -> {ours}: {card.why}"
        print(textwrap.fill(text, width, subsequent_indent="    "))
    print("\n`hpkit explain learning_rate` tells the rest about one of them.")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status. A user's mistake is one line on standard error and status 2."""
    try:
        options = _build_parser().parse_args(arguments)
        if processes.count() > 1 and options.command != "finetune":
            raise BadInput(
                f"{options.command}: started {processes.count()} times by torchrun; only finetune shares its work in that way"
            )
        commands = {
            "finetune": _finetune,
            "check": _check,
            "device": _device,
            "record": _record,
            "explain": _explain,
        }
        return commands[options.command](options) or 0
    except BadInput as error:
        if processes.is_main():
            print(f"hpkit: {error}", file=sys.stderr)
        processes.let_main_end_first()
        return 2
    except KeyboardInterrupt:
        if processes.is_main():
            print("hpkit: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, `head` for one, has closed it
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
