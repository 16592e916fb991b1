"""Text to token blocks: tunes, files, folders, hub data sets; and ABC, the notation of tunes."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.corpus.answers import encode_answers, prompt_of
    from hpkit.corpus.blocks import blocks_of, encode, pack, pack_whole
    from hpkit.corpus.load import BUILT_IN, Corpus, cut_tunes, load_corpus
    from hpkit.corpus.music import judge, write_wav
    from hpkit.corpus.notation import ALPHABET, parse

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "answers": ["encode_answers", "prompt_of"],
        "blocks": ["blocks_of", "encode", "pack", "pack_whole"],
        "load": ["BUILT_IN", "Corpus", "cut_tunes", "load_corpus"],
        "music": ["judge", "write_wav"],
        "notation": ["ALPHABET", "parse"],
    },
)
