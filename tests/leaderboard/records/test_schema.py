"""The record format: identity, version 1, layout of the files."""

from collections.abc import Callable

import pytest
from pydantic import BaseModel

from leaderboard.records import schema
from leaderboard.records import survival as survival_schema
from leaderboard.records.schema import (
    ExampleScores,
    ModelId,
    Record,
    RetrainAuc,
)
from leaderboard.records.store import read_record, record_text

MakeRecord = Callable[..., Record]


CHANGES = [
    ("dtype", lambda cell: cell.training.model_copy(update={"dtype": "bfloat16"})),
    (
        "tokenizer",
        lambda cell: cell.training.model_copy(
            update={"tokenizer": ModelId(name="other", revision="r")}
        ),
    ),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_loading_decides_checkpoint_and_cell(make: MakeRecord, name: str, change) -> None:
    cell = make("npo").cell
    other = cell.model_copy(update={"training": change(cell)})
    assert other.training.stem != cell.training.stem
    assert other.stem != cell.stem


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8},
        {"chat_template": True},
        {"retrain_auc": RetrainAuc(source="published", value=0.4772, model=None)},
    ],
)
def test_evaluation_decides_the_cell_alone(make: MakeRecord, change) -> None:
    cell = make("npo").cell
    other = cell.model_copy(update=change)
    assert other.stem != cell.stem
    assert other.training.stem == cell.training.stem


def test_every_field_is_documented() -> None:
    """A description ends as a sentence does; sub-models are described where they are defined."""
    undocumented = [
        f"{model.__name__}.{name}"
        for module in (schema, survival_schema)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, BaseModel) and model.model_fields
        for name, field in model.model_fields.items()
        if not (field.description or "").endswith((".", ")"))
    ]
    assert undocumented == []


def test_a_file_is_read_back(make: MakeRecord, tmp_path) -> None:
    examples = {"verbmem": ExampleScores(examples=(0, 2), scores=(33.333333, None))}
    record = make("npo").model_copy(update={"examples": examples})
    path = tmp_path / f"{record.cell.stem}.json"
    path.write_text(record_text(record))
    found = read_record(path)
    assert found == record
