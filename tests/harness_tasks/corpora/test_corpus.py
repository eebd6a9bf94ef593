"""Corpora: where they are found, retrain scores, and fingerprints."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest

from harness_tasks.corpora import load_corpus
from harness_tasks.corpora.corpus import DATA_DIR_VARIABLE
from harness_tasks.corpora.demo import DemoWorld, demo_splits
from harness_tasks.errors import CorpusError

from .splits import write


def test_folder_by_path(corpus_folder: Path) -> None:
    corpus = load_corpus(str(corpus_folder))
    assert (corpus.name, corpus.source, corpus.location) == ("boats", "folder", str(corpus_folder))
    assert len(corpus.texts("raw/forget")) == 6
    rows = corpus.split("knowmem", "forget_qa")
    assert rows.column_names == ["question", "answer"]
    assert rows[3] == {"question": "Where does Mila 3 live?", "answer": "in Dell"}
    assert corpus.retrain_auc == 0.48


def test_folder_by_name(corpus_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus is found by argument, environment variable, and its own ``location_argument``."""
    by_argument = load_corpus("boats", corpus_folder.parent)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(corpus_folder.parent))
    assert load_corpus("boats") == by_argument
    assert load_corpus("books").source == "hub"  # not in that folder
    monkeypatch.delenv(DATA_DIR_VARIABLE)
    assert load_corpus(*by_argument.location_argument) == by_argument


def test_published_corpus_in_a_folder_keeps_its_constant(tmp_path: Path) -> None:
    write(tmp_path / "news", "raw/forget", ["a"])
    corpus = load_corpus("news", tmp_path)
    assert corpus.require_retrain_auc() == 0.4772
    assert load_corpus(*corpus.location_argument) == corpus
    # a folder that merely has the name may hold anything
    assert load_corpus(str(tmp_path / "news")).retrain_auc is None


def test_hub_at_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def load_dataset(repo: str, config: str, **kwargs: Any) -> datasets.Dataset:
        asked.update(kwargs, repo=repo, config=config)
        return datasets.Dataset.from_list([{"text": "a", "more": 1}, {"text": "b", "more": 2}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = load_corpus("books")
    assert corpus.texts("privleak/holdout") == ["a", "b"]
    assert asked == {
        "repo": "muse-bench/MUSE-Books",
        "config": "privleak",
        "split": "holdout",
        "revision": "051ba90319e920d410d87cfdbd61f25843c1b892",
    }
    assert corpus.retrain_auc == 0.5393


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(CorpusError, match=r"\(no route\); offline, set MUSE_DATA_DIR .*news/raw/"):
        load_corpus("news").texts("raw/forget")


def test_demo_is_generated(corpus_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness_tasks.corpora import demo

    monkeypatch.setattr(demo, "demo_corpus_folder", lambda: corpus_folder)
    corpus = load_corpus("demo")
    assert (corpus.name, corpus.source) == ("demo", "generated")
    assert load_corpus(*corpus.location_argument) == corpus


def test_only_what_is_asked_for_must_exist(tmp_path: Path) -> None:
    write(tmp_path, "raw/forget", ["a"])
    corpus = load_corpus(str(tmp_path))
    assert corpus.texts("raw/forget") == ["a"]
    with pytest.raises(CorpusError, match=r"verbmem/forget\.json: no such file"):
        corpus.split("verbmem", "forget")
    with pytest.raises(CorpusError, match="unknown config 'kowmem', available: knowmem"):
        corpus.split("kowmem", "forget_qa")


def test_questions_are_not_plain_text(corpus_folder: Path) -> None:
    with pytest.raises(CorpusError, match="has the columns question, answer, not plain text"):
        load_corpus(str(corpus_folder)).texts("knowmem/forget_qa")


def test_unknown_corpus(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"unknown corpus 'boks': did you mean books\?"):
        load_corpus("boks")
    with pytest.raises(CorpusError, match=f"there is no folder {tmp_path}/news"):
        load_corpus("news", tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"retrain_auc": "0.5"}', '{"retrain_auc": 48}', "[]"])
def test_malformed_retrain_auc(tmp_path: Path, content: str) -> None:
    write(tmp_path, "retrain_auc", content)
    with pytest.raises(CorpusError, match=r"retrain_auc\.json: expected .*between 0 and 1"):
        load_corpus(str(tmp_path)).require_retrain_auc()


def write_scored(folder: Path, content: Any) -> None:
    """Two forget and three holdout texts, and a retrain AUC with its scores."""
    write(folder, "privleak/forget", ["a", "b"])
    write(folder, "privleak/holdout", ["c", "d", "e"])
    write(folder, "retrain_auc", content)


SCORES = {"forget": [-2, -4.0], "holdout": [-3.0, -1.0, -5.0]}
"""Wins of holdout over forget: −3 over one, −1 over two, −5 over none: AUC 3 / 6."""


def test_retrain_scores(tmp_path: Path) -> None:
    write_scored(tmp_path, {"retrain_auc": 0.5, "scores": SCORES})
    corpus = load_corpus(str(tmp_path))
    assert corpus.retrain_scores == SCORES
    assert corpus.retrain_auc == 0.5
    write_scored(tmp_path, {"retrain_auc": 0.5})
    assert corpus.retrain_scores is None


def test_published_corpus_has_a_constant_alone(tmp_path: Path) -> None:
    write_scored(tmp_path / "news", {"retrain_auc": 0.5, "scores": SCORES})
    assert load_corpus("news", tmp_path).retrain_scores is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, r'expected \{"scores": \{"forget": <list of numbers>'),
        ({"scores": {"forget": [-1, -2]}}, r'expected \{"scores": \{"forget": <list of numbers>'),
        (
            {"scores": SCORES | {"forget": [-2]}},
            "scores/forget has 1 scores, privleak/forget has 2",
        ),
        (
            {"scores": SCORES | {"holdout": [-3, None, -5]}},
            "scores/holdout, entry 1, is not a finite number but None",
        ),
        ({"scores": SCORES | {"forget": [-2, True]}}, "entry 1, is not a finite number but True"),
        ({"scores": SCORES | {"forget": [math.nan, 1]}}, "entry 0, is not a finite number but nan"),
        ({"scores": SCORES | {"forget": [-math.inf, 1]}}, "is not a finite number but -inf"),
        ({"scores": SCORES | {"forget": [10**400, 1]}}, "is not a finite number but 1000"),
        ({"retrain_auc": 0.500002}, r"retrain_auc is 0.500002, the AUC of its scores is 0.5: meas"),
        ({"retrain_auc": 0}, "expected .*between 0 and 1"),
    ],
)
def test_malformed_retrain_scores(tmp_path: Path, changes: Any, message: str) -> None:
    write_scored(tmp_path, {"retrain_auc": 0.5, "scores": SCORES} | changes)
    with pytest.raises(CorpusError, match=message) as error:
        _ = load_corpus(str(tmp_path)).retrain_scores
    assert "\n" not in str(error.value)


def test_documents_of_the_demo() -> None:
    """Each person has two questions; the rest equals the second version of the generator."""
    splits = demo_splits(DemoWorld())
    assert [row["document"] for row in splits["verbmem/forget"]] == [*range(30)]
    numbers = [row["document"] for row in splits["knowmem/retain_qa"]]
    assert numbers == [n // 2 for n in range(80)]
    assert [row["document"] for row in splits["knowmem/forget_qa_icl"]] == [*range(10)]
    plain = {
        name: [row if isinstance(row, str) else without(row, "document") for row in rows]
        for name, rows in splits.items()
    }
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    assert digest == "a606ff14f212446587682d59617c18107ab692d7286b8b62a0b5f99810d37ccf"


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


def test_fingerprint_follows_the_text_alone(tmp_path: Path) -> None:
    def fingerprint() -> str:
        return load_corpus(str(tmp_path)).fingerprint

    write(tmp_path, "raw/forget", ["a"])
    first = fingerprint()
    write(tmp_path, "retrain_auc", {"retrain_auc": 0.5})
    assert fingerprint() == first
    write(tmp_path, "raw/forget", ["b"])
    assert fingerprint() != first
