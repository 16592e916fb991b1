"""The README's picture: taken here as `make picture` takes it, and what the README says of it."""

import statistics
from itertools import pairwise

import pytest
from PIL import Image, ImageChops

from hpkit.records import load_grids, load_runs

from .picture import PICTURE, RATES, ROOT, TOLD, sentence, store, take


@pytest.fixture(scope="module")
def frames(page, run_notebook):
    return take(page, run_notebook)


def test_the_widget_follows_its_slider(frames):
    assert [frame.rate for frame in frames] == RATES
    for before, after in pairwise(frames):
        assert before.alt != after.alt and before.words != after.words
        height = min(before.image.height, after.image.height)
        box = (0, 0, before.image.width, height)
        changed = ImageChops.difference(before.image.crop(box), after.image.crop(box))
        # From the slider's handle, near the top, to the words below the picture.
        _, top, _, bottom = changed.getbbox()
        assert top < 100 and bottom > 600


def test_the_readme_says_what_the_widget_says(frames):
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    told = sentence(frames)
    assert f"![{told}](notebooks/slider.gif)" in readme, "run `make picture`, which prints it"
    # And the widget says what was recorded.
    usual = load_grids()["seeds"].points[0].recipe
    for rate in TOLD:
        runs = load_runs().at(usual.replace(learning_rate=rate), seeds=(1, 2, 3))
        losses = [run.eval_loss_after for run in runs]
        assert f"at the end {statistics.median(losses):.5g} ({min(losses):.5g} to" in told


def test_the_picture_is_small_and_as_long_as_the_stored_one(frames, tmp_path):
    store(frames, tmp_path / "slider.gif")
    for file in (tmp_path / "slider.gif", PICTURE):
        assert file.stat().st_size < 1e6
        with Image.open(file) as picture:
            assert picture.n_frames == len(RATES) and picture.info["loop"] == 0
            assert 700 <= picture.width <= 800
