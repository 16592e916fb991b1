"""The startup file with which the kernels of browser and Colab end their trainings early."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

LOOK_AROUND = """
import sys
print({"torch", "transformers"} & set(sys.modules), {"importlib", "get_ipython"} & vars().keys())"""
TRAIN = """
from hpkit.finetune import trained
from hpkit.recipe import STARTER
recipe = STARTER.replace(max_seq_length=32, max_steps=30, warmup_steps=0, logging_steps=10)
trainer = trained(recipe, MODEL, CORPUS)
state = trainer.state
print(state.global_step, [entry["step"] for entry in state.log_history if "loss" in entry])"""


@pytest.mark.slow
def test_a_training_of_30_updates_ends_at_12(short_ipython, tiny_model, few_tunes, tmp_path):
    """With its loss logged there; and before it, nothing heavy and no name has come in."""
    train = TRAIN.replace("MODEL", repr(tiny_model)).replace("CORPUS", repr(few_tunes))
    cells = [nbformat.v4.new_code_cell(source) for source in (LOOK_AROUND, train, train)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=os.environ | {"IPYTHONDIR": str(short_ipython)})
    said = [cell.outputs[0].text for cell in notebook.cells]
    assert said == ["set() {'get_ipython'}\n", "12 [10, 12]\n", "12 [10, 12]\n"]
