"""Records of version 1."""

import json

import pytest

from leaderboard.records.schema import (
    digest,
)
from leaderboard.records.store import parse_record

VERSION_1 = {
    "schema_version": 1,
    "cell": {
        "training": {
            "corpus": {
                "name": "demo",
                "source": "generated",
                "revision": None,
                "fingerprint": "b587c2997e8340249bcaa170678f8512a92f71a7ef239e1c50eb222e4c03b502",
                "forget": "raw/forget",
                "retain": "raw/retain1",
                "max_documents": None,
            },
            "model": {"name": "demo-target", "revision": "recipe:5550f204"},
            "method": "target",
            "params": {},
            "finetuning": "none",
            "finetuning_params": {},
            "settings": {},
            "seed": 0,
            "fold": None,
        },
        "precision": "bf16",
        "quantizer": "bf16",
        "quantizer_params": {},
        "subset": "final",
        "limit": None,
        "extra_tasks": [],
    },
    "status": "done",
    "reason": None,
    "metrics": {"verbmem": {"value": 99.5, "stderr": 0.25}},
    "survival": None,
    "calibration": None,
    "extra": {},
    "samples": None,
    "provenance": {
        "created": "2026-11-22T02:31:18+00:00",
        "packages": {},
        "python": "3.11.7",
        "platform": "Linux",
        "device": "cpu",
        "threads": 1,
        "git": None,
        "tasks": {},
        "retrain_auc": 0.41,
        "seconds": None,
        "peak_rss_mib": 979,
    },
    "sha256": None,
}


def test_version_1_is_read_as_what_it_is() -> None:
    record = parse_record(VERSION_1)
    assert record.schema_version == 1
    assert record.cell.training.dtype is None
    assert record.cell.training.tokenizer is None
    assert (record.cell.quantizer, record.cell.precision) == ("none", "none")
    assert record.cell.subset == "test"
    assert (record.bits, record.dtype, record.examples) == (None, None, {})
    assert record.metrics["verbmem"].low is None


def test_version_1_keeps_its_name() -> None:
    """The digest is of the JSON that version 1 wrote, computed here from that alone."""
    text = json.dumps(VERSION_1["cell"], sort_keys=True, separators=(",", ":"))
    import hashlib

    expected = hashlib.sha256(text.encode()).hexdigest()[:8]
    record = parse_record(VERSION_1)
    assert record.cell.stem == f"demo--target--none--bf16--seed0--{expected}"
    training = json.dumps(VERSION_1["cell"]["training"], sort_keys=True, separators=(",", ":"))
    assert digest(record.cell.training) == hashlib.sha256(training.encode()).hexdigest()[:8]


@pytest.mark.parametrize("lost", ["cell", "provenance"])
def test_half_a_record_of_version_1_is_refused(lost: str) -> None:
    content = {key: value for key, value in VERSION_1.items() if key != lost}
    with pytest.raises(ValueError, match=lost):
        parse_record(content)


def test_survival_of_version_1_keeps_the_precision_of_the_record() -> None:
    crossing = {"changed_indices": 0.13, "changed_scales": 1.0, "largest_move": 1.6}
    total = {"parameters": 4, "norm": 3.0, "relative_norm": 0.05, "effective_rank": 29.5}
    report = {"total": total | {"crossings": {"rtn-int4": crossing}}, "kinds": {}, "layers": {}}
    cell = VERSION_1["cell"] | {
        "precision": "rtn-int4",
        "quantizer": "rtn-int4",
        "quantizer_params": {"bits": 4},
    }
    record = parse_record(VERSION_1 | {"cell": cell, "survival": report})
    assert record.bits == 4
    assert record.survival.update.relative_norm == 0.05
    assert record.survival.rounding.changed_indices == 0.13
    assert record.survival.rounding.kept_share is None
