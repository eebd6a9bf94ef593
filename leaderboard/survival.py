"""What of a checkpoint's update survives rounding, measured once per checkpoint."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness_tasks.sealed import SEAL, digest, sealed
from quantizers import Quantizer, get_quantizer
from quantizers.rtn import RoundToNearest
from quantizers.survival import SurvivalReport, survival

from .config import ModelSource
from .errors import InputError
from .store import replace_file

ALWAYS = ("rtn-int8", "rtn-int4")


def measure(
    target: ModelSource, unlearned: Path, precisions: dict[str, Quantizer]
) -> SurvivalReport:
    """Compare two unquantized models over the run's round-to-nearest grids, and int8 and int4.

    Args:
        target: the model before unlearning.
        unlearned: folder of the unlearned model.
        precisions: the run's quantizers by name; those that are not round-to-nearest have no
            grid of their own to cross.
    """
    grids = {name: get_quantizer(name) for name in ALWAYS} | precisions
    first = get_quantizer(ALWAYS[0])
    return survival(
        local_folder(target),
        unlearned,
        {
            name: grid
            for name, grid in grids.items()
            if isinstance(grid, RoundToNearest)
            and isinstance(first, RoundToNearest)
            and (grid.skip, grid.quantize_head) == (first.skip, first.quantize_head)
        },
    )


def measure_once(
    file: Path, target: ModelSource, unlearned: Path, precisions: dict[str, Quantizer]
) -> dict[str, Any]:
    """The report as JSON, from ``file`` where it is whole and covers all precisions already."""
    if file.exists():
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):  # damaged
            kept = json.loads(file.read_text(encoding="utf-8"))
            whole = kept.pop(SEAL) == digest(kept)
            if whole and _grids(precisions) <= kept["total"]["crossings"].keys():
                return kept
    report = measure(target, unlearned, precisions).to_dict()
    replace_file(file, json.dumps(sealed(report), indent=1) + "\n")
    return report


def _grids(precisions: dict[str, Quantizer]) -> Iterable[str]:
    return {name for name, grid in precisions.items() if isinstance(grid, RoundToNearest)}


def local_folder(source: ModelSource) -> Path:
    """The folder of a model; one on the hub is in the local cache once it was loaded.

    Raises:
        InputError: it is neither a folder nor on the hub.
    """
    if Path(source.path).is_dir():
        return Path(source.path)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                source.path,
                revision=source.revision,
                allow_patterns=["*.safetensors", "*.json"],
            )
        )
    except Exception as error:  # the hub's own errors share no base class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{source.path}: no such model: {reason}") from error
