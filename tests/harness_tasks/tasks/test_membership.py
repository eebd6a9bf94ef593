"""Membership inference tasks through lm-eval, against a reference written from the protocol."""

import zlib
from pathlib import Path

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import make_table
from sklearn.metrics import roc_auc_score

from harness_tasks.errors import CorpusError

from ..evaluating import evaluate, score
from .reference import Reference


def test_limit_of_one_leaves_auc_without_a_number(lm: HFLM, corpus_folder: Path) -> None:
    results = evaluate(lm, corpus_folder, ["muse_privleak"], limit=1)
    assert score(results, "muse_privleak", "privleak").startswith("N/A")
    assert score(results, "muse_privleak", "privleak_stderr") == "N/A"
    assert "N/A" in make_table(results)


def test_no_bootstrap_needed_for_errors(lm: HFLM, corpus_folder: Path) -> None:
    results = evaluate(lm, corpus_folder, ["muse_privleak"], bootstrap_iters=0)
    assert score(results, "muse_privleak", "auc_stderr") > 0
    assert score(results, "muse_privleak", "privleak_stderr") > 0


def test_attacks_are_muses(lm: HFLM, corpus_folder: Path) -> None:
    """They equal those of one text at a time; the AUC of Min-40% is that of PrivLeak."""
    tasks = ["muse_mia", "muse_privleak"]
    results = evaluate(lm, corpus_folder, tasks)
    muse = Reference(lm.model, lm.tokenizer, corpus_folder)
    scores: dict[str, list[float]] = {"loss": [], "lower": [], "zlib": [], "min_20_plus_plus": []}
    labels = []
    for split in ("forget", "holdout"):
        for text in muse.read(f"privleak/{split}"):
            labels.append(int(split == "holdout"))
            ids = muse.encode(text)
            with torch.no_grad():
                loss = lm.model(ids, labels=ids).loss.item()
                lower_ids = muse.encode(text.lower())
                lower = lm.model(lower_ids, labels=lower_ids).loss.item()
                logprobs = lm.model(ids).logits[0, :-1].double().log_softmax(-1)
            own = logprobs.gather(-1, ids[0, 1:, None])[:, 0]
            mean = (logprobs.exp() * logprobs).sum(-1)
            variance = (logprobs.exp() * logprobs**2).sum(-1) - mean**2
            normal = ((own - mean) / variance.sqrt()).sort().values
            scores["loss"].append(-loss)
            scores["lower"].append(-loss / lower)
            scores["zlib"].append(-loss / len(zlib.compress(text.encode())))
            scores["min_20_plus_plus"].append(normal[: int(0.2 * len(normal))].mean().item())
    for attack, values in scores.items():
        items = [sample[f"auc_{attack}"].score for sample in results["samples"]["muse_mia"]]
        alternating = [v for pair in zip(values[:6], values[6:], strict=True) for v in pair]
        assert items == pytest.approx(alternating, abs=1e-4)
        auc = score(results, "muse_mia", f"auc_{attack}")
        assert auc == pytest.approx(roc_auc_score(labels, values), abs=1e-4)
    assert score(results, "muse_mia", "auc_min_40") == score(results, "muse_privleak", "auc")
    assert score(results, "muse_mia", "auc_min_40_stderr") > 0


def test_privleak_without_retrain_auc_is_refused_but_the_auc_is_not(
    lm: HFLM, corpus_folder: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    (bare / "privleak").mkdir(parents=True)
    for split in ("forget", "holdout"):
        source = corpus_folder / f"privleak/{split}.json"
        (bare / f"privleak/{split}.json").write_bytes(source.read_bytes())
    with pytest.raises(CorpusError, match=r"has no retrain AUC.*corpus retrain-auc"):
        evaluate(lm, bare, ["muse_privleak"])
    assert 0 <= score(evaluate(lm, bare, ["muse_auc"]), "muse_auc", "auc") <= 1
