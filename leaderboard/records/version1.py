"""Records of version 1: read as version 2 with null for what they do not hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

SUBSETS = {"selection": "validation", "final": "test"}
BITS = {
    "bf16": None,
    **{f"rtn-int{bits}{form}": bits for bits in (2, 3, 4, 6, 8) for form in ("", "-packed")},
    **{f"quanto-int{bits}": bits for bits in (2, 4, 8)},
    "quanto-float8": 8,
    **dict.fromkeys(("bnb-fp4", "bnb-nf4", "gptq-int4", "awq-int4"), 4),
    "bnb-int8": 8,
}
"""Bits per weight of the quantizers of that time."""


def upgrade(content: Json) -> Json:
    """Bring the JSON of a record of version 1 into the fields of version 2.

    ``bf16`` of version 1 left the checkpoint as it was, whatever its dtype: it is ``none`` now.
    Dtype and tokenizer are not known. The survival report compared the files as they were stored,
    and only its total at the record's own precision is kept.

    Raises:
        LookupError, TypeError, AttributeError: The content is not a record of version 1.
    """
    cell = dict(content["cell"])
    training = dict(cell["training"])
    training["stage"] = training.pop("fold", None)
    precision, quantizer = cell["precision"], cell["quantizer"]
    cell |= {
        "training": training | {"tokenizer": None, "dtype": None},
        "precision": _renamed(precision, {"bf16": "none"}),
        "quantizer": _renamed(quantizer, {"bf16": "none"}),
        "subset": _renamed(cell.get("subset", "all"), SUBSETS),
    }
    return content | {
        "cell": cell,
        "bits": BITS.get(quantizer, cell["quantizer_params"].get("bits")),
        "survival": _survival(content.get("survival"), precision),
    }


def legacy_cell(content: Json) -> Json:
    """Give the JSON of a cell as version 1 wrote it, for its digest and its name."""
    names = {"none": "bf16"}
    old = {key: value for key, value in content.items() if key not in _NEW_IN_CELL}
    if "training" in old:
        old["training"] = legacy_training(old["training"])
    for key, renamed in (("precision", names), ("quantizer", names), ("subset", _OLD_SUBSETS)):
        if key in old:
            old[key] = _renamed(old[key], renamed)
    return old


def legacy_training(content: Json) -> Json:
    """Give the JSON of a training as version 1 wrote it, for its digest."""
    old = {key: value for key, value in content.items() if key not in ("tokenizer", "dtype")}
    old["fold"] = old.pop("stage")
    return old


_NEW_IN_CELL = ("chat_template", "batch_size", "retrain_auc")
_OLD_SUBSETS = {new: old for old, new in SUBSETS.items()}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    return names.get(value, value) if isinstance(value, str) else value


def _survival(report: Any, precision: str) -> Json | None:
    if report is None:
        return None
    total = dict(report["total"])
    crossing = total.pop("crossings").get(precision)
    unknown = dict.fromkeys(("kept_share", "noise", "zeroed_share"))
    return {"update": total, "rounding": None if crossing is None else unknown | crossing}
