"""YAML of a script's own schema, which is no settings file of Hugging Face's."""

import pytest

from hpkit.check.files import read_file

from .examples import write

#: What transformers' dialect would take for its own.
OWN_SCHEMA = "learning_rate: 1.0e-4\nnum_train_epochs: 3\nwarmup_ratio: 0.1\noutput_dir: o\n"


@pytest.fixture
def read(tmp_path):
    """`read(text)`: (the one call of a recipe, its notes)."""

    def one(text: str):
        contents = read_file(str(write(tmp_path, text, "recipe.yaml")))
        return (contents.calls or [None])[0], contents.notes

    return one


@pytest.mark.parametrize(
    "text",
    [
        "defaults:\n  - base\n  - _self_\n" + OWN_SCHEMA,
        OWN_SCHEMA + "run_name: ${model.name}-${data.name}\n",
        OWN_SCHEMA + "seed: ${oc.env:SEED}\n",
        OWN_SCHEMA + "optimizer:\n  _target_: torch.optim.AdamW\n",
        OWN_SCHEMA + "reward:\n  weights: [1, 2]\n",  # no dataclass has sections
    ],
)
def test_a_schema_of_ones_own_is_not_judged(text, read):
    call, notes = read(text)
    assert call is None and "it is not checked" in notes[0]


def test_a_file_that_hydra_chooses_is_not_judged(tmp_path):
    folder = tmp_path / "conf" / "training"
    folder.mkdir(parents=True)
    file = write(folder, OWN_SCHEMA, "lora.yaml")
    assert read_file(str(file)).calls
    write(tmp_path / "conf", "defaults:\n  - training: lora\n", "config.yaml")
    assert read_file(str(file)).calls == []


def test_mappings_that_dataclasses_take_are_no_schema_of_ones_own(read):
    text = OWN_SCHEMA + "gradient_checkpointing_kwargs: {use_reentrant: false}\n"
    text += "fsdp_config: {version: 2}\ndataset_mixer: {o/d: 1.0}\nlr_scheduler_kwargs: {}\n"
    assert read(text)[0] is not None
    assert read(OWN_SCHEMA + "output: ${OUTPUT}\n")[0] is not None  # of the environment
