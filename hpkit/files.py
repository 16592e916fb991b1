"""Where the kit's own files are, and writing that never leaves half a file under a final name."""

import os
from pathlib import Path


def data_folder() -> Path:
    """The project's `data/`: inside the package when installed from a wheel, beside it in a checkout."""
    packaged = Path(__file__).parent / "data"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "data"


def cache_folder() -> Path:
    """Where results are kept that can be made again: `HPKIT_CACHE`, else `~/.cache/hpkit`. It may not exist yet."""
    home = os.environ.get("HPKIT_CACHE") or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/hpkit"
    return Path(home).expanduser()


def write_whole(path: Path, content: str | bytes, optional: bool = False) -> None:
    """Write a file under its final name only when it is whole. `optional`: an unwritable place is no error."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        if not optional:
            raise
