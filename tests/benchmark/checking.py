"""`hpkit check` on 2,000 files made by mutation from the sixty of tests/check/judging, and on one.

python -m benchmark.checking    in tests/
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpkit.check.files import SUFFIXES

JUDGING = Path(__file__).parents[1] / "check" / "judging"
COUNT = 2_000
SECONDS_FOR_ALL = 30
SECONDS_FOR_ONE = 0.3
SIGNS = "()[]{}'\"\\%!?:=\t#é$"


def mutated(text: str, draw: random.Random) -> str:
    """A text with a line left out or twice, a sign too many, or a value changed."""
    kind = draw.randrange(4)
    lines = text.split("\n")
    line = draw.randrange(len(lines))
    if kind == 0:
        return "\n".join(lines[:line] + lines[line + 1 :])
    if kind == 1:
        return "\n".join(lines[: line + 1] + lines[line:])
    if kind == 2:
        place = draw.randrange(len(text))
        return text[:place] + draw.choice(SIGNS) + text[place:]
    return text.replace("True", "False", 1).replace("0.1", "0.9", 1)


def write_files(folder: Path) -> None:
    """COUNT files of the sixty's kinds."""
    draw = random.Random(0)
    originals = [file for file in sorted(JUDGING.rglob("*")) if file.suffix in SUFFIXES]
    for number in range(COUNT):
        file = draw.choice(originals)
        text = mutated(file.read_text(encoding="utf-8"), draw)
        (folder / f"{number:04}{file.suffix}").write_text(text, encoding="utf-8")


def seconds(*arguments: str) -> float:
    """From the command's start to its end."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "hpkit", "check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise RuntimeError(done.stderr)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        whole = seconds(str(folder), "--output-format", "concise")
    print(f"{COUNT:,} files: {whole:.1f} s (at most {SECONDS_FOR_ALL})")
    one = min(seconds(str(JUDGING / "a" / "sft_lora_dolly.py")) for _ in range(5))
    print(f"one file: {one:.2f} s (at most {SECONDS_FOR_ONE})\n")


if __name__ == "__main__":
    main()
