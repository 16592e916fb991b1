"""`make gpu` on a CPU, as on a rented machine: with torch and transformers, but without music21,
datasets, ipywidgets, bitsandbytes and any virtual environment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gpu  # beside this file
import psutil
import pytest
import torch

SCRIPT = Path(gpu.__file__)
#: What such a machine lacks; the first letters are enough.
LACKING = ("music21", "datasets", "ipywidgets", "bitsandbytes", "trl")
PARTS = ["multiplications", "overflows", "repetitions", "adapters"]


@pytest.fixture(scope="module")
def rented(tmp_path_factory):
    """(python, environment) of a machine that has this one's packages, but those."""
    packages = tmp_path_factory.mktemp("packages")
    for package in Path(torch.__file__).parent.parent.iterdir():
        if not package.name.startswith((*LACKING, "__editable__")):
            (packages / package.name).symlink_to(package)
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    return sys._base_executable, environment | {"PYTHONPATH": str(packages)}


@pytest.mark.slow
def test_a_dry_run_measures_what_a_bare_machine_can(rented, tmp_path):
    python, environment = rented
    out = tmp_path / "gpu.json"
    command = [python, str(SCRIPT), "--dry-run", "--parts", *PARTS, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["left_out"] == {} and found["versions"]["torch"] == torch.__version__
    assert "bitsandbytes" not in found["versions"]
    for one in found["multiplications"]:
        assert one["tflops"] == pytest.approx(2 * one["size"] ** 3 / one["seconds"] / 1e12)
    in_fp32 = {one["factor"]: one for one in found["overflows"] if one["format"] == "float32"}
    seen = set()
    for one in found["overflows"]:
        # fp16 ends at 65,504; bf16 reaches as far as fp32.
        is_beyond = in_fp32[one["factor"]]["largest"] > torch.finfo(torch.float16).max
        assert (one["not_finite"] > 0) == (is_beyond and one["format"] == "float16")
        seen.add(is_beyond)
    assert seen == {True, False}
    plain, deterministic = found["repetitions"]
    assert deterministic["deterministic"] and deterministic["equal_weights"]
    assert plain["update_seconds"] > 0
    (adapter,) = found["adapters"]
    assert adapter["way"] == "LoRA" and 0 < adapter["trained"] < adapter["parameters"]


def test_without_a_card_it_says_so(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 2 and "expected a CUDA device, found none" in done.stdout


def is_of(process: psutil.Process) -> bool:
    try:
        return "benchmark.adapters" in process.cmdline()
    except psutil.Error:  # it has ended since
        return False


def test_a_part_that_takes_too_long_is_left_out(tmp_path):
    """With the processes that it has started in turn."""
    environment = gpu.environment_with(None, tmp_path)
    found, why = gpu.run_part("adapters", True, 4, environment)
    assert found is None and why == "took more than 4 s"
    left = [process.cmdline() for process in psutil.process_iter() if is_of(process)]
    assert left == []


def test_all_parts_end_within_nine_minutes():
    assert sum(gpu.PARTS.values()) <= 9 * 60
    for part in gpu.PARTS:
        assert gpu.command_of(part, True, Path("out"))[-2:] == ["--out", "out"]
