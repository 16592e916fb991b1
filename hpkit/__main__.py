"""The command line: `hpkit finetune` trains, `hpkit explain` tells what a hyperparameter does.

torch and transformers are imported only once a command needs them, so that `--help` answers at once.
"""

import argparse
import shutil
import sys
import textwrap
import time
from pathlib import Path

from hpkit.errors import BadInput, did_you_mean
from hpkit.hyperparameters import CARDS, recipe_table, shown
from hpkit.recipe import NOTES, STARTER, Recipe, load_recipe, parse_value

_FINETUNE = """\
Fine-tune a language model and see, hear and keep what came of it.

  hpkit finetune                                    the starter on James Aird's Airs, about a minute
  hpkit finetune --learning_rate 1e-2               the same with one thing changed
  hpkit finetune --recipe notes                     the notes' recipe: watch how little it trains
  hpkit finetune --model fresh                      from random weights
  hpkit finetune --model org/name --corpus my.txt   any causal model, your own text
  hpkit finetune --resume --out runs/mine           go on after Ctrl-C or a crash

The run's folder holds run.json, loss.png, model/, and before and after the run 32 sampled tunes in ABC notation,
with sound and piano roll of the first that parses. Exit status: 0 done, 2 bad input, 130 stopped by Ctrl-C.
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
            raise BadInput(f"unknown option {name}{did_you_mean(name, known)}; `{self.prog} --help` lists all")
        return namespace, unknown


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hpkit", description="Learn every fine-tuning hyperparameter by moving it.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    formatter = argparse.RawDescriptionHelpFormatter
    finetune = commands.add_parser(
        "finetune",
        help="train a model and keep what came of it",
        usage="hpkit finetune [options]",
        description=_FINETUNE,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    finetune.add_argument("--recipe", metavar="starter|notes|FILE.toml", help="where the hyperparameters start from (default: starter)")
    finetune.add_argument("--model", metavar="NAME", help="starter (default), fresh, a folder, or a hub id; safetensors only")
    finetune.add_argument(
        "--corpus", metavar="NAME", help="airdsAirs (default), oneills1850, ryansMammoth, aksak, a file, a folder, or a hub data set's id"
    )
    finetune.add_argument("--out", metavar="FOLDER", help="new or empty folder for the run (default: runs/ and the time)")
    finetune.add_argument("--resume", action="store_true", help="continue the unfinished run in --out; nothing else need be repeated")
    finetune.add_argument("--json", action="store_true", help="print run.json on standard output, everything else on standard error")
    group = finetune.add_argument_group("hyperparameters, under transformers' names; each overrides the recipe")
    for card in CARDS.values():
        # A flag such as --bf16 may stand alone; every other hyperparameter wants its value.
        alone = dict(nargs="?", const="true") if isinstance(card.default, bool) else {}
        text = f"{card.what} ours: {shown(card.starter)}".replace("%", "%%")
        group.add_argument(f"--{card.name}", metavar="VALUE", help=text, **alone)

    explain = commands.add_parser("explain", help="what a hyperparameter does, the notes' value, ours, and why", allow_abbrev=False)
    explain.add_argument("name", nargs="?", help="one hyperparameter; without it, the whole recipe")
    explain.add_argument("--markdown", action="store_true", help="the recipe as the README's table")
    return parser


def _finetune(options: argparse.Namespace) -> None:
    if options.resume and not options.out:
        raise BadInput("--resume: say which run with --out FOLDER")
    out = Path(options.out or time.strftime("runs/%Y-%m-%d-%H%M%S"))
    changes = {name: parse_value(name, text) for name in CARDS if (text := getattr(options, name)) is not None}
    started = {}
    if options.resume:
        from hpkit.finetune import read_started

        started = read_started(out)
    base = Recipe().replace(**started["recipe"]) if started and not options.recipe else load_recipe(options.recipe or "starter")
    recipe = base.replace(**changes)

    from hpkit.finetune import Interrupted, finetune

    stream = sys.stderr if options.json else sys.stdout
    try:
        run = finetune(
            recipe,
            model=options.model or started.get("model", "starter"),
            corpus=options.corpus or started.get("corpus", "airdsAirs"),
            out=out,
            resume=options.resume,
            log=lambda line: print(line, file=stream, flush=True),
        )
    except Interrupted as stop:
        if (out / "started.json").exists():
            print(f"hpkit: {stop}; continue with: hpkit finetune --resume --out {out}", file=sys.stderr)
        else:
            print(f"hpkit: {stop} before anything was written; start again with the same command", file=sys.stderr)
        raise SystemExit(128 + stop.signum) from None
    print(
        f"evaluation loss {run.eval_loss_before:.4f} -> {run.eval_loss_after:.4f} in {run.updates} updates, {run.train_seconds:.0f} s; "
        f"everything is in {out}",
        file=stream,
    )
    if options.json:
        print(run.to_json())


def _explain(options: argparse.Namespace) -> None:
    if options.markdown:
        print(recipe_table())
        return
    if options.name and options.name not in CARDS:
        raise BadInput(f"unknown hyperparameter {options.name!r}{did_you_mean(options.name, CARDS)}; `hpkit explain` lists all")
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
            "source": card.source,
            "notebook": card.notebook,
        }
        for name, text in rows.items():
            print(textwrap.fill(text, width, initial_indent=f"{name:9} ", subsequent_indent=" " * 10))
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
        {"finetune": _finetune, "explain": _explain}[options.command](options)
    except BadInput as error:
        print(f"hpkit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hpkit: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, `head` for one, has closed it
        sys.stderr.close()
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
