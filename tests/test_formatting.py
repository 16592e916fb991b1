"""How numbers are written, each form by example and at the edges between two forms."""

import pytest
import torch

from hpkit.formatting import (
    exact_number,
    plural,
    shown,
    shown_bytes,
    shown_number,
    shown_rate,
    shown_seconds,
)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 updates"), (1, "1 update"), (2, "2 updates"), (2000, "2,000 updates")],
)
def test_a_count_with_its_noun(count, words):
    assert plural(count, "update") == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (0.001, "0.001"),
        (8, "8"),
        ("cosine", "cosine"),
        ({"num_cycles": 2}, '{"num_cycles": 2}'),
    ],
)
def test_a_hyperparameter_as_the_command_line_takes_it(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (3_542_016, "3.5 MB"),
        (99.9e6, "99.9 MB"),
        (100e6, "100 MB"),
        (23.4e9, "23.4 GB"),
        (1234e9, "1,234 GB"),
    ],
)
def test_bytes(count, text):
    assert shown_bytes(count) == text


def test_rates_and_a_sliders_numbers():
    assert [shown_rate(rate) for rate in (3e-7, 1e-3, 2e-10)] == ["3.0e-7", "1.0e-3", "2.0e-10"]
    assert [shown_number(value) for value in (2000, 0.0001, 0.5)] == ["2,000", "0.0001", "0.5"]


def test_exact_numbers_tell_neighbours_of_fp32_apart():
    value = torch.tensor(0.1)
    above = torch.nextafter(value, torch.tensor(1.0))
    assert exact_number(value.item()) == "0.100000001" != exact_number(above.item())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (5_000_000, "1,388 h 53 min"),
    ],
)
def test_a_length_of_time_as_people_say_it(seconds, text):
    assert shown_seconds(seconds) == text
