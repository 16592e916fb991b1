"""The README and the pages beside the notebooks say what the stored runs say; what they point at
exists."""

import json
import re
from pathlib import Path

import pytest

from hpkit.__main__ import main
from hpkit.capability import MACHINES
from hpkit.corpus import cut_tunes, judge
from hpkit.figures import loss_picture
from hpkit.finetune import Run
from hpkit.memory import predict_memory
from hpkit.recipe import LORA, NOTES, STARTER
from hpkit.records import load_grids, load_runs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FURTHER = (ROOT / "notebooks" / "GOING_FURTHER.md").read_text(encoding="utf-8")
#: Their prose as one line, however it is wrapped.
TEXT = " ".join(README.split())
FURTHER_TEXT = " ".join(FURTHER.split())
#: The pages whose links are followed.
PAGES = [ROOT / "README.md", *(ROOT / "data").glob("*.md"), *(ROOT / "notebooks").glob("*.md")]


def test_the_readme_is_a_page_and_no_book():
    assert len(README.splitlines()) <= 150


def test_its_figures_are_those_of_the_stored_run():
    run = Run.load(ROOT / "data" / "example")
    assert run.recipe.in_force == STARTER.in_force and run.eval_loss_after < run.eval_loss_before
    assert f"fell from {run.eval_loss_before:.3f} to {run.eval_loss_after:.3f} nats" in TEXT
    assert f"took {run.train_seconds:.0f} seconds of training" in TEXT
    assert f"{run.bars_valid_before:.0%} before, {run.bars_valid_after:.0%} after" in TEXT
    assert f"kept {run.optimizer_state_bytes / 1e6:.2f} MB of state" in TEXT
    eight_bit = run.optimizer_state_dtypes["uint8"]["bytes"] / run.optimizer_state_bytes
    assert f"{eight_bit:.0%} of it `uint8`" in TEXT
    assert f"8 bytes a parameter, {run.parameters * 8 / 1e6:.2f} MB" in TEXT
    assert f"![{loss_picture(run.history).alt}]" in TEXT


def test_the_figures_of_the_real_model_are_those_of_the_stored_run():
    folder = ROOT / "data" / "example_smollm2"
    run = Run.load(folder)
    assert run.parameters == 134_515_008 and run.updates == 20
    assert f"{run.train_seconds:.0f} seconds of training on two cores" in FURTHER_TEXT
    assert f"{run.peak_memory_bytes / 1e9:.1f} GB at most" in FURTHER_TEXT
    assert f"from {run.eval_loss_before:.2f} to {run.eval_loss_after:.2f} nats" in FURTHER_TEXT
    for when in ("before", "after"):
        shown = FURTHER.split(f"{when} the run: ")[1].split("\n")[0].removesuffix(" …")
        answer = (folder / f"{when}.txt").read_text(encoding="utf-8").split("assistant\n[")[1]
        assert len(shown) > 10 and answer.startswith(shown), when


def test_the_check_it_shows_is_what_the_command_prints(capsys):
    shown = README.split("$ hpkit check --recipe notes --examples 640\n")[1].split("```")[0]
    assert main(["check", "--recipe", "notes", "--examples", "640"]) == 1
    printed = capsys.readouterr().out
    for part in shown.split("…\n"):
        assert part in printed


def test_the_recorded_runs_are_as_many_as_it_says():
    grids = load_grids(ROOT / "data" / "grids.toml")
    runs = load_runs(ROOT / "data" / "runs.parquet")
    assert len(grids) == 9
    assert f"{len(runs)} fine-tunes of the starter in nine grids" in FURTHER_TEXT
    rates = grids["learning_rate"]
    assert len(rates.seeds) == 3
    shown = f'RunExplorer("learning_rate")  # {len(rates.points)} settings, three seeds each'
    assert shown in FURTHER


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


def anchors_in(file: Path) -> set[str]:
    """The names by which GitHub lets a link go to a heading: small letters, words joined by
    hyphens, no other marks."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_local_link_leads_somewhere(file):
    text = file.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)|^\[[^\]]+\]: (\S+)$", text, re.M)
    local = [one or other for one, other in links if "https://" not in one + other]
    assert local or file.name == "CHEATSHEET.md"  # which has none
    for link in local:
        name, _, anchor = link.partition("#")
        target = file.parent / name if name else file
        assert target.exists(), link
        assert not anchor or anchor in anchors_in(target), link


def test_every_link_by_a_name_has_its_address():
    used = re.findall(r"\]\[([^\]]+)\]", README)
    assert used == re.findall(r"^\[([^\]]+)\]: https://", README, re.M)
    assert len(used) == len(list((ROOT / "notebooks").glob("*.ipynb")))


def test_the_bytes_of_7b_are_those_that_are_predicted():
    recipe = NOTES.replace(dtype="bfloat16", per_device_train_batch_size=1, max_seq_length=512)
    ways = {
        "all weights": recipe,
        "LoRA, rank 16": recipe.replace(lora_r=16),
        "QLoRA, rank 16": recipe.replace(lora_r=16, load_in_4bit=True),
    }
    for way, asked in ways.items():
        memory = predict_memory("7B", asked)
        cells = [f"{size / 1e9:.1f} GB" for size in (*memory, memory.total)]
        assert f"| {way} | {' | '.join(cells)} |" in FURTHER
    held = MACHINES["t4"].memory_free
    assert f"A T4 has {held / 1e9:.1f} GB" in FURTHER_TEXT
    assert predict_memory("7B", ways["QLoRA, rank 16"]).total < held


def test_the_figures_of_the_adapter_are_those_of_the_stored_run():
    run = Run.load(ROOT / "data" / "example_lora")
    full = Run.load(ROOT / "data" / "example")
    assert run.recipe == LORA.replace(lora_r=8) and run.updates == full.updates
    share = run.trained_parameters / run.parameters
    assert f"{run.trained_parameters:,} numbers, {share:.1%} of all" in FURTHER_TEXT
    assert (
        f"On the same {run.updates} updates the evaluation loss falls from "
        f"{run.eval_loss_before:.3f} to {run.eval_loss_after:.3f} nats, where all weights together "
        f"reach {full.eval_loss_after:.3f}"
    ) in FURTHER_TEXT
    assert f"{run.adapter_bytes / 1e3:.0f} kB as peft saves it" in FURTHER_TEXT


def test_the_adapters_figures_on_a_gpu_are_those_measured():
    file = ROOT / "data" / "benchmarks" / "parts" / "nvidia-h100-80gb-hbm3-adapters.json"
    measured = {one["way"]: one for one in json.loads(file.read_text(encoding="utf-8"))}
    ways = [measured[way] for way in ("all weights", "LoRA", "QLoRA")]
    first, second, third = (f"{one['update_seconds'] * 1e3:.0f}" for one in ways)
    assert f"{first} ms with all weights, {second} with LoRA and {third} with QLoRA" in FURTHER_TEXT
    first, second, third = (f"{one['peak_memory_bytes'] / 1e9:.1f}" for one in ways)
    assert f"{first}, {second} and {third} GB" in FURTHER_TEXT


def test_the_adapters_figures_of_a_real_model_are_those_measured():
    file = ROOT / "data" / "benchmarks" / "parts" / "amd-epyc-adapters.json"
    measured = json.loads(file.read_text(encoding="utf-8"))
    grown = [one["peak_memory_bytes"] - one["memory_before_bytes"] for one in measured]
    full, eight_bit, lora, qlora = (f"{size / 1e9:.1f}" for size in grown)
    assert (
        f"grew by {full} GB with all weights, {eight_bit} with all weights and 8-bit states, "
        f"{lora} with LoRA and {qlora} with QLoRA"
    ) in FURTHER_TEXT
    full, _, lora, qlora = (one["update_seconds"] for one in measured)
    assert lora / full == pytest.approx(3 / 4, abs=0.03)
    assert qlora / full == pytest.approx(4 / 5, abs=0.03)
    states = [f"{one['optimizer_state_bytes'] / 1e6:,.0f}" for one in measured]
    assert f"took {', '.join(states[:3])} and {states[3]} MB" in FURTHER_TEXT
