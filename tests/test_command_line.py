"""What the command line makes of its words."""

import os

import pytest

from hpkit.__main__ import main
from hpkit.errors import BadInput
from hpkit.finetune.checkpoints import Request, Started
from hpkit.recipe import STARTER
from hpkit.records.parts import which_part


@pytest.mark.parametrize(
    "environment, text, expected",
    [
        ({}, None, (1, 1)),
        ({}, "2/4", (2, 4)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "0",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_COUNT": "8",
            },
            None,
            (1, 8),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_MIN": "3",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
            None,
            (3, 3),
        ),
        ({"JOB_COMPLETION_INDEX": "3"}, "/4", (4, 4)),
        ({"JOB_COMPLETION_INDEX": "3"}, "1/4", (1, 4)),
        ({"JOB_COMPLETION_INDEX": "3"}, None, "say --part /n for the number of parts"),
        ({"JOB_COMPLETION_INDEX": "4"}, "/4", "i from 1 to n, got 5/4"),
        ({}, "/4", "without i it must come from"),
        ({}, "0/4", "i from 1 to n"),
        ({}, "half", "such as 1/4, got 'half'"),
    ],
)
def test_which_part(environment, text, expected, monkeypatch):
    # The tests themselves may run in a job of a cluster.
    for name in list(os.environ):
        if name.startswith(("SLURM_", "JOB_COMPLETION")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, tuple):
        assert which_part(text) == expected
        return
    with pytest.raises(BadInput, match=expected):
        which_part(text)


def test_a_folder_with_an_unfinished_run_is_told_its_command(tmp_path, capsys):
    Started(Request(STARTER, "starter", "aksak"), corpus_fingerprint="889").write(tmp_path)
    assert main(["finetune", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is not empty" in error
    assert f"hpkit finetune --resume --out {tmp_path}" in error
