"""data/METHOD.md says what the code does: its picture, its tables, its verdict by hand."""

import random
import re
import runpy
import statistics
from itertools import pairwise
from pathlib import Path

import pytest
from scipy import stats

from hpkit.labs.judging import false_alarms_after_choosing
from hpkit.records import Point, load_grids, load_runs, plan, record_point
from hpkit.records.grids import CHOOSING_SEEDS, JUDGING_SEEDS
from hpkit.records.parts import recorded_runs
from hpkit.records.planning import CHOOSING, JUDGING
from hpkit.records.studies import choose, judge, verdicts
from hpkit.records.verdict import HIGHER, MATTERS, NONE, decide

DATA = Path(__file__).parents[1] / "data"
TEXT = (DATA / "METHOD.md").read_text(encoding="utf-8")
#: Its prose as one line, however it is wrapped.
PROSE = " ".join(TEXT.split())


@pytest.fixture(scope="module")
def method() -> dict:
    return runpy.run_path(str(DATA / "method.py"))


@pytest.fixture(scope="module")
def studies():
    """(grids, recorded runs) of the studies."""
    return load_grids(DATA / "studies.toml"), load_runs(DATA / "studies.parquet")


@pytest.mark.slow
def test_the_picture_is_what_the_simulation_gives(method):
    assert f"![{method['picture']().alt}](verdicts.png)" in TEXT
    assert (DATA / "verdicts.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_by_book_is_what_the_yardstick_takes(method):
    table = method["table"]()
    assert table in TEXT
    rows = [line.split("|")[2:-1] for line in table.splitlines()[2:]]
    books = [[int(cell.replace(",", "")) for cell in row] for row in rows[:-1]]
    assert len(books) == 6
    of_all, thirty, three_hundred, _, _, choosing, judging, _ = zip(*books)
    for few, count in ((thirty, 30), (three_hundred, 300)):
        assert sum(few) == count
        for tunes, whole in zip(few, of_all):
            assert abs(tunes - count * whole / sum(of_all)) < 1
    assert sum(choosing) == sum(judging) == 16 * 256 and min(choosing + judging) > 0


def test_the_rule_is_the_one_of_the_code():
    assert f"{MATTERS} nats are the smallest difference of losses that matters" in PROSE
    one, two, three = CHOOSING_SEEDS
    assert f"Seeds {one}, {two} and {three} are trained at every rate" in PROSE
    assert f"Seeds {JUDGING_SEEDS[0]} to {JUDGING_SEEDS[-1]} are trained at the best rate" in PROSE
    assert f"{CHOOSING.eval_blocks} blocks of {CHOOSING.eval_length}, spread evenly" in PROSE
    # A difference of so many standard errors is seen with 80 %: the noncentral t distribution.
    for seeds, factor in ((5, "3.76"), (3, "5.65"), (8, "3.27"), (20, "2.95")):
        assert factor in PROSE
        quantile = stats.t.ppf(0.975, seeds - 1)
        assert stats.nct.sf(quantile, seeds - 1, float(factor)) == pytest.approx(0.8, abs=0.002)
    assert f"{stats.t.ppf(0.975, len(JUDGING_SEEDS) - 1):.3f} for five seeds" in PROSE


def test_what_choosing_costs():
    swept = false_alarms_after_choosing((1.286, 1.260, 1.263, 1.343), 0.003)
    assert f"a whole study has {100 * swept:.1f} false alarms in 100" in PROSE
    worst = false_alarms_after_choosing((1.175, 1.172, 1.175), 0.002)
    assert f"with a deviation of 0.002, it is {100 * worst:.0f} in 100" in PROSE


def test_the_losses_that_chose_are_those_of_the_table(studies):
    grids, runs = studies
    for optim in ("adamw_8bit", "adamw_torch_fused"):
        tried = [f"{loss:.4f}" for _, loss in choose(grids["optimizer"], runs, optim=optim).tried]
        assert f"{', '.join(tried[:3])} and {tried[3]} with {optim}" in PROSE
    rounded = [round(float(loss), 3) for loss in tried]
    assert rounded == [1.286, 1.260, 1.263, 1.343]  # of which the simulation was made


def test_how_much_the_text_decides(studies):
    """On each of the two texts: 30 tunes less all of them, each at its best rate."""
    grids, runs = studies
    gaps = []
    for seeds in (CHOOSING_SEEDS, JUDGING_SEEDS):
        means = []
        for corpus in ("airdsAirs:30", "airdsAirs"):
            point = choose(grids["data"], runs, corpus=corpus).point
            losses = [run.eval_loss_after for run in runs.at(*point, seeds=seeds)]
            means.append(sum(losses) / len(losses))
        gaps.append(f"{means[0] - means[1]:.3f}")
    assert f"30 tunes end {gaps[0]} above all of them, on the text that judged {gaps[1]}" in PROSE


def test_what_the_first_editions_yardstick_had_said():
    runs = load_runs()
    grids = load_grids()
    (few,) = grids["data_size"].find(corpus="airdsAirs:300", num_train_epochs=2)
    at = dict(learning_rate=1e-3, warmup_steps=0.1, lr_scheduler_type="linear")
    (whole,) = grids["learning_rate"].find(**at)
    said = []
    for point in (few, whole):
        losses = [run.eval_loss_after for run in runs.at(*point, seeds=CHOOSING_SEEDS)]
        said.append(f"{sum(losses) / len(losses):.3f}")
    assert f"{said[0]} against {said[1]}, both at 1e-3" in PROSE
    assert f"read twice in {runs.at(*few)[0].updates} updates, looked better" in PROSE


def test_the_verdict_by_hand_is_the_one_of_the_code(studies):
    """Read from the page and computed anew with nothing but SciPy's table of t."""
    grids, runs = studies
    rows = re.findall(r"^\| (\d) \| ([\d.]+) \| ([\d.]+) \| ([-−]?[\d.]+) \|$", TEXT, re.M)
    assert [int(row[0]) for row in rows] == list(JUDGING_SEEDS)
    study = grids["optimizer"]
    differences = []
    losses_of = {}
    for optim, column in (("adamw_8bit", 1), ("adamw_torch_fused", 2)):
        point = choose(study, runs, optim=optim).point
        losses = [run.eval_loss_after for run in runs.at(*point, seeds=JUDGING_SEEDS)]
        assert [row[column] for row in rows] == [f"{loss:.5f}" for loss in losses]
        losses_of[optim] = losses
    for _, one, other, difference in rows:
        differences.append(float(one) - float(other))
        assert float(difference.replace("−", "-")) == pytest.approx(differences[-1], abs=1e-9)
    (found,) = verdicts(study, runs)
    mean = sum(differences) / 5
    deviation = (sum((one - mean) ** 2 for one in differences) / 4) ** 0.5
    half = 2.776 * deviation / 5**0.5
    said = f"mean difference is −{-mean:.6f} and the standard deviation {deviation:.5f}"
    assert said in PROSE and f"/ √5 = {half:.5f} to either side" in PROSE
    assert f"/ √5 = {3.76 * deviation / 5**0.5:.5f} would probably have been seen" in PROSE
    spread = max(max(column) - min(column) for column in losses_of.values())
    assert f"the seeds lie up to {spread:.4f} apart" in PROSE
    interval = found.difference.interval
    assert (mean, mean - half, mean + half) == pytest.approx(
        (interval.mean, interval.low, interval.high), abs=2e-5
    )
    assert found.difference.verdict == decide(interval)


def test_what_the_page_prints_is_printed(studies, capsys, monkeypatch):
    monkeypatch.chdir(DATA.parent)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    exec(code, {})
    said = capsys.readouterr().out.strip()
    assert said in PROSE
    for name in ("optimizer", "data"):
        for found in verdicts(studies[0][name], studies[1]):
            assert str(found) in PROSE, found


@pytest.mark.slow
def test_a_recorded_run_trained_anew_ends_where_it_did(studies):
    """Another machine rounds differently, and where a run ends worse than it began, such small
    differences grow."""
    _, runs = studies
    tame = [run for run in runs if run.eval_loss_after < run.eval_loss_before]
    assert len(tame) > len(runs) / 2
    row = random.SystemRandom().choice(tame)
    drawn = f"{row.corpus} by {row.recipe}"
    yardstick = CHOOSING if row.recipe.seed in CHOOSING_SEEDS else JUDGING
    again = record_point(Point(row.recipe, row.model, row.corpus), yardstick=yardstick)
    assert again.evaluation_fingerprint == row.evaluation_fingerprint, drawn
    assert (again.updates, again.tokens) == (row.updates, row.tokens), drawn
    assert again.cut_documents == row.cut_documents, drawn
    for name in ("eval_loss_before", "eval_old_loss_before"):
        assert getattr(again, name) == pytest.approx(getattr(row, name), abs=0.002), drawn
    for name in ("eval_loss_after", "eval_old_loss_after"):
        assert getattr(again, name) == pytest.approx(getattr(row, name), abs=0.02), drawn


def test_every_run_of_every_study_is_recorded(studies):
    grids, runs = studies
    table = DATA / "studies.parquet"
    recorded = recorded_runs(table, []).keys
    assert plan(grids.values(), DATA, runs=runs).keys() <= recorded
    # Beside them there is what has been recorded of the planned ones, and nothing else.
    planned = load_grids(DATA / "planned.toml")
    assert not planned.keys() & grids.keys()
    assert recorded <= plan([*grids.values(), *planned.values()], DATA, runs=runs).keys()
    assert table.stat().st_size < 10e6
    first = plan([grids["optimizer"]], DATA, runs=runs)
    assert f"records the {len(first)} runs of the first study anew" in PROSE
    texts = {True: set(), False: set()}
    for run in runs:
        updates = [entry["step"] for entry in run.history if "loss" in entry]
        assert updates == list(range(1, run.updates + 1))
        for series in ("eval_loss", "eval_old_loss"):
            steps = [entry["step"] for entry in run.history if series in entry]
            assert steps[0] == 0 and steps[-1] == run.updates
            gaps = [later - earlier for earlier, later in pairwise(steps)]
            assert max(gaps) <= run.updates / 10
        assert run.capability["threads"] == 1 and run.versions["torch"]
        texts[run.recipe.seed in CHOOSING_SEEDS].add(run.evaluation_fingerprint)
    assert len(texts[True]) == len(texts[False]) == 1 and texts[True] != texts[False]


def test_the_page_of_findings_is_stored():
    made = runpy.run_path(str(DATA / "findings.py"))["page"]()
    assert (DATA / "FINDINGS.md").read_text(encoding="utf-8") == made, "run data/findings.py"


def test_what_is_written_of_the_findings_holds(studies):
    """Each sentence of data/findings.toml, by the rule."""
    grids, runs = studies

    def found(name: str, one: dict, other: dict | None = None):
        return judge(grids[name], runs, one, other or grids[name].against()[0])

    assert found("optimizer", {"optim": "adamw_8bit"}).difference.verdict == NONE
    few = found("data", {"corpus": "airdsAirs:30"})
    assert few.difference.verdict == HIGHER and few.difference.interval.low > 0.05
    tenth = few.other.best["learning_rate"] / 10
    assert few.one.best["learning_rate"] == pytest.approx(tenth) and few.one.at_edge
    assert found("data", {"corpus": "airdsAirs:300"}).difference.verdict == NONE

    rates = grids["rate"]
    ends = {}
    old_text = {}
    for point in rates.points:
        recorded = runs.at(*point, seeds=rates.seeds)
        rate = point.recipe.learning_rate
        ends[rate] = statistics.mean(run.eval_loss_after for run in recorded)
        old_text[rate] = statistics.mean(run.eval_old_loss_after for run in recorded)
    valley = [loss for rate, loss in ends.items() if 3e-4 <= rate <= 1e-3]
    assert max(valley) - min(valley) < 0.01
    assert ends[3e-3] > ends[3e-5] and ends[3e-3] - ends[1e-3] > 0.1
    before = recorded[0].eval_old_loss_before
    assert max(old_text[3e-5], old_text[1e-4]) < before < old_text[3e-4]
    assert list(old_text.values()) == sorted(old_text.values())

    full, *settings = grids["lora"].settings()
    all_linear = [one for one in settings if one["target_modules"] == "all-linear"]
    for setting in all_linear:
        judged = found("lora", setting)
        assert judged.difference.verdict == (NONE if setting["lora_r"] == 64 else HIGHER)
        if setting["use_rslora"] or setting["lora_alpha"] == 32:
            ten_times = 10 * judged.other.best["learning_rate"]
            assert judged.one.best["learning_rate"] == pytest.approx(ten_times)
    falling = [found("lora", full | dict(lora_r=r, lora_alpha=2 * r)).one for r in (1, 4, 16, 64)]
    best = [choice.best["learning_rate"] for choice in falling]
    assert best == sorted(best, reverse=True) and best[0] > best[-1]
    inside = dict(lora_r=16, lora_alpha=32, use_rslora=False)
    everywhere, attention, mlp = (
        inside | {"target_modules": modules} for modules in ("all-linear", "attention", "mlp")
    )
    assert found("lora", attention, mlp).difference.verdict == HIGHER
    assert found("lora", mlp, everywhere).difference.verdict == HIGHER
