"""Corpora of MUSE benchmarks: published, generated, or a user's own."""

from ..errors import CorpusError
from .corpus import COLUMNS, NAMES, PUBLISHED, RETRAIN_AUC_FILE, Corpus, is_folder, load_corpus

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
