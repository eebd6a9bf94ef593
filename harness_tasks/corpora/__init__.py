"""Corpora of MUSE benchmarks: published, generated, or a user's own."""

from ..errors import CorpusError
from ..loading import is_folder
from .corpus import COLUMNS, NAMES, PUBLISHED, RETRAIN_AUC_FILE, Corpus, load_corpus

__all__ = [
    "COLUMNS",
    "NAMES",
    "PUBLISHED",
    "RETRAIN_AUC_FILE",
    "Corpus",
    "CorpusError",
    "is_folder",
    "load_corpus",
]
