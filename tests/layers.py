"""All tests, layer by layer: `make test`. `python tests/layers.py NAME ...` runs some; `fast` is
for editing, under a minute.

Every layer runs, whatever became of the one before, and the end is one line for each, with count
and time. A test that was skipped fails its layer, and so does a layer without tests: nothing passes
for not having run.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
# Each layer names its slowest tests: what makes everybody wait is to be seen.
PYTEST = (sys.executable, "-m", "pytest", "--durations=10", "--durations-min=5")
# Two processes, each with one thread: two of both would wait for one another on two cores.
PARALLEL = ("-n", "2", "--dist", "worksteal")
# A kernel runs a notebook from top to bottom, so its cells stay together.
TWO_KERNELS = ("-n", "2", "--dist", "loadfile")
NBVAL = ("--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300")
WORKFLOW = ".github/workflows/test.yml"
WITHOUT_BROWSER = ("--ignore=tests/browser", "--ignore=tests/colab")


def tool(name: str, *arguments: str) -> tuple[str, ...]:
    """The command of a tool that is installed beside this Python, whatever PATH says."""
    return (str(Path(sys.executable).with_name(name)), *arguments)


#: The commands of each layer, in the order in which they are run. In `fast` is what takes no
#: second.
LAYERS = {
    "style": (
        tool("ruff", "check", "."),
        tool("ruff", "format", "--check", "."),
        tool("lint-imports"),
        tool("codespell"),
        tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW),
    ),
    "modules": ((*PYTEST, *PARALLEL, "tests", "--ignore=tests/widgets", *WITHOUT_BROWSER),),
    "widgets": ((*PYTEST, *PARALLEL, "tests/widgets"),),
    "notebooks": ((*PYTEST, *TWO_KERNELS, *NBVAL, "notebooks"),),
    "browser": ((*PYTEST, "tests/browser"),),
    "colab": ((*PYTEST, "tests/colab"),),
    "fast": ((*PYTEST, *PARALLEL, "-m", "not slow", "tests", *WITHOUT_BROWSER),),
}
#: Two layers that wait for a browser and for downloads more than they compute.
BESIDE = ("browser", "colab")


class Outcome(NamedTuple):
    """Of one layer: how many tests or checks ran, how many of them failed or were skipped, and
    seconds."""

    ran: int
    failed: int
    skipped: int
    seconds: float

    @property
    def passed(self) -> bool:
        return self.ran > 0 and not self.failed and not self.skipped

    def line(self, name: str) -> str:
        verdict = "passed" if self.passed else "FAILED"
        counts = f"{self.ran:5} run, {self.failed} failed, {self.skipped} skipped"
        return f"{name:10} {verdict} {counts}, {self.seconds / 60:5.1f} min"


def run_layer(name: str, output=None) -> Outcome:
    """Run a layer's commands; pytest's own report says how many tests there were.

    What they print goes to the file `output`, where there is one.
    """
    began = time.perf_counter()
    ran = 0
    failed = 0
    skipped = 0
    for command in LAYERS[name]:
        words = [Path(part).name if part.startswith("/") else part for part in command]
        print(f"\n== {name}: {' '.join(words)}", file=output, flush=True)
        status, counts = run_command(command, output)
        ran += counts["tests"]
        bad = counts["failures"] + counts["errors"]
        # pytest that finds no test counts none and fails all the same.
        failed += bad or bool(status)
        skipped += counts["skipped"]
    return Outcome(ran, failed, skipped, time.perf_counter() - began)


def run_command(command: tuple[str, ...], output) -> tuple[int, Counter]:
    """Its exit status, and by kind the tests that it ran; what is no pytest counts as one."""
    prints = dict(stdout=output, stderr=subprocess.STDOUT)
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HPKIT_CACHE": folder}
        if "-n" in command:
            environment["OMP_NUM_THREADS"] = "1"
        if command[: len(PYTEST)] != PYTEST:
            done = subprocess.run(command, cwd=ROOT, env=environment, **prints)
            return done.returncode, Counter(tests=1)
        report = Path(folder) / "report.xml"
        command = (*command, f"--junitxml={report}")
        done = subprocess.run(command, cwd=ROOT, env=environment, **prints)
        return done.returncode, counts_in(report)


def counts_in(report: Path) -> Counter:
    """The tests of pytest's report by kind; none where it ended before it could write one."""
    counts = Counter()
    if report.is_file():
        for suite in ElementTree.parse(report).iter("testsuite"):
            for kind in ("tests", "failures", "errors", "skipped"):
                counts[kind] += int(suite.get(kind))
    return counts


def run_layers(names: list[str]) -> dict[str, Outcome]:
    """Run layers in this order, those of BESIDE at once. What the second of them prints follows
    what the first one prints."""
    first, second = BESIDE
    outcomes = {}
    for name in names:
        if name == first and second in names:
            with tempfile.TemporaryFile("w+") as printed, ThreadPoolExecutor() as pool:
                running = pool.submit(run_layer, second, printed)
                outcomes[first] = run_layer(first)
                outcomes[second] = running.result()
                printed.seek(0)
                print(printed.read())
        elif name not in outcomes:
            outcomes[name] = run_layer(name)
    return outcomes


def main(names: list[str]) -> int:
    for name in names:
        if name not in LAYERS:
            print(f"expected some of {', '.join(LAYERS)}, got {name}", file=sys.stderr)
            return 2
    # Every test of `fast` is in another layer already.
    names = names or [name for name in LAYERS if name != "fast"]
    outcomes = run_layers(names)
    print()
    for name, outcome in outcomes.items():
        print(outcome.line(name))
    return 0 if all(outcome.passed for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
