"""How torch's OpenMP waits, in its own words: OMP_DISPLAY_ENV makes it tell when it is loaded."""

import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

SETTINGS = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")
#: What a child inherits, which knows nothing of hpkit.
CHILD = "import hpkit, subprocess, sys; subprocess.run([sys.executable, '-c', 'import torch'])"


@pytest.fixture
def environment(monkeypatch):
    """Of a person who has set nothing."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "VERBOSE")
    return os.environ


def rounds_of_waiting(told: str) -> list[str]:
    return re.findall(r"GOMP_SPINCOUNT = '(\d+)'", told)


def told_by(*command) -> str:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True).stderr


@pytest.mark.parametrize("code", ["import hpkit, torch", CHILD], ids=["itself", "a child"])
def test_its_threads_give_way_to_another_training(environment, code):
    # One process alone loads torch, so one answer is heard.
    assert rounds_of_waiting(told_by("-c", code)) == ["1000"]


@pytest.mark.parametrize(
    "name, value, rounds", [("GOMP_SPINCOUNT", "7", "7"), ("OMP_WAIT_POLICY", "PASSIVE", "0")]
)
def test_a_value_of_ones_own_stands(environment, monkeypatch, name, value, rounds):
    monkeypatch.setenv(name, value)
    assert rounds_of_waiting(told_by("-c", "import hpkit, torch")) == [rounds]


def test_loaded_too_late_nothing_is_said(environment):
    told = told_by("-c", "import torch, hpkit")
    assert rounds_of_waiting(told) != ["1000"] and "hpkit" not in told


@pytest.mark.slow
def test_the_processes_of_torchrun_have_it(environment):
    """The main process of torchrun, which trains nothing, has its own way."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    told = told_by(*launcher, "-m", "hpkit", "finetune", "--model", "nowhere")
    assert rounds_of_waiting(told).count("1000") == 2


@pytest.mark.slow
def test_a_kernel_has_it(environment, capfd):
    setup = "from hpkit.capability import probe\nprobe(try_optimizer=False)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(setup)])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert rounds_of_waiting(capfd.readouterr().err) == ["1000"]
