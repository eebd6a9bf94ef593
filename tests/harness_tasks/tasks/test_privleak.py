"""Zero of PrivLeak on the evaluated texts, and its error."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from sklearn.metrics import roc_auc_score

import harness_tasks
from harness_tasks.errors import CorpusError
from harness_tasks.tasks import privleak
from harness_tasks.tasks.privleak import Membership

TASKS = Path(harness_tasks.__file__).parent / "muse"


def items(zero: list[float | None], constant: float | None = None) -> list[Membership]:
    """Holdout 3, 1 and forget 2, 1: AUC 5/8; with the retrained model's scores of the four."""
    return [
        Membership("holdout", 3, constant, zero[0]),
        Membership("forget", 2, constant, zero[1]),
        Membership("holdout", 1, constant, zero[2]),
        Membership("forget", 1, constant, zero[3]),
    ]


def test_zero_of_the_same_texts() -> None:
    """Holdout 1, 3 and forget 2, 0: retrain AUC 3/4, so 5/6 − 1 = −1/6; the constant is not used.

    The error is 1000 / (9 √2), worked out in ``test_privleak_stderr_by_hand``.
    """
    texts = items([1, 2, 3, 0], constant=0.48)
    assert privleak.privleak(texts) == pytest.approx(-100 / 6)
    assert privleak.privleak_stderr(texts) == pytest.approx(1000 / (9 * math.sqrt(2)))
    assert privleak.auc(texts) == 5 / 8
    assert privleak.auc_stderr(texts) == pytest.approx(math.sqrt(10) / 8)


def test_the_retrained_model_is_exactly_at_zero() -> None:
    texts = items([3, 2, 1, 1], constant=0.48)
    assert privleak.privleak(texts) == 0
    assert privleak.privleak_stderr(texts) == 0


@pytest.mark.parametrize("zero", [[None] * 4, [1, 2, None, 0]])
def test_constant_where_a_text_has_no_score(zero: list[float | None]) -> None:
    """(5/8) / (1/2) − 1 = 1/4. Variances: 10/64, and (1/4 + 1/12 + 1/12) / 4 = 5/48 of the zero.

    10/64 + (5/4)² · 5/48 = 0.31901; its root times 100 / (1/2): 112.962.
    """
    texts = items(zero, constant=0.5)
    assert privleak.privleak(texts) == 25
    assert privleak.privleak_stderr(texts) == pytest.approx(112.962, abs=1e-3)


def test_neither_scores_nor_constant() -> None:
    with pytest.raises(CorpusError, match="needs the AUC of the retrained model"):
        privleak.privleak(items([None] * 4))


@pytest.mark.parametrize(("zero", "area"), [([1, 2, 1, 2], 0), ([2, 1, 2, 1], 1)])
def test_zero_at_the_edge_gives_no_number(zero: list[float | None], area: int) -> None:
    texts = items(zero, constant=0.48)
    value = privleak.privleak(texts)
    assert isinstance(value, str)
    assert value.startswith(f"N/A: the retrain AUC on these 4 texts is {area}, ")
    assert privleak.privleak_stderr(texts) == "N/A"
    assert privleak.auc(texts) == 5 / 8


@pytest.mark.parametrize(("holdout", "value"), [(0.0, -100), (9.0, 100 / 3)])
def test_no_error_of_an_auc_at_the_edge(holdout: float, value: float) -> None:
    """AUC 0 or 1 against a retrain AUC of 3/4 (in scores) or of 0.75 (as a constant)."""
    for zero in ([1, 2, 3, 0], [None] * 4):
        texts = [
            item._replace(score=holdout) if item.split == "holdout" else item
            for item in items(zero, constant=0.75)
        ]
        assert privleak.privleak(texts) == pytest.approx(value)
        assert privleak.auc_stderr(texts) == "N/A"
        assert privleak.privleak_stderr(texts) == "N/A"


FORGET = [-2.0, -3.0, -4.0, -5.0, -6.0, -7.0]
HOLDOUT = [-2.5, -3.5, -1.0, -5.5, -1.5, -7.5]
"""Texts won against: 5, 4, 6, 2, 6, 0 of 6. AUC 23/36."""
RETRAIN_AUC = 23 / 36


def write_scores(path: Path, **more: Any) -> Path:
    scores = {"forget": FORGET, "holdout": HOLDOUT}
    path.write_text(json.dumps({"scores": scores, **more}), encoding="utf-8")
    return path


@pytest.fixture
def scored_corpus(corpus_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "scored"
    shutil.copytree(corpus_folder, folder)
    write_scores(folder / "retrain_auc.json", retrain_auc=RETRAIN_AUC)
    return folder


def evaluate(
    lm: HFLM, metadata: dict[str, Any], task: str = "muse_privleak", **kwargs: Any
) -> tuple[dict[str, Any], list[Any], dict[str, Any]]:
    """Return the scores of the task, its samples, and its metadata."""
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
    results = lm_eval.simple_evaluate(
        model=lm, tasks=[task], task_manager=manager, bootstrap_iters=100, **kwargs
    )
    assert results is not None
    row = {key.removesuffix(",none"): value for key, value in results["results"][task].items()}
    return row, results["samples"][task], results["configs"][task]["metadata"]


def expected(samples: list[Any], zero: list[float]) -> float:
    """PrivLeak by scikit-learn."""
    labels = [sample["privleak"].split == "holdout" for sample in samples]
    auc = roc_auc_score(labels, [sample["privleak"].score for sample in samples])
    return float(100 * (auc / roc_auc_score(labels, zero) - 1))


@pytest.mark.parametrize("chosen", [range(12), [0, 1, 4, 5, 6, 8, 11]])
def test_each_text_has_its_own_score(lm: HFLM, scored_corpus: Path, chosen: Any) -> None:
    """Evaluate all texts, and seven; even positions are forget, odd ones holdout."""
    row, samples, metadata = evaluate(
        lm, {"corpus": str(scored_corpus)}, samples={"muse_privleak": list(chosen)}
    )
    zero = [(HOLDOUT if i % 2 else FORGET)[i // 2] for i in chosen]
    assert [sample["privleak"].retrain_score for sample in samples] == zero
    assert row["privleak"] == pytest.approx(expected(samples, zero))
    assert metadata["retrain_auc"] == RETRAIN_AUC


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if "zero of PrivLeak" in r.message]


def test_constant_for_fewer_texts_is_a_warning(
    lm: HFLM, corpus_folder: Path, scored_corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate(lm, {"corpus": str(corpus_folder)})
    evaluate(lm, {"corpus": str(corpus_folder)}, "muse_auc", limit=8)
    evaluate(lm, {"corpus": str(scored_corpus)}, limit=8)
    assert warnings(caplog) == []
    evaluate(lm, {"corpus": str(corpus_folder)}, limit=8)
    (warning,) = warnings(caplog)
    assert "0.4800, is the retrain AUC of all 12 texts and may be off for the 8" in warning


def test_scores_in_the_metadata_come_first(
    lm: HFLM, corpus_folder: Path, scored_corpus: Path, tmp_path: Path
) -> None:
    """They precede a published constant and the corpus' own scores."""
    path = str(write_scores(tmp_path / "scores.json"))
    news = {"data_dir": str(corpus_folder.parent)}
    row, samples, metadata = evaluate(lm, news, "muse_news_privleak")
    assert metadata["retrain_auc"] == 0.4772
    assert row["privleak"] == pytest.approx((row["auc"] / 0.4772 - 1) * 100)
    assert samples[0]["privleak"].retrain_score is None
    row, samples, metadata = evaluate(
        lm, news | {"retrain_scores": path}, "muse_news_privleak", limit=8
    )
    zero = [score for pair in zip(FORGET, HOLDOUT, strict=True) for score in pair][:8]
    assert row["privleak"] == pytest.approx(expected(samples, zero))
    assert metadata["retrain_auc"] == RETRAIN_AUC

    own: dict[str, list[float]] = {"forget": [], "holdout": []}
    for sample in evaluate(lm, {"corpus": str(scored_corpus)})[1]:
        own[sample["privleak"].split].append(sample["privleak"].score)
    Path(path).write_text(json.dumps({"scores": own}), encoding="utf-8")
    row, _, _ = evaluate(
        lm,
        {"corpus": str(scored_corpus), "retrain_scores": path},
        samples={"muse_privleak": list(range(4, 12))},
    )
    assert 0 < row["auc"] < 1
    assert (row["privleak"], row["privleak_stderr"]) == (0, 0)


def test_scores_of_other_texts_are_refused(corpus_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"scores": {"forget": FORGET[1:], "holdout": HOLDOUT}}))
    metadata = {"corpus": str(corpus_folder), "retrain_scores": str(path)}
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
    with pytest.raises(CorpusError, match="scores/forget has 5 scores, privleak/forget has 6"):
        manager.load(["muse_privleak"])
    manager.load(["muse_auc"])  # has no zero
