"""Finished runs, each a small file of its own, and their merging into the table.

A finished run is `<key>-<hash of its bytes>.parquet`, which gets its name by a rename when it is
whole. Merging puts such files into the table and can be repeated at will. The key is made of
recipe, model, corpus and what was measured with, so a run that is there is never trained again,
and killing anything at any moment costs the runs in hand.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hpkit.errors import BadInput
from hpkit.files import disk_errors_are_bad_input, write_whole
from hpkit.finetune.run import Run
from hpkit.records.table import (
    UNREADABLE,
    Rows,
    Runs,
    from_parquet,
    from_table,
    joined,
    read_table,
    to_parquet,
    to_table,
)


def short_hash(content: bytes) -> str:
    """Sixteen hex digits of SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def save_part(folder: Path, key: str, run: Run) -> None:
    """Leave a finished run in the folder, in the place of any spoilt file of the same key."""
    content = to_parquet(to_table([(key, run)]))
    file = folder / f"{key}-{short_hash(content)}.parquet"
    write_whole(file, content)
    for other in list(folder.glob(f"{key}-*.parquet")):
        # A whole one would have kept this run from being trained.
        if other != file:
            other.unlink(missing_ok=True)


def read_parts(folders: Iterable[Path], say) -> Iterator[tuple[str, object, Run]]:
    """(key, pyarrow table of one row, its run) of each whole part; another is named and passed
    over."""
    files = []
    for folder in folders:
        files += folder.glob("*.parquet")
    for file in sorted(files):
        key, _, written = file.stem.partition("-")
        try:
            content = file.read_bytes()
            if short_hash(content) != written:
                raise ValueError("its content is not what its name says")
            row = from_parquet(content)
            (run,) = from_table(row)  # its hash may be right, and it still no run
            yield key, row, run
        except UNREADABLE as error:
            say(f"{file} is not a whole recorded run: passed over ({str(error).splitlines()[0]})")


class Recorded(NamedTuple):
    """What is recorded: the keys, and the runs."""

    keys: frozenset[str]
    runs: Runs


def recorded_runs(table: Path, folders: Iterable[Path], log=print) -> Recorded:
    """All runs in the table and in folders of parts. `log` as in `merge`."""
    rows = _rows_of(table)
    _add_parts(rows, folders, log or (lambda line: None))
    return Recorded(frozenset(rows), Runs(Rows(rows.values())))


def _rows_of(table: Path) -> dict[str, object]:
    """key -> pyarrow table of one row, of a table of runs; nothing where there is none yet."""
    if not table.exists():
        return {}
    (recorded,) = read_table(table).tables
    keys = recorded["key"].to_pylist()
    return {key: recorded.slice(number, 1) for number, key in enumerate(keys)}


def _add_parts(rows: dict[str, object], folders: Iterable[Path], say) -> None:
    """Add the rows of the parts whose keys are not there."""
    for key, row, _ in read_parts(folders, say):
        rows.setdefault(key, row)


def merge(table: Path, folders: Iterable[Path], log=print) -> int:
    """Add what the folders of parts hold to the table, and return how many runs it then has.

    A run is added once, and the rows are in the order of keys. Parts stay where they are: merging
    again changes nothing, and a table that is lost can be made anew. `log` takes each line of what
    happens; None: nobody does. Raises BadInput for a table that is not whole, and a full disk.
    """
    say = log or (lambda line: None)
    rows = _rows_of(table)
    before = len(rows)
    _add_parts(rows, folders, say)
    if len(rows) > before:
        merged = joined([rows[key] for key in sorted(rows)])
        with disk_errors_are_bad_input(table, "merge again: hpkit record --merge"):
            write_whole(table, to_parquet(merged))
    say(f"{table}: {len(rows)} runs, {len(rows) - before} of them new")
    return len(rows)


def which_part(text: str | None) -> tuple[int, int]:
    """(i, n) from `i/n` or `/n`; what is not said comes from the cluster that started this process.

    (1, 1) where nobody says anything. Raises BadInput.
    """
    index, count = _part_of_cluster()
    if text is None and not index:
        return 1, 1
    match = re.fullmatch(r"(\d*)/(\d+)", text or f"/{count}")
    if not match:
        raise BadInput(f"--part: expected i/n, such as 1/4, got {text!r}")
    index = int(match[1] or index)
    count = int(match[2])
    if not 1 <= index <= count:
        hint = ""
        if not index:
            hint = "; without i it must come from SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX"
        raise BadInput(
            f"--part: expected i/n with i from 1 to n, got {index}/{count}{hint}; "
            "say --part /n for the number of parts"
        )
    return index, count


def _part_of_cluster() -> tuple[int, int]:
    """(i, n) by Slurm's job array or Kubernetes' indexed job; 0 for what they do not tell."""
    if os.environ.get("SLURM_ARRAY_TASK_ID"):
        # An array may be numbered as its owner likes, such as 5, 7, 9.
        task = int(os.environ["SLURM_ARRAY_TASK_ID"])
        first = int(os.environ.get("SLURM_ARRAY_TASK_MIN") or 0)
        step = int(os.environ.get("SLURM_ARRAY_TASK_STEP") or 1)
        count = int(os.environ.get("SLURM_ARRAY_TASK_COUNT") or 0)
        return (task - first) // step + 1, count
    if os.environ.get("JOB_COMPLETION_INDEX"):
        # Kubernetes counts from 0, and tells a pod nothing of how many there are.
        return int(os.environ["JOB_COMPLETION_INDEX"]) + 1, 0
    return 0, 0
