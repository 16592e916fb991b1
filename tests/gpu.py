"""What only a GPU can settle, in nine minutes at most: `make gpu`, or this file alone.

  python tests/gpu.py --parcel .whl     where packages can be fetched: the wheels that follow
  python tests/gpu.py --wheels .whl     on a rented machine that has torch and transformers, and no
                                        network: no virtual environment is needed there
  python tests/gpu.py --dry-run         the same with tiny sizes, on any CPU; stores nothing

The parts, each in a process of its own: how fast each number format multiplies, which activations
overflow in fp16, what two equal runs repeat to the last bit, adapters beside all weights, and the
table of bench_training.py for one model. After each part the figures so far are stored, in
data/benchmarks/gpu/<device>.json or where --out says. A part that fails, or takes longer than its
time, is left out and named.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
#: The seconds that each part may take; together 9 minutes.
PARTS = {
    "multiplications": 30,
    "overflows": 30,
    "repetitions": 40,
    "adapters": 140,
    "training": 300,
}
#: What hpkit needs of a machine that has torch and transformers, as wheels.
CARRIED = ("bitsandbytes", "peft", "lazy-loader")
MODEL = "smollm2-135m"


def fetch_wheels(folder: Path) -> int:
    """Download the wheels of CARRIED in the versions that are installed here."""
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in CARRIED]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*command, *wanted])
    if done.returncode == 0:
        size = sum(file.stat().st_size for file in folder.glob("*.whl"))
        print(f"{folder}: {size / 1e6:.0f} MB of wheels")
    return done.returncode


def environment_with(wheels: Path | None, unpacked: Path) -> dict[str, str]:
    """This process's environment, and in it what the wheels hold and this repository."""
    for wheel in sorted(wheels.glob("*.whl")) if wheels else ():
        zipfile.ZipFile(wheel).extractall(unpacked)
    # What the machine has comes first: a wheel fills gaps alone.
    paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", ""), str(unpacked)]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS repeats nothing to the last bit
    }


def measure(part: str, dry: bool) -> list[dict]:
    """One of the parts that stand in benchmark.numbers."""
    import torch
    from benchmark import numbers

    from hpkit.corpus import blocks_of, load_corpus
    from hpkit.model import load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if part == "multiplications":
        return numbers.multiplications(device, (64,) if dry else (1024, 4096, 8192))
    model, tokenizer = load_model("starter")
    rows, _ = blocks_of(load_corpus("aksak"), tokenizer, 64 if dry else 512)
    tokens = torch.tensor([row["input_ids"] for row in rows[:32]])
    if part == "overflows":
        return numbers.overflows(model, tokens[:8], device, (1, 30, 100, 1000))
    updates = 2 if dry else 30
    blocks = tokens[: len(tokens) // 8 * 8].reshape(-1, 8, tokens.shape[1])
    return numbers.repetitions(lambda: load_model("starter")[0], blocks, device, updates)


def command_of(part: str, dry: bool, out: Path) -> list[str]:
    """The command that measures a part and writes `out`."""
    if part == "training":
        sizes = ["--dry-run", "--updates", "2"] if dry else ["--updates", "12"]
        script = [str(HERE / "bench_training.py"), "--models", MODEL, "--rounds", "1"]
        return [sys.executable, *script, *sizes, "--out", str(out)]
    if part == "adapters":
        model = ["starter", "--updates", "6", "--ways", "LoRA"] if dry else [MODEL]
        corpus = ["--corpus", "aksak"]
        return [sys.executable, "-m", "benchmark.adapters", *model, *corpus, "--out", str(out)]
    sizes = ["--dry-run"] if dry else []
    return [sys.executable, __file__, "--part", part, *sizes, "--out", str(out)]


def run_part(part: str, dry: bool, seconds: float, environment: dict) -> tuple[object, str]:
    """(figures, why there are none): one of the two is None or empty."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        log = Path(folder) / "log.txt"
        with log.open("w", encoding="utf-8") as lines:
            process = subprocess.Popen(
                command_of(part, dry, out),
                env=environment,
                cwd=HERE,
                stdout=lines,
                stderr=lines,
                start_new_session=True,
            )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None, f"took more than {seconds:g} s"
        finally:
            # With all that it has started itself, which would go on on the card.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if not out.is_file():
            last_words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            return None, last_words[0] if last_words else f"status {status}"
        return json.loads(out.read_text(encoding="utf-8")), ""


def measured_all(options: argparse.Namespace, environment: dict, say) -> dict:
    """All parts that were asked for, as the file holds them; stored after each."""
    import torch

    has_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if has_gpu else "CPU"
    found = {
        "device": device,
        "date": datetime.date.today().isoformat(),
        "versions": {"torch": torch.__version__},
        "left_out": {},
    }
    for package in ("transformers", "bitsandbytes", "peft", "accelerate"):
        try:
            found["versions"][package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    for part in options.parts:
        # A CPU is slower, and in a dry run nobody waits for figures.
        seconds = 900 if options.dry_run else PARTS[part]
        figures, why = run_part(part, options.dry_run, seconds, environment)
        if figures is None:
            found["left_out"][part] = why
            say(f"{part}: left out: {why}")
        else:
            found[part] = figures
            say(f"{part}: measured")
        if options.out:
            part_of_it = options.out.with_suffix(".part")
            part_of_it.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            part_of_it.replace(options.out)
    return found


def read_options() -> argparse.Namespace:
    """Exits with status 2 and one line for what cannot be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parcel", metavar="FOLDER", type=Path, help="fetch the wheels, no more")
    parser.add_argument("--wheels", metavar="FOLDER", type=Path, help="wheels to fill gaps with")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on any CPU")
    parser.add_argument("--out", type=Path, help="default: data/benchmarks/gpu/<device>.json")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # one, in a process of its own
    options = parser.parse_args()
    if options.wheels and not list(options.wheels.glob("*.whl")):
        parser.error(f"--wheels: expected a folder of wheels, found none in {options.wheels}")
    return options


def main() -> int:
    options = read_options()
    if options.parcel:
        return fetch_wheels(options.parcel)
    if options.part:
        figures = measure(options.part, options.dry_run)
        options.out.write_text(json.dumps(figures), encoding="utf-8")
        return 0
    import torch

    if not torch.cuda.is_available() and not options.dry_run:
        print("gpu.py: expected a CUDA device, found none; --dry-run tries the code on a CPU")
        return 2
    if not options.out and not options.dry_run:
        name = torch.cuda.get_device_name().lower().replace(" ", "-")
        options.out = HERE.parent / "data" / "benchmarks" / "gpu" / f"{name}.json"
        options.out.parent.mkdir(exist_ok=True)
    began = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - began:5.0f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory() as unpacked:
        environment = environment_with(options.wheels, Path(unpacked))
        try:
            found = measured_all(options, environment, say)
        except KeyboardInterrupt:
            print("stopped: what was measured is stored", file=sys.stderr)
            return 130
    return int(bool(found["left_out"]))


if __name__ == "__main__":
    sys.exit(main())
