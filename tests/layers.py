"""All tests, layer by layer: `make test`. `python tests/layers.py NAME ...` runs some; `fast` is for editing, under a minute.

Every layer runs, whatever became of the one before, and the end is one line for each, with count and time. A test that
was skipped fails its layer, and so does a layer without tests: nothing passes for not having run.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PYTEST = (sys.executable, "-m", "pytest")
# Two processes, each with one thread: two of both would wait for one another on two cores.
PARALLEL = ("-n", "2", "--dist", "worksteal")


def tool(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name(name)), *arguments)


#: The commands of each layer, in the order in which they are run. In `fast` is what takes no second.
LAYERS = {
    "style": (
        tool("ruff", "check", "."),
        tool("ruff", "format", "--check", "."),
        tool("codespell"),
        tool(
            "check-jsonschema",
            "--builtin-schema",
            "vendor.github-workflows",
            ".github/workflows/test.yml",
        ),
    ),
    "modules": (
        (
            *PYTEST,
            *PARALLEL,
            "tests",
            "--ignore=tests/widgets",
            "--ignore=tests/browser",
            "--ignore=tests/colab",
        ),
    ),
    "widgets": ((*PYTEST, *PARALLEL, "tests/widgets"),),
    "notebooks": (
        (*PYTEST, "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", "notebooks"),
    ),
    "browser": ((*PYTEST, "tests/browser"),),
    "colab": ((*PYTEST, "tests/colab"),),
    "fast": (
        (
            *PYTEST,
            *PARALLEL,
            "-m",
            "not slow",
            "tests",
            "--ignore=tests/browser",
            "--ignore=tests/colab",
        ),
    ),
}


class Outcome(NamedTuple):
    """Of one layer: whether it passed, how many tests or checks ran, how many of them failed or were skipped, and seconds."""

    passed: bool
    ran: int
    failed: int
    skipped: int
    seconds: float

    def line(self, name: str) -> str:
        counts = f"{self.ran:5} run, {self.failed} failed, {self.skipped} skipped"
        return f"{name:10} {'passed' if self.passed else 'FAILED'} {counts}, {self.seconds / 60:5.1f} min"


def run_layer(name: str) -> Outcome:
    """Run a layer's commands; pytest's own report says how many tests there were."""
    began, ran, failed, skipped = time.perf_counter(), 0, 0, 0
    for command in LAYERS[name]:
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"HF_HUB_OFFLINE": "1", "HPKIT_CACHE": folder}
            if "-n" in command:
                environment["OMP_NUM_THREADS"] = "1"
            report = Path(folder) / "report.xml"
            of_pytest = command[: len(PYTEST)] == PYTEST
            print(
                f"\n== {name}: {' '.join(Path(part).name if part.startswith('/') else part for part in command)}",
                flush=True,
            )
            status = subprocess.run(
                [*command, *[f"--junitxml={report}"] * of_pytest], cwd=ROOT, env=environment
            ).returncode
            suites = ElementTree.parse(report).iter("testsuite") if report.is_file() else ()
            counts = [
                {kind: int(suite.get(kind)) for kind in ("tests", "failures", "errors", "skipped")}
                for suite in suites
            ]
        ran += sum(count["tests"] for count in counts) if of_pytest else 1
        bad = sum(count["failures"] + count["errors"] for count in counts)
        failed += bad or bool(status)
        skipped += sum(count["skipped"] for count in counts)
    return Outcome(
        ran > 0 and not failed and not skipped, ran, failed, skipped, time.perf_counter() - began
    )


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in LAYERS]:
        print(f"expected some of {', '.join(LAYERS)}, got {unknown[0]}", file=sys.stderr)
        return 2
    outcomes = {
        name: run_layer(name) for name in names or [name for name in LAYERS if name != "fast"]
    }
    print("\n" + "\n".join(outcome.line(name) for name, outcome in outcomes.items()))
    return 0 if all(outcome.passed for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
