"""Two finished runs side by side: what differs, what compares, what is refused."""

import dataclasses
import json

import pytest

from hpkit.errors import BadInput
from hpkit.finetune import Pair, Run, load_pair
from hpkit.recipe import STARTER

ONE = Run(
    recipe=STARTER,
    model="starter",
    corpus="airdsAirs",
    corpus_fingerprint="889",
    capability={"bf16": True, "fp16": False, "optim": "adamw_8bit", "device_name": "a CPU"},
    versions={"torch": "2.10", "numpy": "2.1"},
    parameters=10,
    updates=20,
    tokens=2000,
    history=[{"step": 0, "eval_loss": 2.0}, {"step": 20, "eval_loss": 1.25}],
    eval_loss_before=2.0,
    eval_loss_after=1.25,
    bars_valid_before=0.5,
    bars_valid_after=0.75,
    tunes_parsed_before=30,
    tunes_parsed_after=31,
    optimizer_state_bytes=4_000_000,
    optimizer_state_dtypes={},
    train_seconds=10.0,
    tokens_per_second=200.0,
    peak_memory_bytes=800_000_000,
    resumed_from=None,
    evaluation_fingerprint="abc",
)
OTHER = dataclasses.replace(
    ONE,
    recipe=STARTER.replace(learning_rate=0.01, optim="adamw_torch"),
    capability=ONE.capability | {"bf16": False, "optim": "adamw_torch"},
    versions={"torch": "2.11", "numpy": "2.1"},
    eval_loss_after=1.5,
    peak_memory_bytes=700_000_000,
)


def pair(other: Run, one: Run = ONE) -> Pair:
    return Pair(("a", "b"), one, other)


def difference(of: Pair, name: str) -> float | None:
    (end,) = [end for end in of.ends() if end.name == name]
    return end.difference


def test_only_what_differs_is_named():
    assert pair(OTHER).differing() == {
        "learning_rate": (0.001, 0.01),
        "optim": ("adamw_8bit", "adamw_torch"),
        "precision used": ("bf16", "32 bits"),
        "optimizer used": ("adamw_8bit", "adamw_torch"),
        "version of torch": ("2.10", "2.11"),
    }
    assert pair(ONE).differing() == {}
    assert "nothing differs" in pair(ONE).lines()


def test_texts_and_processes_that_differ():
    other = dataclasses.replace(
        ONE, eval_corpus="held.txt", corpus_fingerprint="8", processes=2, resumed_from=6
    )
    assert pair(other).differing() == {
        "text of the corpus": ("889", "8"),
        "eval_corpus": (None, "held.txt"),
        "processes": (1, 2),
        "resumed_from": (None, 6),
    }


def test_differences_of_the_ends():
    both = pair(OTHER)
    assert both.comparable and difference(both, "eval_loss_after") == 0.25
    assert difference(both, "peak_memory_bytes") == -100_000_000
    text = "\n".join(both.lines())
    assert "+0.2500" in text and "-100 MB" in text and "cannot be compared" not in text


@pytest.mark.parametrize(
    "fingerprint, why", [("xyz", "on different tokens"), (None, "an older version does not say")]
)
def test_losses_on_other_tokens_have_no_difference(fingerprint, why):
    both = pair(dataclasses.replace(OTHER, evaluation_fingerprint=fingerprint))
    assert not both.comparable
    assert difference(both, "eval_loss_after") is difference(both, "eval_loss_before") is None
    assert difference(both, "updates") == 0
    text = "\n".join(both.lines())
    assert why in text and "+0.2500" not in text


def test_a_run_that_diverged(tmp_path):
    """Its losses are null in run.json."""
    lost = dataclasses.replace(OTHER, eval_loss_after=float("nan"), bars_valid_after=None)
    for name, run in (("a", ONE), ("b", lost)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(run.to_json())
    both = load_pair(tmp_path / "a", tmp_path / "b")
    assert difference(both, "eval_loss_after") is None
    assert any(
        line.endswith("has diverged: a loss or a weight left the finite numbers.")
        for line in both.lines()
    )
    assert json.loads(json.dumps(both.as_dict()))["ends"]["eval_loss_after"] == [1.25, None, None]


def test_what_is_no_pair_of_runs(tmp_path):
    good = tmp_path / "good"
    good.mkdir()
    (good / "run.json").write_text(ONE.to_json())

    def refused(message, one, other):
        with pytest.raises(BadInput, match=message):
            load_pair(one, other)

    refused("twice", good, tmp_path / "good" / ".." / "good")
    refused("holds no run.json", good, tmp_path / "nowhere")
    refused("holds no run.json", good / "run.json", good)
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    (spoilt / "started.json").write_text("{}")
    refused("has not finished", good, spoilt)
    for text in ("", ONE.to_json()[:500], "[]", "{}", '{"recipe": {}}', '{"recipe": {"a": 1}}'):
        (spoilt / "run.json").write_text(text)
        refused("is damaged, or of another version", good, spoilt)


def test_a_run_of_the_first_edition_is_read(tmp_path):
    """It had no eval_corpus."""
    written = json.loads(ONE.to_json())
    del written["eval_corpus"]
    (tmp_path / "run.json").write_text(json.dumps(written))
    assert Run.load(tmp_path) == ONE
