"""How a few timed updates and tokens are scaled up, on times that can be checked by hand."""

import pytest

from hpkit.finetune.timing import seconds_of_sample, seconds_of_updates


def test_the_first_update_counts_as_it_was_and_the_others_by_their_tokens():
    # Begun at 100 s; 5 s for the first 10 tokens, then 10 tokens a second.
    ends = [(105.0, 10), (106.0, 20), (107.0, 30)]
    assert seconds_of_updates(100.0, ends, tokens=1010) == 5 + 100
    # A run of one update has no others, and one of three was timed whole.
    assert seconds_of_updates(100.0, ends[:1], tokens=10) == 5
    assert seconds_of_updates(100.0, ends, tokens=30) == 7


@pytest.mark.parametrize("rise", [0.0, 0.001])
def test_a_sample_whose_tokens_take_longer_and_longer(rise):
    def seconds(tokens):
        return 0.02 * tokens + rise * tokens**2

    found = seconds_of_sample((24, seconds(24)), (96, seconds(96)), 400)
    assert found == pytest.approx(seconds(400))


def test_a_sample_that_was_fast_by_chance_never_gets_faster():
    # By the two paces, a token would take no time at all somewhere before the 400th.
    assert seconds_of_sample((10, 10.0), (100, 50.0), 400) == 200
