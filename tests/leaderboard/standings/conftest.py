"""Reference records, and changes of records."""

from collections.abc import Callable
from typing import Any

import pytest

from leaderboard.records.schema import Record

MakeRecord = Callable[..., Record]
TARGET = (100.0, 80.0, -100.0, 80.0)
RETRAIN = (20.0, 30.0, 0.0, 78.0)


@pytest.fixture
def references(make: MakeRecord) -> list[Record]:
    return [
        make(role, precision, values)
        for precision in ("none", "rtn-int4")
        for role, values in (("target", TARGET), ("retrain", RETRAIN))
    ]


@pytest.fixture(scope="session")
def recorded() -> Callable[..., Record]:
    """Change the cell of a record, or the training in it."""

    def change(record: Record, training: dict[str, Any] | None = None, **cell: Any) -> Record:
        changed = record.cell.training.model_copy(update=training or {})
        return record.model_copy(
            update={"cell": record.cell.model_copy(update={"training": changed, **cell})}
        )

    return change
