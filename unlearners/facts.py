"""Facts about a training run that its settings do not contain."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from .files import write_json

FACTS = "facts.json"


class TrainingFacts(BaseModel):
    """Circumstances of a training that affect its result, besides its settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    device: str
    """Name of the GPU, or `cpu`."""
    processes: int
    """Number of processes, each with its own device."""
    batch_size: int
    """Forget windows per process and forward pass."""
    gradient_accumulation_steps: int
    """Forward passes per optimizer step."""
    effective_batch_size: int
    """Forget windows per optimizer step: the product of the three fields above."""
    steps: int
    """Number of optimizer steps."""
    parameters: int
    """Number of parameters of the model, without an adapter."""
    trained_parameters: int
    """Number of trained parameters, of the model or of the adapter."""
    adapted_parameters: int | None = None
    """Number of parameters of the model in weights that training can change: with LoRA those of all
    weights with an adapter, otherwise all trained ones; null if they were not counted."""
    changed_weights: bool | None = None
    """False if all weights of the unlearned model equal those of the target; null if they were not
    compared."""


def write_training_facts(output_dir: Path, facts: TrainingFacts) -> None:
    """Write ``facts.json``."""
    write_json(output_dir / FACTS, facts.model_dump())


def read_training_facts(output_dir: Path) -> TrainingFacts | None:
    """Read ``facts.json`` of a training folder; None if it is missing or not valid."""
    try:
        content = (output_dir / FACTS).read_bytes()
        return TrainingFacts.model_validate_json(content, strict=True)
    except (FileNotFoundError, ValidationError):
        return None
