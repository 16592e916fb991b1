"""Grids: what those of the project hold, and mistakes in a file of them."""

import math

import pytest

from hpkit.errors import BadInput
from hpkit.files import data_folder
from hpkit.records import load_grids
from hpkit.records.grids import CHOOSING_SEEDS, JUDGING_SEEDS


def test_the_grids_hold_what_they_promise():
    grids = load_grids()
    for grid in grids.values():
        assert len(grid.seeds) >= 3 and grid.asks
    axes = grids["learning_rate"].axes
    assert set(axes) == {"learning_rate", "warmup_steps", "lr_scheduler_type"}
    (point,) = grids["learning_rate"].find(
        learning_rate=1e-3, warmup_steps=0.1, lr_scheduler_type="linear"
    )
    assert point == grids["seeds"].points[0]
    assert not grids["learning_rate"].find(learning_rate=2e-3)
    rates = axes["learning_rate"]
    assert len(rates) == 8 and math.log10(rates[-1] / rates[0]) > 3.5
    warmups = axes["warmup_steps"]
    assert len(warmups) == 5
    assert warmups[-1] > grids["learning_rate"].points[0].recipe.max_steps
    assert len(axes["lr_scheduler_type"]) == 4
    assert len(grids["learning_rate"].runs()) == 480
    assert len(grids["seeds"].runs()) == 20
    assert "lr_scheduler_type" not in grids["precision"].axes
    assert grids["pretrained"].axes["model"] == ["starter", "fresh"]


def test_equal_tokens_are_nearly_equal():
    sequences = set()
    for point in load_grids()["batch_equal_tokens"].points:
        recipe = point.recipe
        batch = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
        sequences.add(batch * recipe.max_steps)
    assert max(sequences) <= 800 and min(sequences) >= 768  # 128 does not divide 800


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected a table for each grid"),
        ("[base]\nmax_steps = 5", "expected a table for each grid"),
        ("seeds = [1]", r"expected a table \[seeds\]"),
        ("[a]\naxes.learning_rate = [1e-3]", r"expected seeds = \[1, 2, 3\]"),
        ("[a]\nseeds = [1]\naxes.learning_rate = 1e-3", "a list of values for every axis"),
        ("[a]\nseeds = [1]\npoints = [1]", "expected points ="),
        ("[a]\nseeds = [1]\naxis.learning_rate = [1e-3]", "did you mean axes?"),
        ("[a]\nseeds = [1]\naxes.learning_rat = [1e-3]", "did you mean learning_rate?"),
        ("[a]\nseeds = ['one']", "seed: expected a whole number"),
        (
            "[a]\nseeds = [1]\naxes.learning_rate = [-1]",
            "learning_rate: expected a number above 0, got -1",
        ),
        ("[a]\nscientific = ['optim']\nseeds = [1]", "expected no seeds, which a study does not"),
        ("[a]\nsamples = true\nseeds = [1]", "expected no seeds, which a study does not"),
        (
            "[a]\nscientific = ['optim']\naxes.learning_rate = [1e-3, 1e-2]",
            r"each of its axes \(learning_rate\) once in scientific",
        ),
        (
            "[a]\nnuisance = ['learning_rate']\naxes.learning_rate = [1e-3, 1e-2]",
            r"got scientific = \[\], nuisance = \['learning_rate'\]",
        ),
        (
            "[a]\nscientific = ['learning_rate', 3]\naxes.learning_rate = [1e-3, 1e-2]",
            "once in scientific",
        ),
        ("[a]\nscientific = ['model']", r"each of its axes \(it has none\)"),
        (
            "[a]\nscientific = ['learning_rate']\naxes.learning_rate = [1e-3, 1e-3, 1e-2]",
            "expected each point once",
        ),
    ],
)
def test_mistakes_in_a_file_of_grids(text, message, tmp_path):
    file = tmp_path / "grids.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=message):
        load_grids(file)


def test_the_studies_declare_what_is_asked_and_what_is_tuned():
    studies = load_grids(data_folder() / "studies.toml")
    studies |= load_grids(data_folder() / "planned.toml")
    plain = studies.pop("spread")  # nothing is compared, so every run is on the text that judges
    assert len(plain.seeds) == 30 and not {*plain.seeds} & {*CHOOSING_SEEDS}
    for study in studies.values():
        assert study.asks and study.scientific
        assert {*study.scientific, *study.nuisance} == study.axes.keys()
        # Where a rate is tuned, three seeds choose it; five others judge.
        assert study.seeds == (CHOOSING_SEEDS if study.nuisance else JUDGING_SEEDS)
        assert not {*CHOOSING_SEEDS} & {*JUDGING_SEEDS}
        for point in study.points:
            assert point.recipe.logging_steps == 1 and point.recipe.eval_steps <= 0.1
    optimizer = studies["optimizer"]
    assert optimizer.settings() == [{"optim": "adamw_torch_fused"}, {"optim": "adamw_8bit"}]
    assert len(optimizer.runs()) == 2 * 4 * 3


def test_a_study_of_rates_alone_is_judged_at_once(tmp_path):
    file = tmp_path / "rates.toml"
    file.write_text("[a]\nscientific = ['learning_rate']\naxes.learning_rate = [1e-3, 1e-2]")
    study = load_grids(file)["a"]
    assert study.seeds == JUDGING_SEEDS
    assert study.settings() == [{"learning_rate": 1e-3}, {"learning_rate": 1e-2}]


def test_a_study_is_held_against_its_reference(tmp_path):
    file = tmp_path / "rates.toml"
    declared = "[a]\nscientific = ['learning_rate']\naxes.learning_rate = [1e-3, 1e-2]\n"
    file.write_text(declared + "reference = { learning_rate = 1e-2 }")
    reference, others = load_grids(file)["a"].against()
    assert (reference, others) == ({"learning_rate": 1e-2}, [{"learning_rate": 1e-3}])
    file.write_text(declared)
    assert load_grids(file)["a"].against()[0] == {"learning_rate": 1e-3}
    file.write_text(declared + "reference = { learning_rate = 2e-3 }")
    with pytest.raises(BadInput, match="expected as reference one of its settings"):
        load_grids(file)
