"""Checks of a single record: its names, schema, status and ranges."""

from __future__ import annotations

from typing import Any

import pytest

from leaderboard.submissions import record_checks
from quantizers import get_quantizer, list_quantizers

from .damage import (
    Folder,
    assert_named,
    field,
    problems,
    rename_method,
    sealed,
)

CASES = {
    # names
    "look-alike letter": (
        field("cell.training.method", "bounded_\u0430scent"),
        r"cell.training.method: bounded_\\u0430scent, expected \[a-z0-9\]",
    ),
    "look-alike letter in a file's name": (
        rename_method("bounded_\u0430scent"),
        r"records/corpus-.*--bounded_\\u0430scent--.*: not allowed in a submission",
    ),
    "upper case": (rename_method("Bounded"), r"cell.training.method: Bounded, expected"),
    "precision with spaces": (
        lambda folder: folder.change_cell(lambda cell: cell.update(precision="int 4")),
        r"records/.*int 4.*: not allowed in a submission",
    ),
    # schema
    "unknown field": (field("evil", 1), r"records/.*: evil: Extra inputs"),
    "missing field": (field("provenance", ...), r"provenance: Field required"),
    "text for a number": (field("metrics.verbmem.value", "5"), r"metrics.verbmem.value: .*number"),
    "truth for a number": (field("cell.training.seed", True), r"cell.training.seed: .*integer"),
    "version 1": (field("schema_version", 1), r"schema_version: 1, expected 2: run the grid again"),
    "no version": (field("schema_version", ...), r"schema_version: 1, expected 2: run the grid"),
    "version 3": (field("schema_version", 3), r"schema_version: 3, expected 2: run the grid again"),
    "survival": (
        field("survival.update", {}),
        r"records/.*: survival.update.parameters: Field req",
    ),
    "survival by quantizer": (
        field("survival.rounding", {"rtn-int4": {}}),
        r"records/.*: survival.rounding.rtn-int4: Extra inputs",
    ),
    "dtype not known": (
        lambda folder: folder.change_cell(lambda cell: cell["training"].update(dtype=None)),
        r"cell.training.dtype: missing",
    ),
    "tokenizer not known": (
        lambda folder: folder.change_cell(lambda cell: cell["training"].update(tokenizer=None)),
        r"cell.training.tokenizer: missing",
    ),
    "bits": (field("bits", 8, "target--none--rtn-int4"), r"bits: 8.0, rtn-int4 has 4"),
    "no bits": (field("bits", None, "target--none--rtn-int4"), r"bits: None, rtn-int4 has 4"),
    "bits of no quantizer": (field("bits", 4), r"bits: 4.0, none has None"),
    "bits as a parameter": (
        lambda folder: folder.change_cell(
            lambda cell: cell["quantizer_params"].update(bits=8), "target--none--rtn-int4"
        ),
        r"cell.quantizer_params.bits: 8, rtn-int4 has 4",
    ),
    "name of another cell": (
        field("cell.training.params.limit", 6.0),
        r"the file name is not that of its cell",
    ),
    "seed": (
        lambda folder: folder.change_cell(lambda cell: cell["training"].update(seed=3)),
        r"cell.training.settings.seed: differs from cell.training.seed, 3",
    ),
    # status and metrics
    "failed": (field("status", "failed"), r"status: failed, but every cell needs a result"),
    "diverged with metrics": (field("status", "diverged"), r"status: diverged, but there are"),
    "no reason": (
        field("metrics.utility", ...),
        r"metrics.utility: missing, and `reason` does not",
    ),
    "idle reason": (field("reason", "slow day"), r"reason: given, but no metric"),
    "unknown metric": (field("metrics.fun", {"value": 1, "stderr": 0}), r"metrics: fun, expected"),
    "other tasks": (
        field("extra", {"arc/acc": {"value": 1, "stderr": None}}),
        r"extra: arc/acc, but the cell has no extra tasks",
    ),
    "no answers": (field("samples", None), r"samples: missing; metrics cannot be recomputed"),
    # ranges
    "VerbMem above": (
        field("metrics.verbmem.value", 101),
        r"metrics.verbmem: 101.0, expected 0 to 100",
    ),
    "Utility below": (field("metrics.utility.value", -1), r"metrics.utility: -1.0, expected 0 to"),
    "PrivLeak below": (
        field("metrics.privleak.value", -101),
        r"privleak: -101.0, expected -100 to",
    ),
    "PrivLeak above": (
        field("metrics.privleak.value", 201),  # the retrain AUC is 1/3
        r"privleak: 201.0, expected -100 to 200",
    ),
    "error below": (field("metrics.verbmem.stderr", -1), r"verbmem: standard error -1.0"),
    "no retrain AUC": (field("provenance.retrain_auc", None), r"provenance.retrain_auc: missing"),
    "retrain AUC": (field("provenance.retrain_auc", 1.5), r"provenance.retrain_auc: 1.5, expected"),
    "other retrain AUC": (
        field("provenance.retrain_auc", 0.41),
        r"provenance.retrain_auc: 0.3333333333333333, other cells have 0.41",
    ),
    # versions
    "task version": (
        field("provenance.tasks.muse_knowmem", "0.9"),
        r"provenance.tasks.muse_knowmem: 0.9, this version of lm-eval-muse has 1.1",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_damaged_record_is_named(folder: Folder, name: str) -> None:
    damage, expected = CASES[name]
    assert_named(folder, sealed(damage), expected)


@pytest.mark.parametrize("left", ["metrics", "examples", "extra"])
def test_diverged_cell_has_no_numbers(folder: Folder, left: str) -> None:
    folder.answers().unlink()
    nothing: dict[str, Any] = {"metrics": {}, "examples": {}, "extra": {}, "samples": None}
    kept: dict[str, Any] = {
        "metrics": {"verbmem": {"value": 1.0, "stderr": None}},
        "examples": {"verbmem": {"examples": [0], "scores": [1.0]}},
        "extra": {"arc/acc": {"value": 1.0, "stderr": None}},
    }
    changes = {**nothing, left: kept[left]}
    folder.change(lambda record: record.update(status="diverged", reason="loss nan", **changes))
    folder.seal()
    assert any("status: diverged, but there are metrics" in line for line in problems(folder))


def test_diverged_cell_is_a_result(folder: Folder) -> None:
    """Diverged record with a reason, without metrics and answers."""
    folder.answers().unlink()
    nothing: dict[str, Any] = {"metrics": {}, "examples": {}, "extra": {}, "samples": None}
    folder.change(lambda record: record.update(status="diverged", reason="loss nan", **nothing))
    folder.seal()
    assert problems(folder) == []


BUILT_IN = sorted(name for name, owner in list_quantizers().items() if owner == "lm-eval-muse")


@pytest.mark.parametrize("name", BUILT_IN)
def test_bits_of_the_built_in_quantizers_are_known(name: str) -> None:
    """List of bits for the validation, which imports no quantizer."""
    assert record_checks.BUILT_IN_BITS[name] == get_quantizer(name).bits
