"""Training settings: one run of the Hugging Face Trainer."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from .validation import (
    COUNT,
    COUNT_OR_NONE,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Rule,
    check,
    one_of,
)

SCHEDULERS = (
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
)
_RULES: dict[str, Rule] = {
    "learning_rate": POSITIVE,
    "epochs": POSITIVE,
    "max_steps": COUNT_OR_NONE,
    "batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "lr_scheduler": one_of(*SCHEDULERS),
    "warmup_ratio": SHARE,
    "weight_decay": NOT_NEGATIVE,
    "max_grad_norm": NOT_NEGATIVE,
    "window": (lambda v: isinstance(v, int) and v >= 2, "an integer of at least 2"),
    "seed": (lambda v: isinstance(v, int) and v >= 0, "an integer of at least 0"),
    "weights_dtype": one_of("float32", "bfloat16"),
    "mixed_precision": one_of("bf16", None),
    "save_steps": COUNT_OR_NONE,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of the training loop, the same for every method.

    Attributes:
        learning_rate: of AdamW (or the method's own optimizer).
        epochs: passes over the forget windows.
        max_steps: optimizer steps after which training ends, whatever ``epochs`` says.
        batch_size: forget windows per process and forward pass; a process has one device.
        gradient_accumulation_steps: forward passes per optimizer step.
        lr_scheduler: a schedule of transformers, one of ``SCHEDULERS``.
        warmup_ratio: share of the steps (0 to below 1) of linear warm-up, where the schedule has
            one.
        weight_decay: of the optimizer.
        max_grad_norm: the gradient is scaled down to this norm; 0 leaves it alone.
        window: tokens per training window, BOS included.
        seed: of data order, LoRA initialisation and dropout.
        weights_dtype: dtype in which the trained weights are kept: all of the model's in full
            finetuning, the adapter's in LoRA. With bfloat16 there is no float32 copy: an update
            that is small compared to a weight leaves it unchanged.
        mixed_precision: ``"bf16"`` computes the forward pass under bfloat16 autocast.
        disable_dropout: train without the model's own dropout, which the reference lacks too; that
            of LoRA stays. (The noise that some experts' routers have in training is off, too.)
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        save_steps: optimizer steps between checkpoints; None keeps none and cannot resume.
        report_to: loggers of the Trainer, for example ``("tensorboard",)``.
    """

    learning_rate: float = 1e-5
    epochs: float = 5.0
    max_steps: int | None = None
    batch_size: int = 4
    gradient_accumulation_steps: int = 1
    lr_scheduler: str = "constant"
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    window: int = 2048
    seed: int = 0
    weights_dtype: Literal["float32", "bfloat16"] = "float32"
    mixed_precision: Literal["bf16"] | None = None
    disable_dropout: bool = True
    gradient_checkpointing: bool = False
    save_steps: int | None = 500
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UnlearnerError: the first setting that is out of range.
        """
        object.__setattr__(self, "report_to", tuple(self.report_to))
        check(self, _RULES, "training setting ")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-compatible values; ``TrainingSettings(**d)`` takes them back."""
        return dataclasses.asdict(self) | {"report_to": list(self.report_to)}
