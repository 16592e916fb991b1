"""Studies: choosing and judging on invented figures, and a small one recorded from end to end."""

import dataclasses
import math

import pytest

from hpkit.errors import BadInput
from hpkit.records import (
    Runs,
    choose,
    judge,
    load_grids,
    load_runs,
    plan,
    record,
    record_point,
)
from hpkit.records.grids import CHOOSING_SEEDS, JUDGING_SEEDS
from hpkit.records.planning import CHOOSING, FIRST_EDITION, JUDGING, yardstick_of
from hpkit.records.studies import _edge, judging_runs, verdicts
from hpkit.records.verdict import HIGHER, LOWER

STUDY = """
[optimizers]
asks = "Which optimizer?"
scientific = ["optim"]
nuisance = ["learning_rate"]
axes.optim = ["adamw_torch", "adamw_8bit"]
axes.learning_rate = [1e-4, 1e-3, 1e-2]
"""


@pytest.fixture
def study(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    return load_grids(file)["optimizers"]


@pytest.fixture(scope="module")
def run():
    return load_runs()[0]


def invented(run, study, losses: dict, seeds=CHOOSING_SEEDS) -> list:
    """Runs of the study, whose mean losses are `losses[optim, learning_rate]`."""
    made = []
    for point in study.points:
        loss = losses.get((point.recipe.optim, point.recipe.learning_rate))
        if loss is not None:
            for place, seed in enumerate(seeds):
                changes = dict(
                    recipe=point.with_seed(seed).recipe,
                    model=point.model,
                    corpus=point.corpus,
                    # Symmetric about the mean, and another spread with each optimizer.
                    eval_loss_after=loss + 0.001 * len(point.recipe.optim) * (place - 1),
                    evaluation_fingerprint=str(seeds),
                )
                made.append(dataclasses.replace(run, **changes))
    return made


LOSSES = {
    ("adamw_torch", 1e-4): 1.3,
    ("adamw_torch", 1e-3): 1.2,
    ("adamw_torch", 1e-2): math.nan,
    ("adamw_8bit", 1e-4): 1.1,
    ("adamw_8bit", 1e-3): 1.25,
    ("adamw_8bit", 1e-2): 1.4,
}


def test_each_setting_is_chosen_at_its_own_best(study, run):
    runs = Runs(invented(run, study, LOSSES))
    between = choose(study, runs, optim="adamw_torch")
    assert between.point.recipe.learning_rate == 1e-3 and between.at_edge == ()
    assert [loss for _, loss in between.tried] == pytest.approx([1.3, 1.2, math.inf])
    assert str(between) == "optim adamw_torch at its best learning_rate 0.001"
    lowest = choose(study, runs, optim="adamw_8bit")
    assert lowest.best == {"learning_rate": 1e-4}
    assert lowest.at_edge == ("learning_rate 0.0001 is the lowest tried",)
    assert "a better one may lie beyond" in str(lowest)


def test_a_setting_that_diverges_everywhere_says_so(study, run):
    lost = {key: math.nan for key in LOSSES}
    choice = choose(study, Runs(invented(run, study, lost)), optim="adamw_8bit")
    assert "some seed diverged wherever it was tried" in str(choice)


def test_a_rate_at_which_a_seed_diverged_is_not_chosen(study, run):
    """Whatever the last loss: here a weight is no number."""
    runs = invented(run, study, LOSSES)
    for number, one in enumerate(runs):
        if (one.recipe.optim, one.recipe.learning_rate) == ("adamw_8bit", 1e-4):
            runs[number] = dataclasses.replace(one, weights_norm=math.nan)
            break
    assert choose(study, Runs(runs), optim="adamw_8bit").best == {"learning_rate": 1e-3}


def test_shares_and_counts_of_steps_have_no_order():
    assert _edge("warmup_steps", 0.1, [0.1, 5, 20]) == []
    assert _edge("warmup_steps", 0.1, [0.1, 0.3]) == ["warmup_steps 0.1 is the lowest tried"]
    assert _edge("learning_rate", 0.1, [0.1]) == ["learning_rate 0.1 is the only one tried"]


def test_a_choice_is_made_on_one_text(study, run):
    runs = invented(run, study, LOSSES)
    runs[1] = dataclasses.replace(runs[1], evaluation_fingerprint="other")
    with pytest.raises(BadInput, match="evaluated on different text"):
        choose(study, Runs(runs), optim="adamw_torch")


def test_a_run_with_samples_stands_for_the_same_run_without(study, run):
    runs = invented(run, study, LOSSES)
    sampled = [dataclasses.replace(one, tunes_parsed_after=30) for one in runs]
    assert choose(study, Runs(runs + sampled), optim="adamw_8bit").tried == (
        choose(study, Runs(runs), optim="adamw_8bit").tried
    )


def test_the_judges_have_chosen_nothing(study, run):
    """With the judging seeds the other rate would have been better: nobody looks."""
    chose = invented(run, study, LOSSES)
    assert judging_runs(study, Runs([])) == []
    judges = judging_runs(study, Runs(chose))
    assert [(p.recipe.optim, p.recipe.learning_rate) for p in judges] == [
        *[("adamw_torch", 1e-3)] * 5,
        *[("adamw_8bit", 1e-4)] * 5,
    ]
    assert [point.recipe.seed for point in judges] == 2 * list(JUDGING_SEEDS)
    other_way = {("adamw_torch", 1e-3): 1.2, ("adamw_torch", 1e-4): 1.0, ("adamw_8bit", 1e-4): 1.3}
    runs = Runs(chose + invented(run, study, other_way, JUDGING_SEEDS))
    found = judge(study, runs, {"optim": "adamw_torch"}, {"optim": "adamw_8bit"})
    assert found.difference.verdict == LOWER and found.difference.seeds == JUDGING_SEEDS
    assert found.difference.one == pytest.approx(1.2 + 0.011)
    assert "at its best learning_rate 0.001 against optim adamw_8bit at its best" in str(found)
    back = judge(study, runs, {"optim": "adamw_8bit"}, {"optim": "adamw_torch"})
    assert back.difference.verdict == HIGHER
    assert back.difference.interval.mean == pytest.approx(-found.difference.interval.mean)


def test_one_setting_may_be_judged_before_the_other_is_chosen(study, run):
    half = {key: loss for key, loss in LOSSES.items() if key[0] == "adamw_torch"}
    judges = judging_runs(study, Runs(invented(run, study, half)))
    assert {point.recipe.optim for point in judges} == {"adamw_torch"} and len(judges) == 5


def test_what_is_missing_is_said(study, run):
    runs = Runs(invented(run, study, LOSSES))
    with pytest.raises(
        BadInput, match=r"seeds \[4, 5, 6, 7, 8\] no run is recorded at .*--grid opt"
    ):
        judge(study, runs, {"optim": "adamw_torch"}, {"optim": "adamw_8bit"})
    with pytest.raises(BadInput, match=r"with seeds \[1, 2, 3\] no run is recorded"):
        choose(study, Runs([]), optim="adamw_torch")
    with pytest.raises(
        BadInput, match=r"its settings \(optim adamw_torch; optim adamw_8bit\), got"
    ):
        choose(study, runs, optim="sgd")
    with pytest.raises(BadInput, match="none: it is no study"):
        choose(load_grids()["seeds"], runs, optim="sgd")


def test_which_yardstick_a_run_is_measured_with(study):
    assert yardstick_of(study, 3) == CHOOSING and yardstick_of(study, 4) == JUDGING
    sampled = dataclasses.replace(study, samples=True)
    assert yardstick_of(sampled, 4) == JUDGING._replace(sampled_tokens=128)
    assert yardstick_of(load_grids()["seeds"], 3) == FIRST_EDITION


# A small study, recorded.


@pytest.fixture(scope="module")
def small_study(tiny_model, few_tunes, tmp_path_factory):
    """Two rates of one optimizer each: 12 runs choose and 10 judge. (study, table, lines said)"""
    folder = tmp_path_factory.mktemp("study")
    file = folder / "study.toml"
    file.write_text(
        f"""
        [base]
        per_device_train_batch_size = 2
        max_seq_length = 32
        max_steps = 4
        warmup_steps = 0.25
        logging_steps = 1
        eval_steps = 0.5
        [tiny]
        model = '{tiny_model}'
        corpus = '{few_tunes}'
        scientific = ["weight_decay"]
        nuisance = ["learning_rate"]
        axes.weight_decay = [0, 10]
        axes.learning_rate = [1e-3, 1e-2]
        """
    )
    study = load_grids(file)["tiny"]
    lines = []
    table = folder / "runs.parquet"
    parts = folder / "parts"
    trained = record([study], table, parts, processes=2, log=lines.append, progress=False)
    assert trained == 22
    return study, table, parts, lines


@pytest.mark.slow
def test_a_study_is_recorded_in_two_rounds(small_study):
    study, table, parts, lines = small_study
    assert lines[0].startswith("12 runs, 0 recorded, 12 to train")
    assert lines[1].startswith("22 runs, 12 recorded, 10 to train")
    runs = load_runs(table)
    assert len(runs) == 22 == len(plan([study], parts, runs=runs))
    # Nothing is trained twice, whatever there is to choose anew.
    assert record([study], table, parts, log=None, progress=False) == 0
    found = judge(study, runs, {"weight_decay": 0}, {"weight_decay": 10})
    best = [found.one.point, found.other.point]
    for point, choice in zip(best, (found.one, found.other)):
        assert [run.recipe.seed for run in runs.at(*point)] == [*CHOOSING_SEEDS, *JUDGING_SEEDS]
        assert len(choice.tried) == 2
    # What the command prints in the end.
    assert [str(one) for one in verdicts(study, runs)] == [
        str(judge(study, runs, {"weight_decay": 10}, {"weight_decay": 0}))
    ]
    assert verdicts(study, Runs(runs[:-1])) == []
    print(found)


@pytest.mark.slow
def test_what_a_run_of_a_study_records(small_study):
    _, table, _, _ = small_study
    texts = {}
    for run in load_runs(table):
        steps = [entry["step"] for entry in run.history if "loss" in entry]
        assert steps == [1, 2, 3, 4]
        for name in ("eval_loss", "eval_old_loss"):
            assert [entry["step"] for entry in run.history if name in entry] == [0, 2, 4]
        for entry in run.history:
            if "loss" in entry:
                assert entry["grad_norm"] > 0 and entry["learning_rate"] >= 0
                # At rate 0, where warmup begins, nothing moves.
                assert (entry.get("update_rms") is None) == (entry["learning_rate"] == 0)
        assert run.eval_old_loss_after == pytest.approx(
            [entry for entry in run.history if "eval_old_loss" in entry][-1]["eval_old_loss"],
            rel=1e-4,
        )
        assert run.text_share == 1 and 0 < run.cut_documents
        assert run.bars_valid_after is None  # nothing was sampled
        chooses = run.recipe.seed in CHOOSING_SEEDS
        texts.setdefault(chooses, set()).add(run.evaluation_fingerprint)
    # One text for all that choose, another for all that judge.
    assert len(texts[True]) == len(texts[False]) == 1 and texts[True] != texts[False]


@pytest.mark.slow
def test_a_recorded_run_is_a_training_like_any_other(small_study):
    """What a study measures beside changes nothing: the same losses, norms and weights."""
    from hpkit.finetune import train

    study, table, _, _ = small_study
    point = study.points[1].with_seed(1)
    (recorded,) = load_runs(table).at(*point, seeds=[1])
    again = record_point(point, yardstick=CHOOSING)
    plain = train(point.recipe, point.model, point.corpus)
    updates = [entry for entry in recorded.history if "loss" in entry]
    for run in (again, plain):
        assert run.weights_norm == pytest.approx(recorded.weights_norm, rel=1e-6)
        theirs = [entry for entry in run.history if "loss" in entry]
        for name in ("step", "loss", "grad_norm", "learning_rate"):
            # A table keeps five digits of them.
            assert [entry[name] for entry in theirs] == pytest.approx(
                [entry[name] for entry in updates], rel=1e-4
            )
    assert again.eval_loss_after == pytest.approx(recorded.eval_loss_after, rel=1e-6)
    assert plain.evaluation_fingerprint != recorded.evaluation_fingerprint
    assert {"update_rms", "eval_old_loss"} & set().union(*plain.history) == set()
