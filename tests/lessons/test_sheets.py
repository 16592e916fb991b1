"""The cheat sheet and the glossary: made from the cards, and true of the recorded runs."""

import itertools
import re
import statistics

from hpkit.__main__ import main
from hpkit.hyperparameters import CARDS
from hpkit.lessons import cheat_sheet, glossary
from hpkit.records import load_grids, load_runs


def test_every_card_is_in_the_glossary_and_every_symptom_on_the_sheet():
    sheet = cheat_sheet()
    words = glossary()
    for card in CARDS.values():
        assert words.count(f"| `{card.name}` | {card.unit} | {card.what} |") == 1
        for symptom, change in card.symptoms.items():
            assert f"| {symptom} | `{card.name}` | {change} |" in sheet
        if card.practice:
            assert sheet.count(f"| {card.practice} |") == 1
    for line in (sheet + words).splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 5)
    assert len(sheet.splitlines()) <= 65  # a page


def test_lines_of_one_symptom_stand_together():
    table = cheat_sheet().split("## ")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    symptoms = [row.split(" | ")[0] for row in rows[1:]]
    assert len(symptoms) == sum(len(card.symptoms) for card in CARDS.values())
    assert [symptom for symptom, _ in itertools.groupby(symptoms)] == list(dict.fromkeys(symptoms))


def test_the_starters_rates_are_the_best_of_the_recorded_runs():
    runs = load_runs()
    usual = load_grids()["seeds"].points[0]
    losses = {}
    for rate in load_grids()["learning_rate"].axes["learning_rate"]:
        found = runs.at(usual.recipe.replace(learning_rate=rate), seeds=(1, 2, 3))
        losses[rate] = statistics.median(run.eval_loss_after for run in found)
    best = sorted(losses, key=losses.get)[:2]
    advised = re.search(r"The starter: (\S+) to (\S+)\.", CARDS["learning_rate"].practice)
    assert sorted(best) == [float(advised[1]), float(advised[2])]


def test_the_command_prints_the_sheet(capsys):
    assert main(["explain", "--cheat-sheet"]) == 0
    assert capsys.readouterr().out == cheat_sheet()
    assert main(["explain", "warmup_steps"]) == 0
    assert CARDS["warmup_steps"].practice in capsys.readouterr().out
