"""The README says what the cards and the stored example run say; what it points at exists."""

import re
from pathlib import Path

from hpkit.__main__ import main
from hpkit.corpus import cut_tunes, judge
from hpkit.figures import loss_picture
from hpkit.finetune import Run
from hpkit.hyperparameters import recipe_table
from hpkit.recipe import STARTER
from hpkit.records import load_grids, load_runs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Its prose as one line, however it is wrapped.
TEXT = " ".join(README.split())


def test_the_recipe_table_is_that_of_the_cards():
    assert recipe_table() in README, "paste the output of `hpkit explain --markdown` into README.md"


def test_its_figures_are_those_of_the_stored_run():
    run = Run.load(ROOT / "data" / "example")
    assert run.recipe == STARTER and run.eval_loss_after < run.eval_loss_before
    assert f"fell from {run.eval_loss_before:.3f} to {run.eval_loss_after:.3f} nats" in TEXT
    assert f"took {run.train_seconds:.0f} seconds of training" in TEXT
    assert f"{run.bars_valid_before:.0%} before, {run.bars_valid_after:.0%} after" in TEXT
    assert f"kept {run.optimizer_state_bytes / 1e6:.2f} MB of state" in TEXT
    eight_bit = run.optimizer_state_dtypes["uint8"]["bytes"] / run.optimizer_state_bytes
    assert f"{eight_bit:.0%} of it `uint8`" in TEXT
    assert f"8 bytes a parameter, {run.parameters * 8 / 1e6:.2f} MB" in TEXT
    assert f"![{loss_picture(run.history).alt}]" in README


def test_the_figures_of_the_real_model_are_those_of_the_stored_run():
    folder = ROOT / "data" / "example_smollm2"
    run = Run.load(folder)
    assert run.parameters == 134_515_008 and run.updates == 20
    assert f"{run.train_seconds:.0f} seconds of training on two cores" in TEXT
    assert f"{run.peak_memory_bytes / 1e9:.1f} GB at most" in TEXT
    assert f"from {run.eval_loss_before:.2f} to {run.eval_loss_after:.2f} nats" in TEXT
    for when in ("before", "after"):
        shown = README.split(f"{when} the run: ")[1].split("\n")[0].removesuffix(" …")
        answer = (folder / f"{when}.txt").read_text(encoding="utf-8").split("assistant\n[")[1]
        assert len(shown) > 10 and answer.startswith(shown), when


def test_the_check_it_shows_is_what_the_command_prints(capsys):
    shown = README.split("$ hpkit check --recipe notes --examples 640\n")[1].split("```")[0]
    assert main(["check", "--recipe", "notes", "--examples", "640"]) == 1
    printed = capsys.readouterr().out
    for part in shown.split("…\n"):
        assert part in printed


def test_the_recorded_runs_are_as_many_as_it_says():
    grids = load_grids()
    assert len(grids) == 9
    assert f"{len(load_runs())} fine-tunes of the starter in nine grids" in TEXT
    rates = grids["learning_rate"]
    assert len(rates.seeds) == 3
    shown = f'RunExplorer("learning_rate")  # {len(rates.points)} settings, three seeds each'
    assert shown in README


def test_the_stored_tunes_are_as_good_as_the_stored_run_says():
    """Each tune is judged again as any ABC program would read it, and the sums are those of
    run.json."""
    run = Run.load(ROOT / "data" / "example")
    tunes = [tune for _, tune in cut_tunes((ROOT / "data/example/after.abc").read_text())]
    verdicts = [judge(tune) for tune in tunes]
    for tune, verdict in zip(tunes, verdicts):
        said = re.search(r"parses; (\d+) of (\d+) bars", tune)
        assert verdict.parses == bool(said)
        if said:
            assert (verdict.bars_valid, verdict.bars) == (int(said[1]), int(said[2]))
    assert sum(verdict.parses for verdict in verdicts) == run.tunes_parsed_after
    valid = sum(verdict.bars_valid for verdict in verdicts)
    bars = sum(verdict.bars for verdict in verdicts if verdict.parses)
    total = valid / run.bars_valid_after  # with the bars of the texts that do not parse
    assert total == round(total) >= bars


def test_every_local_link_leads_somewhere():
    for name in ("README.md", "data/README.md"):
        file = ROOT / name
        links = re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8"))
        assert links
        for link in links:
            assert link.startswith("https://") or (file.parent / link).exists(), link
