"""Table of architectures and commands: ``make architectures`` writes docs/architectures.md.

Every architecture is a process of its own, so that a crash or a hang costs one row. Rows are kept
in build/architectures and made again when a library or a package of this repository has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import logging
import multiprocessing
import os
import pkgutil
import shutil
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import table, tiny
from .row import run_row
from .target import TOLERANCE

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "architectures"
DOCUMENT = ROOT / "docs" / "architectures.md"
LIBRARIES = ("torch", "transformers", "peft", "lm_eval", "bitsandbytes", "optimum-quanto")
PACKAGES = ("harness_tasks", "unlearners", "quantizers", "leaderboard")
MODULES = ("tiny", "target", "checks", "row")
TIME_LIMIT = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="model types, separated by commas")
    parser.add_argument("--again", action="store_true", help="also rows that are there already")
    parser.add_argument("--render", action="store_true", help="only write the document")
    options = parser.parse_args()
    known = tiny.model_types()
    chosen = options.only.split(",") if options.only else known
    if unknown := set(chosen) - set(known):
        parser.error(f"unknown model types: {', '.join(sorted(unknown))}")
    BUILD.mkdir(parents=True, exist_ok=True)
    libraries = {"libraries": {name: version(name) for name in LIBRARIES}}
    facts = libraries | {"sources": digest()}
    for number, model_type in enumerate([] if options.render else chosen, 1):
        row = read(model_type)
        if options.again or row is None or not row.items() >= facts.items():
            row = make(model_type) | facts
            path(model_type).write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
        print(f"[{number}/{len(chosen)}] {table.summary(row)}", flush=True)  # noqa: T201
    found = {model_type: read(model_type) for model_type in known}
    rows = {name: row for name, row in found.items() if row and row.items() >= libraries.items()}
    DOCUMENT.write_text(table.document(rows, libraries["libraries"], TOLERANCE), encoding="utf-8")
    wrong = table.count(rows)["WRONG"]
    sys.exit(f"{wrong} cells are WRONG" if wrong else 0)


def make(model_type: str) -> dict[str, Any]:
    """Make a row in a process of its own."""
    started = time.monotonic()
    if reason := tiny.NOT_BUILT.get(model_type):
        return {"model_type": model_type, "not_built": reason}
    place = Path(tempfile.mkdtemp(prefix="architectures-"))
    process = multiprocessing.get_context("fork").Process(target=work, args=(model_type, place))
    process.start()
    process.join(TIME_LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
        row = {"not_built": f"not done after {TIME_LIMIT} seconds"}
    elif (place / "row.json").is_file():
        row = json.loads((place / "row.json").read_text(encoding="utf-8"))
    else:
        row = {"not_built": f"the process ended with exit code {process.exitcode}"}
    shutil.rmtree(place)
    return {"model_type": model_type, **row, "seconds": round(time.monotonic() - started, 1)}


def work(model_type: str, place: Path) -> None:
    """Make a row and leave it in ``place/row.json``; what libraries print goes to a log."""
    with (BUILD / f"{model_type}.log").open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        row = run_row(model_type, place)
        (place / "row.json").write_text(json.dumps(row), encoding="utf-8")


def path(model_type: str) -> Path:
    return BUILD / f"{model_type}.json"


def read(model_type: str) -> dict[str, Any] | None:
    if not path(model_type).is_file():
        return None
    return json.loads(path(model_type).read_text(encoding="utf-8"))


def digest() -> str:
    """SHA-256 of all that the rows are made by."""
    files = [file for name in PACKAGES for file in sorted((ROOT / name).rglob("*.py"))]
    files += [
        Path(__file__).with_name(name) for name in ("tiny.py", "target.py", "checks.py", "row.py")
    ]
    joined = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(joined).hexdigest()[:16]


def import_everything() -> None:
    """Import what rows use, so that processes that are copies of this one find it there.

    It also keeps one version of every module for all rows while somebody edits them.
    """
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if "__main__" not in module.name:
                with contextlib.suppress(ImportError):  # of an optional library
                    importlib.import_module(module.name)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import_everything()
    main()
