"""Reference of the record format as Markdown, from the models that document it.

``python -m leaderboard.records.reference`` prints it, for ``docs/records.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from unlearners.facts import TrainingFacts

from . import schema, survival

MODELS: tuple[type[BaseModel], ...] = (
    schema.Record,
    schema.Cell,
    schema.Training,
    schema.CorpusId,
    schema.ModelId,
    schema.SuiteStage,
    schema.RetrainAuc,
    schema.Metric,
    schema.ExampleScores,
    schema.Survival,
    survival.Update,
    survival.Rounding,
    schema.Provenance,
    TrainingFacts,
    schema.Seconds,
    survival.SurvivalReport,
    survival.LayerSurvival,
)


def reference() -> str:
    """A section for each model, with a line for each field: name, type and meaning."""
    return "\n\n".join("\n".join(_section(model)) for model in MODELS) + "\n"


def _section(model: type[BaseModel]) -> Iterator[str]:
    summary = (model.__doc__ or "").strip().partition("\n")[0]
    yield f"### {model.__name__}\n\n{summary}\n"
    yield "| Field | Type | Meaning |\n| --- | --- | --- |"
    for name, content in model.model_json_schema()["properties"].items():
        meaning = " ".join(content.get("description", "").split()).replace("|", r"\|")
        yield f"| `{name}` | {_type(content)} | {meaning} |"


def _type(content: dict[str, Any]) -> str:
    """A type of JSON schema in words."""
    if "$ref" in content:
        return content["$ref"].rpartition("/")[2]
    if "anyOf" in content:
        return " or ".join(_type(choice) for choice in content["anyOf"])
    if "enum" in content:
        return ", ".join(f"`{value}`" for value in content["enum"])
    if content.get("type") == "array":
        return f"list of {_type(content['items'])}"
    if content.get("type") == "object" and isinstance(content["additionalProperties"], dict):
        return f"object of {_type(content['additionalProperties'])}"
    return str(content.get("type", "any"))


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201
