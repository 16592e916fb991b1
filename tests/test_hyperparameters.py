"""The cards' file: what is said about a mistake in it. tests/test_recipe.py has their values."""

import pytest

from hpkit.errors import BadInput
from hpkit.hyperparameters import load_cards

CARD = """
[patience]
what = "How long one waits."
unit = "updates"
default = "none"
notes = 3
starter = 3
verdict = "Holds."
source = "nobody"
notebook = "04_epochs"
accepts = "count or none"
"""


def test_a_card_is_read(tmp_path):
    file = tmp_path / "cards.toml"
    file.write_text(CARD)
    (card,) = load_cards(file).values()
    assert card.name == "patience"
    assert card.default is None
    assert card.notes == 3
    assert card.expected == "a whole number of 1 or more, or none for all"
    assert card.valid(3) and not card.valid(0)
    assert (card.why, card.practice, card.symptoms) == ("", "", {})


@pytest.mark.parametrize(
    "right, wrong, message",
    [
        ("count or none", "counts", "card patience: expected accepts = one of .*, got 'counts'"),
        ('accepts = "count or none"', "", "card patience: expected accepts = .*, got None"),
        ("verdict", "verdikt", "card patience: .*'verdikt'"),
        ('unit = "updates"', "", "card patience: .*'unit'"),
        ("[patience]", "[patience", "is not TOML"),
    ],
)
def test_a_mistake_in_a_card_is_named(right, wrong, message, tmp_path):
    file = tmp_path / "cards.toml"
    file.write_text(CARD.replace(right, wrong))
    with pytest.raises(BadInput, match=message):
        load_cards(file)
