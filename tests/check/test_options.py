"""Defaults of argparse, told with a note."""

from hpkit.check import read_calls

from .examples import ARGPARSE, MAIN_ARGS, write


def test_argparse_defaults(tmp_path):
    (call,), notes = read_calls(write(tmp_path, ARGPARSE))
    assert call.arguments == {
        "learning_rate": 1e-4,
        "num_train_epochs": 3,
        "optim": "adamw_8bit",
        "bf16": False,
        "shuffle": True,
    }
    assert set(call.unread) == {"seed", "run_name", "model", "warmup_steps"}
    assert (
        notes[0] == "line 7: --learning-rate: its default is read; the command line can change it"
        and len(notes) == 5
    )
    (call,), notes = read_calls(write(tmp_path, MAIN_ARGS))
    assert (
        call.arguments == {"learning_rate": 2e-5, "bf16": True}
        and call.unread == ("max_steps", "weight_decay")
        and len(notes) == 2
    )
