"""The commands: `finetune` trains, `compare` shows two runs side by side, `record` trains many.

torch and transformers are imported only once a command needs them, so that `--help` answers at
once.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

from hpkit.capability import decide, find_machine
from hpkit.command_line import build_parser
from hpkit.errors import BadInput
from hpkit.files import disk_errors_are_bad_input, write_whole
from hpkit.finetune import processes
from hpkit.finetune.throughput import ATTENTION
from hpkit.formatting import shown_rate
from hpkit.hyperparameters import CARDS, all_explained, explained, recipe_table
from hpkit.lessons.sheets import cheat_sheet
from hpkit.recipe import STARTER, changed_hyperparameters, load_recipe, with_changes

#: Exit status of a run that has finished with a loss or a weight that is no finite number.
DIVERGED = 3


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status.

    A user's mistake is one line on standard error and status 2.
    """
    status = _run(arguments)
    processes.end(status)
    return status


def _run(arguments: list[str] | None) -> int:
    commands = {
        "finetune": _finetune,
        "compare": _compare,
        "check": _check,
        "device": _device,
        "record": _record,
        "explain": _explain,
    }
    for stream in (sys.stdout, sys.stderr):
        # A sample may hold a character that a console cannot show, and no run is to end for it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = build_parser(ATTENTION).parse_args(arguments)
        if processes.count() > 1 and options.command != "finetune":
            raise BadInput(
                f"{options.command}: started {processes.count()} times by torchrun; only finetune "
                "shares its work in that way"
            )
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


# finetune


def _request_and_folder(options: argparse.Namespace) -> tuple:
    """(Request, folder, a remark or "") of a run: what it is told, on a resumed one on top of what
    it was told.
    """
    # Here, for the command's own words need nothing of a training.
    from hpkit.finetune.checkpoints import Request, read_started

    if options.resume and not options.out:
        raise BadInput("--resume: say which run with --out FOLDER")
    out = Path(options.out or time.strftime("runs/%Y-%m-%d-%H%M%S"))
    # Read first: a misspelt value is to be refused whatever the folder holds.
    changes = changed_hyperparameters(options)
    told = Request(STARTER, model="starter", corpus="airdsAirs")
    if options.resume:
        told = read_started(out).request
    recipe = told.recipe
    if options.recipe:
        recipe = load_recipe(options.recipe)
    faster = {}
    for field in dataclasses.fields(told.throughput):
        given = getattr(options, field.name)
        if given is not None:
            faster[field.name] = given
    told_anew = {}
    if options.merge:
        told_anew["merge"] = True
    for name in ("model", "corpus", "eval_corpus", "text_column"):
        if getattr(options, name) is not None:
            told_anew[name] = getattr(options, name)
    changed = with_changes(recipe, changes)
    remark = ""
    if "learning_rate" not in changes and changed.learning_rate != recipe.learning_rate:
        remark = (
            f"learning_rate: {shown_rate(changed.learning_rate)}, the best of a pilot for "
            f"adapters, where a full fine-tune has {shown_rate(recipe.learning_rate)}"
        )
    request = dataclasses.replace(
        told,
        **told_anew,
        recipe=changed,
        throughput=dataclasses.replace(told.throughput, **faster),
    )
    return request, out, remark


def _finetune(options: argparse.Namespace) -> int:
    request, out, remark = processes.from_main(lambda: _request_and_folder(options))

    from hpkit.finetune import Interrupted, finetune

    # With --json, standard output belongs to run.json alone.
    stream = sys.stderr if options.json else sys.stdout
    if remark and processes.is_main():
        print(remark, file=stream)
    if options.dry_run:
        _dry_run(options, request, out, stream)
        return 0
    try:
        run = finetune(
            request.recipe,
            model=request.model,
            corpus=request.corpus,
            out=out,
            resume=options.resume,
            log=lambda line: print(line, file=stream, flush=True),
            throughput=request.throughput,
            eval_corpus=request.eval_corpus,
            text_column=request.text_column,
            merge=request.merge,
        )
    except Interrupted as stop:
        _say_how_to_go_on(stop, out)
        return 128 + stop.signum
    except BadInput as error:
        if options.resume or not _can_be_resumed(out):
            raise
        raise BadInput(f"{error}: {_resume_command(out)}") from None
    status = DIVERGED if run.diverged else 0
    if not processes.is_main():
        if status:
            processes.let_main_end_first()
        return status
    print(
        f"evaluation loss {run.eval_loss_before:.4f} -> {run.eval_loss_after:.4f} in "
        f"{run.updates} updates, {run.train_seconds:.0f} s, "
        f"{run.peak_memory_bytes / 1e9:.1f} GB of memory at most; everything is in {out}",
        file=stream,
    )
    if options.json:
        print(run.to_json())
    return status


def _dry_run(options: argparse.Namespace, request, out: Path, stream) -> None:
    from hpkit.finetune import dry_run

    if options.resume:
        raise BadInput(
            "--dry-run: expected a new run, and --resume goes on with one; leave one of them out"
        )
    forecast = dry_run(
        request.recipe,
        model=request.model,
        corpus=request.corpus,
        out=out,
        log=lambda line: print(line, file=stream, flush=True),
        throughput=request.throughput,
        eval_corpus=request.eval_corpus,
        text_column=request.text_column,
        merge=request.merge,
    )
    print("\ndry run: nothing was trained or written; the run would be", file=stream)
    for line in forecast.lines():
        print(f"  {line}", file=stream)
    if options.json:
        print(forecast.to_json())


def _can_be_resumed(out: Path) -> bool:
    return (out / "started.json").exists() and not (out / "run.json").exists()


def _resume_command(out: Path) -> str:
    return f"{processes.launcher()} finetune --resume --out {out}"


def _say_how_to_go_on(stop: KeyboardInterrupt, out: Path) -> None:
    if not processes.is_main():
        processes.let_main_end_first()
    elif _can_be_resumed(out):
        print(f"hpkit: {stop}; continue with: {_resume_command(out)}", file=sys.stderr)
    else:
        print(
            f"hpkit: {stop} before anything was written; start again with the same command",
            file=sys.stderr,
        )


# compare


def _compare(options: argparse.Namespace) -> None:
    from hpkit.finetune.pair import load_pair

    out = Path(options.out or time.strftime("runs/compare-%Y-%m-%d-%H%M%S.png"))
    if out.suffix.lower() != ".png" or out.exists():
        raise BadInput(f"--out: expected a new file whose name ends in .png, got {out}")
    pair = load_pair(*options.runs)

    from hpkit.figures.runs import runs_picture
    from hpkit.records.comparison import seeds_spread

    note = ""
    if pair.obstacle:
        note = ", not to be compared"
    picture = runs_picture(pair.histories, note)
    with disk_errors_are_bad_input(out, "compare again"):
        write_whole(out, picture.png)
    if options.json:
        print(json.dumps(pair.as_dict() | {"picture": str(out), "alt": picture.alt}, indent=1))
        return
    for line in pair.lines():
        print(line)
    if pair.comparable:
        print("One seed each proves little: chance alone sets runs apart.")
        try:
            print(f"For scale: {seeds_spread()}.")
        except BadInput:  # nothing was recorded here
            print("How far, nobody knows before both are repeated with other seeds (--seed).")
    print(f"{picture.alt}\nThe picture is in {out}")


# check


def _check(options: argparse.Namespace) -> int:
    from hpkit.check.command import run

    return run(options)


# device


def _device(options: argparse.Namespace) -> None:
    machine = find_machine(options.name)
    bf16 = "in hardware" if machine.native_bf16 else "emulated"
    states = "kept by bitsandbytes" if machine.eight_bit else "not to be had"
    print(f"{machine.name}, {machine.threads} threads")
    print(f"bf16: {bf16}")
    print(f"8-bit states: {states}")
    if machine.memory_free:
        print(f"memory free: {machine.memory_free / 1e9:,.1f} GB")
    print(f"\nrecipe {options.recipe}: what is asked for -> what is used: why")
    for choice in decide(load_recipe(options.recipe), machine).choices:
        print(f"  {choice}")


# record


def _record(options: argparse.Namespace) -> None:
    from hpkit.records.command import run

    run(options)


# explain


def _explain(options: argparse.Namespace) -> None:
    from hpkit.check.command import width

    if options.rules or (options.name and "-" in options.name and not _is_card(options.name)):
        _explain_rules(options, width())
    elif options.markdown:
        print(recipe_table())
    elif options.cheat_sheet:
        print(cheat_sheet().rstrip())
    elif options.name:
        print(explained(options.name.replace("-", "_"), width()))
    else:
        print(all_explained(width()))
        print("\n`hpkit explain learning_rate` tells the rest about one of them.")


def _is_card(name: str) -> bool:
    """Whether a hyperparameter is meant, perhaps with hyphens."""
    return name.replace("-", "_") in CARDS


def _explain_rules(options: argparse.Namespace, columns: int) -> None:
    from hpkit.check.explain import all_rules, explained_rule, rules_page

    if options.name:
        print(explained_rule(options.name, columns))
    elif options.markdown:
        print(rules_page().rstrip())
    else:
        print(all_rules(columns))


if __name__ == "__main__":
    sys.exit(main())
