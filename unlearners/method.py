"""Contract between a method and the training loop: what a method says, does and needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from .errors import UnlearnerError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from .data import Batch, Windows
    from .reference import Reference
    from .training import TrainingSettings

Need = Literal["retain", "forget_log_probs", "retain_logits"]


class Objective(Protocol):
    """Losses of a training run."""

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """See ``Method.loss``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """Part of an unlearner that the training loop calls.

    A method implements ``loss`` and overrides whatever else it uses: ``needs``,
    ``create_optimizer``, ``begin``, ``edit``.
    """

    @property
    def needs(self) -> frozenset[Need]:
        """Inputs of ``loss`` other than the forget windows.

        ``"retain"``: retain windows; ``"forget_log_probs"``: ``reference.log_probs`` of the forget
        windows; ``"retain_logits"``, together with ``"retain"``: ``reference.logits`` of the
        retain windows. A subclass overrides this property, or sets a class attribute ``needs``
        where the set is always the same.
        """
        return frozenset()

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """The loss of one batch.

        Args:
            model: the model in training, perhaps wrapped: only to be called, as
                ``model(input_ids=...).logits``.
            batch: its forget windows and, where needed, the retain windows paired with them.
            reference: numbers of the model before unlearning, as declared in ``needs``.

        Returns:
            scalars; ``"loss"`` is minimised, every entry is logged. All are means over the
            batch's windows (or over all their tokens: windows have equal lengths).
        """
        raise NotImplementedError

    def create_optimizer(
        self, parameters: list[dict[str, Any]], training: TrainingSettings
    ) -> torch.optim.Optimizer:
        """The optimizer of the given parameter groups: AdamW unless overridden."""
        from torch.optim import AdamW

        return AdamW(parameters, lr=training.learning_rate)

    def begin(self, model: PreTrainedModel, forget: Windows) -> Objective:
        """The object that gives the losses of one run: this one, unless a run has state.

        A method with state or hooks returns an object of its own, made for the run. Where that is
        a ``TrainerCallback`` it is called at every event of the Hugging Face Trainer:
        ``on_pre_optimizer_step`` once the gradient is complete and clipped,
        ``on_optimizer_step`` once the weights have moved. State that a resumed run needs goes
        through the Trainer's checkpoint where the object is an ``ExportableState`` too: written
        from its ``state()``, to be read again in ``on_train_begin`` from
        ``state.stateful_callbacks``.

        Args:
            model: the model in training, its weights still those of the target: the place to
                compute a mask from them, or to freeze some.
            forget: all forget windows, on the model's device.
        """
        return self

    def edit(self, original: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
        """The final value of one weight, from its target and its trained value; all float32."""
        return trained

    @property
    def has_state(self) -> bool:
        """True where a run has losses of its own, made by ``begin``."""
        return type(self).begin is not Method.begin

    @property
    def edits_weights(self) -> bool:
        """True where the final weights are not the trained ones but made by ``edit``."""
        return type(self).edit is not Method.edit

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-compatible values; ``get_unlearner`` takes it back."""
        return dataclasses.asdict(self)


def check_needs(method: Method) -> None:
    """Refuse an entry of ``needs`` that does not exist.

    Raises:
        UnlearnerError: naming it and those that do.
    """
    known = sorted(get_args(Need))
    unknown = sorted(repr(need) for need in method.needs if need not in known)
    if unknown:
        raise UnlearnerError(
            f"{type(method).__name__}: unknown needs {', '.join(unknown)}: available: "
            f"{', '.join(known)}"
        )
