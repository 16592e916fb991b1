"""Without packing: each document in a block of its own, cut off and filled up, and no more lost
than is said."""

import pytest

from hpkit.corpus import load_corpus
from hpkit.corpus.blocks import packed
from hpkit.finetune import train
from hpkit.model import load_tokenizer
from hpkit.recipe import STARTER


@pytest.fixture(scope="module")
def tunes():
    corpus = load_corpus("aksak")
    train_documents, _ = corpus.split()
    return corpus, train_documents


@pytest.mark.parametrize("length", [32, 64, 512])
def test_each_tune_has_one_block(tunes, length):
    corpus, documents = tunes
    tokenizer = load_tokenizer("starter")
    found = packed(corpus, documents, tokenizer, length, packing=False)
    begins, ends = tokenizer.bos_token_id, tokenizer.eos_token_id
    whole = [[begins, *tokenizer(document).input_ids, ends] for document in documents]
    assert len(found.blocks) == len(documents)
    for block, tokens in zip(found.blocks, whole):
        kept = [token for token, label in zip(block["input_ids"], block["labels"]) if label != -100]
        # The first token, which nothing predicts, is no label.
        assert kept == tokens[1:length]
    assert found.cut_documents == sum(len(tokens) > length for tokens in whole)
    assert found.left_over == sum(max(len(tokens) - length, 0) for tokens in whole)
    places = len(found.blocks) * len(found.blocks[0]["input_ids"])
    kept = sum(len(tokens) for tokens in whole) - found.left_over
    assert found.text_share == pytest.approx(kept / places)


@pytest.mark.slow
def test_a_run_says_what_it_cut_off_and_is_measured_on_the_same_text():
    recipe = STARTER.replace(max_steps=2, max_seq_length=64, save_strategy="no")
    apart = train(recipe.replace(packing=False), corpus="aksak")
    laid_out = train(recipe, corpus="aksak")
    assert apart.documents["packing"] is False and laid_out.documents["packing"] is True
    assert apart.documents["tokens_left_over"] > laid_out.documents["tokens_left_over"]
    assert apart.evaluation_fingerprint == laid_out.evaluation_fingerprint
    assert apart.eval_loss_before == laid_out.eval_loss_before
