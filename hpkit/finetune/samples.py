"""What a model writes by itself: tunes judged by rule, passages of text, or answers to prompts."""

import math
from typing import NamedTuple

from hpkit.corpus.answers import prompt_of, prompt_tokens, stop_tokens
from hpkit.corpus.documents import Corpus
from hpkit.corpus.music import Verdict
from hpkit.errors import in_one_line
from hpkit.model import context_length
from hpkit.sampling import likeliest, sample

SAMPLED_TUNES = 32
SAMPLED_TEXTS = 2
#: Of a text, or of an answer to a prompt.
SAMPLED_TOKENS = 80
#: Where a model's config does not say how long its sequences may be.
USUAL_CONTEXT = 512


class Evaluation(NamedTuple):
    """One look at a model: evaluation loss in nats per token, and its sampled tunes.

    `bars_valid`: the share, 0 to 1, of their bars that add up; `tunes_parsed`: how many parse. Both
    are None where no tune was sampled. `old_loss`: on text that it knew before; None: not measured.
    """

    eval_loss: float
    bars_valid: float | None = None
    tunes_parsed: int | None = None
    old_loss: float | None = None


def sample_tunes(
    trainer, corpus: Corpus, eval_loss: float, seed: int, most_tokens: int
) -> list[str]:
    """32 tunes of at most `most_tokens`; none where that is 0, the corpus is not tunes, or the
    model is broken.

    A model whose loss is no finite number has no probabilities left to draw by.
    """
    if not most_tokens or corpus.kind != "tunes" or not math.isfinite(eval_loss):
        return []
    longest = min(_room(trainer.model), most_tokens)
    return sample(trainer.model, trainer.processing_class, SAMPLED_TUNES, longest, seed)


def drawn(draw, say) -> list[str]:
    """What `draw` samples; nothing, and a line to `say`, where it fails.

    No run is to end for a sample.
    """
    try:
        return draw()
    except Exception as error:  # of a model that nobody has met before
        say(f"sampling failed and was left out ({in_one_line(error)})")
        return []


def most_sampled(model, corpus: Corpus, most_tokens: int) -> int:
    """How many tokens a sample has at most: a tune `most_tokens`, a text SAMPLED_TOKENS."""
    if corpus.kind == "tunes":
        return min(_room(model), most_tokens)
    return min(_room(model), SAMPLED_TOKENS)


def sample_texts(
    trainer, corpus: Corpus, eval_loss: float, seed: int, most_tokens: int = SAMPLED_TOKENS
) -> list[str]:
    """Two texts as the model writes them, or its likeliest answers to the first prompts held out.

    An empty list where the corpus is tunes, or `eval_loss` is no finite number.
    """
    if corpus.kind == "tunes" or not math.isfinite(eval_loss):
        return []
    model = trainer.model
    tokenizer = trainer.processing_class
    longest = min(_room(model), most_tokens)
    if corpus.kind == "text":
        return sample(model, tokenizer, SAMPLED_TEXTS, longest, seed)
    _, held_out = corpus.split()
    # Greedy: what a chat model says is to be compared before and after, not its luck.
    stops = stop_tokens(corpus.kind, tokenizer, model.generation_config)
    texts = []
    for document in held_out[:SAMPLED_TEXTS]:
        tokens = prompt_tokens(corpus.kind, document, tokenizer)
        # A long prompt leaves less room, and none is left by one as long as the context.
        room = _room(model) + 1 - len(tokens)
        if room < 1:
            continue
        prompt = prompt_of(corpus.kind, document, tokenizer)
        answer = likeliest(model, tokenizer, tokens, min(longest, room), stops)
        texts.append(f"{prompt}[{answer}]")
    return texts


def evaluation_of(eval_loss: float, verdicts: list[Verdict]) -> Evaluation:
    """The loss beside what the judge says of the sampled tunes, of which there may be none."""
    if not verdicts:
        return Evaluation(eval_loss)
    valid, bars = count_bars(verdicts)
    share = 0.0
    if bars:
        share = valid / bars
    return Evaluation(eval_loss, share, sum(verdict.parses for verdict in verdicts))


def count_bars(verdicts: list[Verdict]) -> tuple[int, int]:
    """(bars that add up, all bars) of all tunes together."""
    valid = sum(verdict.bars_valid for verdict in verdicts)
    return valid, sum(verdict.bars for verdict in verdicts)


def _room(model) -> int:
    """How many tokens fit behind the first."""
    return (context_length(model) or USUAL_CONTEXT) - 1
