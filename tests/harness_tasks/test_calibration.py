"""Calibration text from a corpus: the retain set without forget and evaluation text."""

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness_tasks.calibration import calibration_facts, with_calibration
from harness_tasks.corpora import load_corpus
from harness_tasks.errors import CorpusError
from quantizers import CalibratedQuantizer, get_quantizer


class Numbers:
    """A tokenizer: the token of each word is the number at its end."""

    def __call__(self, texts: list[str], verbose: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(word[1:]) for word in text.split()] for text in texts]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound(CalibratedQuantizer):
    """Quantizer that needs text and does nothing with it."""

    bits: ClassVar[int] = 4


def words(letter: str, start: int = 0, stop: int = 13) -> str:
    return " ".join(f"{letter}{number}" for number in range(start, stop))


@pytest.fixture
def corpus(tmp_path: Path) -> Any:
    """Seven retain texts of 13 words; all but the last are in one of the other splits."""
    files = {
        "raw/forget": [words("a")],
        "verbmem/forget": [{"prompt": words("b", 0, 6), "gt": " " + words("b", 6)}],
        "privleak/forget": [words("c")],
        "privleak/holdout": [words("d")],
        "knowmem/forget_qa": [{"question": words("e", 0, 9), "answer": words("e", 9)}],
        "knowmem/retain_qa": [{"question": words("f", 0, 12), "answer": "f12"}],
        "raw/retain1": [words(letter) for letter in "abcdefg"],
    }
    for name, rows in files.items():
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(rows))
    return load_corpus(str(tmp_path))


def bind(quantizer: Any, corpus: Any) -> Any:
    return with_calibration(quantizer, Numbers(), corpus, "raw/forget", "raw/retain1")  # type: ignore[arg-type]


def test_text_of_all_other_splits_is_left_out(corpus: Any) -> None:
    bound = bind(Bound(window=13), corpus)
    assert bound.calibration.windows == (tuple(range(13)),)
    facts = calibration_facts(bound)
    assert facts is not None
    assert (facts["texts"], facts["excluded_texts"], facts["dropped"]) == (7, 6, 6)


def test_a_quantizer_without_calibration_is_unchanged_and_reads_nothing(corpus: Any) -> None:
    quantizer = get_quantizer("rtn-int4")
    Path(corpus.location, "raw", "retain1.json").unlink()
    assert bind(quantizer, corpus) is quantizer
    assert calibration_facts(quantizer) is None
    assert calibration_facts(Bound()) is None
    with pytest.raises(CorpusError, match=r"raw/retain1\.json: no such file"):
        bind(Bound(), corpus)
