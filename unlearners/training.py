"""Training settings: one run of the Hugging Face Trainer."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from quantizers.parameters import validate_fields

from .errors import UnlearnerError

Scheduler = Literal[
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of the training loop, the same for every method.

    Attributes:
        learning_rate: Peak learning rate of AdamW, or of the method's own optimizer.
        epochs: Number of passes over the forget windows; fractions are allowed.
        max_steps: Maximum number of optimizer steps, which overrides ``epochs``; None for no
            maximum.
        batch_size: Forget windows per device and forward pass. Each process has one device.
        gradient_accumulation_steps: Forward passes per optimizer step.
        lr_scheduler: Learning-rate schedule of transformers.
        warmup_ratio: Share of the steps used for linear warm-up, 0 to below 1. Schedules without
            warm-up ignore it.
        weight_decay: Decoupled weight decay of matrices; biases and norms are not decayed.
        max_grad_norm: L2 norm to which a larger gradient is scaled down; 0 disables clipping.
        window: Tokens per training window, BOS included.
        seed: Seed of data order, LoRA initialisation and dropout.
        weights_dtype: Dtype of the trained weights: those of the language model with full
            finetuning, those of the adapter with LoRA. With bfloat16 there is no float32 copy, so
            an update that is small compared to its weight has no effect.
        mixed_precision: ``"bf16"`` computes the forward pass under bfloat16 autocast; None
            computes in the weights' own dtype.
        disable_dropout: Turn the model's own dropout off in training, as in the reference. The
            dropout of LoRA is not affected. Noise in the routers of experts is turned off too.
        gradient_checkpointing: Recompute activations in the backward pass to save memory.
        save_steps: Optimizer steps between checkpoints; None saves none, so that an interrupted
            run starts again.
        report_to: Loggers of the Trainer, for example ``("tensorboard",)``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    learning_rate: PositiveFloat = 1e-5
    epochs: PositiveFloat = 5.0
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt = 4
    gradient_accumulation_steps: PositiveInt = 1
    lr_scheduler: Scheduler = "constant"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: NonNegativeFloat = 1.0
    window: Annotated[int, Field(ge=2)] = 2048
    seed: NonNegativeInt = 0
    weights_dtype: Literal["float32", "bfloat16"] = "float32"
    mixed_precision: Literal["bf16"] | None = None
    disable_dropout: bool = True
    gradient_checkpointing: bool = False
    save_steps: PositiveInt | None = 500
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validate and convert every setting by its annotation.

        Raises:
            UnlearnerError: A value is of the wrong type or out of range.
        """
        validate_fields(self, UnlearnerError)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values; ``TrainingSettings(**values)`` restores them."""
        return dataclasses.asdict(self) | {"report_to": list(self.report_to)}
