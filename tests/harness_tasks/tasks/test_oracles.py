"""Comparison with a log of MUSE's own code for a Llama-2-7B on MUSE-News.

The environment variable ``MUSE_ORACLES`` names a folder with that log,
``oracles/muse_news_llama2_tv.json``, and the corpus, ``muse_news/news``.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

import harness_tasks
from harness_tasks import scoring

FOLDER = os.environ.get("MUSE_ORACLES")
ORACLES = Path(FOLDER or ".")
LOG = ORACLES / "oracles" / "muse_news_llama2_tv.json"
CORPUS = ORACLES / "muse_news"
pytestmark = pytest.mark.skipif(not FOLDER, reason="MUSE_ORACLES is not set")

TASKS = {"verbmem": "verbmem_f", "knowmem": "knowmem_f", "utility": "knowmem_r"}


@pytest.fixture(scope="module")
def log() -> dict[str, Any]:
    return json.loads(LOG.read_text(encoding="utf-8"))


@pytest.mark.parametrize("part", TASKS.values())
def test_logged_responses_give_logged_scores(log: dict[str, Any], part: str) -> None:
    scores = [scoring.rouge_l(s["response"], s["gt"]) for s in log[part]["samples"]]
    assert scores == pytest.approx([s["rougeL"] for s in log[part]["samples"]], abs=1e-12)
    assert sum(scores) / len(scores) == pytest.approx(log[part]["mean_rougeL"])


def test_logged_min_k_gives_logged_auc_and_privleak(log: dict[str, Any]) -> None:
    """MUSE logs negated log-probabilities."""
    scores = {
        split: [-s["Min-40%"] for s in log["privleak"][split]] for split in ("forget", "holdout")
    }
    auc, _ = scoring.auc_and_stderr(scores["holdout"], scores["forget"])
    assert auc == pytest.approx(log["privleak"]["auc"]["forget_holdout_Min-40%"])
    value = scoring.privleak(auc, log["privleak"]["retrain_auc"])
    assert value == pytest.approx(log["privleak"]["privleak"])


@pytest.mark.parametrize("split", ["forget", "holdout"])
def test_logged_zlib_ratio_is_loss_over_compressed_bytes(log: dict[str, Any], split: str) -> None:
    path = CORPUS / "news" / "privleak" / f"{split}.json"
    texts = json.loads(path.read_text(encoding="utf-8"))
    for text, logged in zip(texts, log["privleak"][split], strict=True):
        ours = scoring.attacks(text, [-logged["PPL"]], [-1.0], [0.0], [1.0])
        assert -ours["zlib"] == pytest.approx(logged["PPL/zlib"])
        assert -ours["loss"] == logged["PPL"]


@pytest.mark.parametrize(("task", "part"), TASKS.items())
def test_prompts_are_muses(log: dict[str, Any], task: str, part: str) -> None:
    manager = TaskManager(
        include_path=str(Path(harness_tasks.__file__).parent / "muse"),
        include_defaults=False,
        metadata={"data_dir": str(CORPUS)},
    )
    loaded = manager.load([f"muse_news_{task}"])["tasks"][f"muse_news_{task}"]
    loaded.build_all_requests()
    prompts = [i.args[0] for i in loaded.instances if i.request_type == "greedy_until"]
    digests = [hashlib.sha256(prompt.encode()).hexdigest() for prompt in prompts]
    assert digests == log[part]["prompt_sha256"]
