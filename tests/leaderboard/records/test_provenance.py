"""Machine and versions in a record."""

import subprocess
from importlib.metadata import version

import pytest
import torch

from leaderboard.records.provenance import provenance
from unlearners.onednn import is_available


def test_this_process() -> None:
    found = provenance("cpu", tasks={"muse_verbmem": "1.1"}, batch_size=4)
    assert found.packages["torch"] == version("torch")
    assert found.threads == torch.get_num_threads()
    assert (found.device, found.cuda, found.peak_gpu_mib) == ("cpu", None, None)
    assert (found.tasks, found.batch_size) == ({"muse_verbmem": "1.1"}, 4)
    assert found.peak_rss_mib > 100


@pytest.mark.parametrize("value", ["0", "1"])
def test_onednn_is_recorded(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LM_EVAL_MUSE_ONEDNN", value)
    assert provenance("cpu").onednn is (value == "1" and is_available())


def test_commit_of_the_checkout() -> None:
    git = ["git", "rev-parse", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    assert (provenance("cpu").git or "").removesuffix("+dirty") in (head, "")
