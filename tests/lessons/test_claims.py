"""Claims: what is declared, what is checked, and what is said about a mistake."""

import json

import pytest

from hpkit.errors import BadInput
from hpkit.hyperparameters import CARDS
from hpkit.lessons import check, ledger_table, load_claims, read_ledger
from hpkit.lessons.claims import VERDICTS


def test_the_declared_claims_name_notebooks_of_cards():
    named = {claim.notebook for claim in load_claims().values()}
    general = {"00_start_here", "12_your_own_run"}
    assert named
    assert named <= {card.notebook for card in CARDS.values()} | general


def test_a_checked_claim_goes_through_a_notebook_into_the_ledger(tmp_path):
    name, claim = next(iter(load_claims().items()))
    checked = check(name, "3 | 4 updates", "partly")
    bundle = checked._repr_mimebundle_()
    assert bundle["text/plain"] == f"{name}: ◐ partly. Measured: 3 | 4 updates"
    assert "3 | 4 updates" in bundle["text/html"]
    cells = [{"cell_type": "markdown"}, {"outputs": [{"data": bundle}, {"text": "x"}]}]
    file = tmp_path / f"{claim.notebook}.ipynb"
    file.write_text(json.dumps({"cells": cells}))
    assert read_ledger([file]) == [checked]
    row = ledger_table(read_ledger([file])).splitlines()[2]
    assert row.count(" | ") == 4
    assert claim.sentence in row
    assert "3 \\| 4 updates" in row
    assert "◐ partly" in row


def test_each_verdict_has_a_mark_of_its_own():
    assert len(set(VERDICTS.values())) == len(VERDICTS)


def test_words_are_not_read_as_html():
    name = next(iter(load_claims()))
    assert "&lt;b&gt;" in check(name, "<b>", "holds")._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    "text, message",
    [
        ('[one]\nsentence = "A"', "claim one of .*: expected sentence, notebook"),
        (
            '[one]\nsentence = "A"\nnotebook = "02"\nverdict = "holds"',
            "expected sentence, notebook and perhaps notes",
        ),
        ("one = 1", "claim one of"),
        ("[one", "is not TOML"),
    ],
)
def test_a_wrong_declaration_is_named(text, message, tmp_path):
    file = tmp_path / "claims.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=message):
        load_claims(file)


def test_a_wrong_check_is_named():
    name = next(iter(load_claims()))
    with pytest.raises(BadInput, match=f"got '{name}x' .did you mean {name}"):
        check(f"{name}x", "", "holds")
    message = "verdict: expected one of holds, partly, refuted, not seen at this scale, got 'hold'"
    with pytest.raises(BadInput, match=message):
        check(name, "", "hold")
