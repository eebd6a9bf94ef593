"""Records of two corpora, for every form of the table."""

from collections.abc import Callable

import pytest

from leaderboard.records.schema import Record

MakeRecord = Callable[..., Record]
MoveRecord = Callable[[str, Record], Record]


@pytest.fixture(scope="session")
def on() -> MoveRecord:
    """Move a record to a corpus of another name."""

    def move(corpus: str, record: Record) -> Record:
        training = record.cell.training
        other = training.corpus.model_copy(update={"name": corpus, "fingerprint": corpus})
        changed = training.model_copy(update={"corpus": other})
        cell = record.cell.model_copy(update={"training": changed})
        return record.model_copy(update={"cell": cell})

    return move


@pytest.fixture
def records(make: MakeRecord, on: MoveRecord) -> list[Record]:
    """Two corpora; the target, the retrained model, two methods; `ga` did not forget."""
    values = {
        "target": (100.0, 80.0, -100.0, 80.0),
        "retrain": (20.0, 30.0, 0.0, 80.0),
        "npo": (20.0, 40.0, -50.0, 60.0),
        "simnpo": (30.0, 35.0, 40.0, 60.0),
        "ga": (90.0, 31.0, -10.0, 79.0),
    }
    return [
        on(corpus, make(method, precision, numbers))
        for corpus in ("books", "news")
        for precision in ("none", "rtn-int4")
        for method, numbers in values.items()
    ]
