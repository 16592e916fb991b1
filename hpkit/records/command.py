"""The command `hpkit record`: grids in, a table of runs and the studies' verdicts out."""

import argparse
import sys
from pathlib import Path

from hpkit.errors import BadInput, did_you_mean
from hpkit.files import data_folder
from hpkit.finetune.stopping import Interrupted
from hpkit.records.grids import PROJECTS_OWN, Grid, load_grids
from hpkit.records.parts import merge, recorded_runs, which_part
from hpkit.records.planning import plan
from hpkit.records.recording import record
from hpkit.records.studies import judging_to_come, verdicts
from hpkit.records.table import load_runs


def run(options: argparse.Namespace) -> None:
    """Records, merges or lists what the options name. Raises BadInput; SystemExit when stopped."""
    if options.merge is not None:
        table = _table_of(options, options.grids or "grids.toml")
        folders = [Path(folder) for folder in options.merge]
        _merge(table, folders or [_parts_of(options, table)])
        return
    files = [options.grids] if options.grids else [data_folder() / own for own in PROJECTS_OWN]
    declared = {file: load_grids(file) for file in files}
    names = [name for grids in declared.values() for name in grids]
    for name in options.grid or ():
        if name not in names:
            raise BadInput(
                f"--grid: no grid {name!r}{did_you_mean(name, names)}; there are {', '.join(names)}"
            )
    for file, grids in declared.items():
        chosen = [grids[name] for name in options.grid or grids if name in grids]
        if chosen:
            _record_of_one_file(options, chosen, _table_of(options, file))


def _record_of_one_file(options: argparse.Namespace, grids: list[Grid], table: Path) -> None:
    parts = _parts_of(options, table)
    if options.list:
        _list_grids(grids, table, parts)
        return
    try:
        record(
            grids,
            table,
            parts,
            processes=options.processes,
            part=which_part(options.part),
            log=lambda line: print(line, flush=True),
        )
    except Interrupted as stop:
        print(
            f"hpkit: {stop}; what was finished is kept, and the same command goes on",
            file=sys.stderr,
        )
        raise SystemExit(128 + stop.signum) from None
    _say_verdicts(grids, table)


def _say_verdicts(grids: list[Grid], table: Path) -> None:
    """What the studies among the grids have found."""
    studies = [grid for grid in grids if grid.scientific]
    # One of several parts writes no table.
    if not studies or not table.exists():
        return
    runs = load_runs(table)
    for grid in studies:
        for found in verdicts(grid, runs):
            print(f"{grid.name}: {found}")


def _table_of(options: argparse.Namespace, file: str | Path) -> Path:
    """The table of the grids in a file: the project's own for its own, another for anybody's."""
    if options.table:
        return Path(options.table)
    if options.grids:
        return Path(f"runs/{Path(file).stem}.parquet")
    return data_folder() / PROJECTS_OWN[Path(file).name]


def _parts_of(options: argparse.Namespace, table: Path) -> Path:
    return Path(options.parts or f"runs/record/{table.stem}")


def _merge(table: Path, folders: list[Path]) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise BadInput(
                f"--merge {folder}: expected a folder of recorded parts, and there is none"
            )
    merge(table, folders)


def _list_grids(grids: list[Grid], table: Path, parts: Path) -> None:
    done, runs = recorded_runs(table, [parts])

    def show(name: str, wanted: list[Grid], asks: str = "") -> None:
        keys = plan(wanted, parts, runs=runs).keys()
        counts = f"{len(keys & done):4} recorded, {len(keys - done):4} left"
        judging = sum(judging_to_come(grid, runs) for grid in wanted)
        if judging:
            counts += f", then {judging} to judge"
        print(f"{name:20} {len(keys):4} runs, {counts}{asks}")

    for grid in grids:
        show(grid.name, [grid], f"  {grid.asks}")
    show("all, each once", grids)
