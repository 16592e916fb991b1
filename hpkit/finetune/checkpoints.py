"""A run's folder: what may be resumed, which checkpoint is whole, what a full disk means."""

import errno
import json
import re
import zipfile
from contextlib import contextmanager
from pathlib import Path

from hpkit.errors import BadInput


def read_started(out: Path) -> dict:
    """What the unfinished run in `out` was asked to do: recipe, model, corpus. Raises BadInput where there is none."""
    try:
        started = json.loads((out / "started.json").read_text(encoding="utf-8"))
        return {
            name: started[name] for name in ("recipe", "model", "corpus", "corpus_fingerprint")
        } | started
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"--resume: nothing to resume in {out}: it holds no started.json of an unfinished run"
        ) from None


@contextmanager
def disk_errors_are_bad_input(out: Path, again: str):
    """A folder that cannot be written becomes one line; torch and safetensors report a full disk in their own words."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if full or re.search(
            r"os error (28|122|27)\b|No space left|PytorchStreamWriter", str(error)
        ):
            raise BadInput(
                f"no space left on the device while writing to {out}: what was whole before is still there; free some space, then {again}"
            ) from error
        if (
            isinstance(error, (PermissionError, NotADirectoryError, FileExistsError))
            or getattr(error, "errno", None) == errno.EROFS
        ):
            raise BadInput(
                f"{out} cannot be written ({error.strerror}): choose another folder"
            ) from error
        raise


# Checkpoints.


def last_whole_checkpoint(out: Path, say, process_count: int = 1) -> Path | None:
    """The newest checkpoint that is whole; each newer one that was cut short is named and passed over."""
    numbered = {
        int(match[1]): folder
        for folder in out.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", folder.name))
    }
    for number in sorted(numbered, reverse=True):
        fault = checkpoint_fault(numbered[number], process_count)
        if fault is None:
            return numbered[number]
        say(f"checkpoint-{number} was cut short ({fault}): passed over")
    return None


def checkpoint_fault(folder: Path, process_count: int = 1) -> str | None:
    """What is missing or cut short in a checkpoint, or None. The Trainer writes `trainer_state.json` last.

    Each of several processes writes its own random state, and may do so later than the main one writes all else.

    safetensors knows its own length, and torch's files are zip archives, whose directory stands at the end.
    """
    from safetensors import SafetensorError, safe_open

    weights = list(folder.glob("*.safetensors"))
    random_states = (
        [f"rng_state_{rank}.pth" for rank in range(process_count)]
        if process_count > 1
        else ["rng_state.pth"]
    )
    states = [folder / name for name in ("optimizer.pt", "scheduler.pt", *random_states)]
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "trainer_state.json"
    if not weights:
        return "model.safetensors"
    for file in weights:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError):
            return file.name
    return next((file.name for file in states if not zipfile.is_zipfile(file)), None)


def update_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])
