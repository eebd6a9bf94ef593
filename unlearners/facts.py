"""Facts about a training run that its settings do not tell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ._files import write_json

FACTS = "facts.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """Facts about a finished training run.

    Attributes:
        device: name of the GPU, or ``cpu``.
        processes: number of processes, each with a device of its own.
        batch_size: forget windows per process and forward pass.
        gradient_accumulation_steps: forward passes per optimizer step.
        effective_batch_size: forget windows per optimizer step, the product of the three above.
        steps: optimizer steps.
        parameters: number of parameters of the model, without an adapter.
        trained_parameters: number of parameters that were trained: of the model or the adapter.
    """

    device: str
    processes: int
    batch_size: int
    gradient_accumulation_steps: int
    effective_batch_size: int
    steps: int
    parameters: int
    trained_parameters: int


def write_training_facts(output_dir: Path, facts: TrainingFacts) -> None:
    """Write ``facts.json``."""
    write_json(output_dir / FACTS, dataclasses.asdict(facts))


def read_training_facts(output_dir: Path) -> TrainingFacts | None:
    """The facts about the run in ``output_dir``; None where it has none, or none to be read."""
    try:
        content = (output_dir / FACTS).read_bytes()
        return TypeAdapter(TrainingFacts).validate_json(content, strict=True)
    except (FileNotFoundError, ValidationError):
        return None
