"""Text to token blocks: tunes, files, folders, hub data sets; and ABC, the notation of tunes."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the same for import-linter, which sees no lazy import
    from hpkit.corpus.answers import encode_answers, prompt_of
    from hpkit.corpus.blocks import blocks_of, pack, pack_whole
    from hpkit.corpus.documents import Corpus
    from hpkit.corpus.encoding import encode
    from hpkit.corpus.load import load_corpus
    from hpkit.corpus.music import judge, write_wav
    from hpkit.corpus.notation import ALPHABET, parse
    from hpkit.corpus.tune_books import BUILT_IN, cut_tunes

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "answers": ["encode_answers", "prompt_of"],
        "blocks": ["blocks_of", "pack", "pack_whole"],
        "documents": ["Corpus"],
        "encoding": ["encode"],
        "load": ["load_corpus"],
        "music": ["judge", "write_wav"],
        "notation": ["ALPHABET", "parse"],
        "tune_books": ["BUILT_IN", "cut_tunes"],
    },
)
