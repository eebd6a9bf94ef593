"""Contract between a method and the training loop."""

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
"""Input of a loss in addition to the forget windows; see ``Method.needs``."""


class Objective(Protocol):
    """Losses of a training run."""

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """Compute the loss of one batch; see ``Method.loss``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """Part of an unlearner that the training loop calls.

    A method implements ``loss`` and overrides ``needs``, ``create_optimizer``, ``begin`` and
    ``edit`` as required.
    """

    @property
    def needs(self) -> frozenset[Need]:
        """Inputs of ``loss`` other than the forget windows.

        - ``"retain"``: the retain windows, ``batch.retain``;
        - ``"forget_log_probs"``: ``reference.log_probs`` of the forget windows;
        - ``"retain_logits"``: ``reference.logits`` of the retain windows; needs ``"retain"`` too.

        A subclass overrides this property, or sets a class attribute ``needs`` if the set does
        not depend on the parameters.
        """
        return frozenset()

    def loss(
        self, model: PreTrainedModel, batch: Batch, reference: Reference
    ) -> Mapping[str, torch.Tensor]:
        """Compute the loss of one batch.

        Args:
            model: Model in training. It may be wrapped for distributed training, so only call it:
                ``model(input_ids=ids).logits`` with ids (B, T) int64 gives (B, T, V).
            batch: Forget windows, and retain windows if ``needs`` declares them.
            reference: Quantities of the model before unlearning that ``needs`` declares.

        Returns:
            Scalars by name. ``"loss"`` is minimised, and all are logged. Each is a mean over the
            batch's windows, or over their tokens (windows have equal lengths).
        """
        raise NotImplementedError

    def create_optimizer(
        self, parameters: list[dict[str, Any]], training: TrainingSettings
    ) -> torch.optim.Optimizer:
        """Create the optimizer; AdamW unless overridden.

        Args:
            parameters: Parameter groups with their weight decay, as ``torch.optim`` takes them.
            training: Settings of the run.
        """
        from torch.optim import AdamW

        return AdamW(parameters, lr=training.learning_rate)

    def begin(self, model: PreTrainedModel, forget: Windows) -> Objective:
        """Return the object with the ``loss`` of one run; this one unless overridden.

        A method with state or hooks returns a new object for the run. If that is a
        ``TrainerCallback``, the Trainer calls it at every event: ``on_pre_optimizer_step`` after
        the gradient is complete and clipped, ``on_optimizer_step`` after the update. If it is an
        ``ExportableState`` too, checkpoints contain its ``state()``, and a resumed run reads it in
        ``on_train_begin`` from ``state.stateful_callbacks``.

        Args:
            model: Model in training, still with the weights of the target. A method may compute a
                mask from them or freeze some.
            forget: All forget windows, on the model's device.
        """
        return self

    def edit(self, original: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
        """Compute the final value of one weight; the trained one unless overridden.

        Args:
            original: Weight of the target model, float32.
            trained: Weight after training, float32, of the same shape.

        Returns:
            The final weight, float32, of the same shape.
        """
        return trained

    @property
    def has_state(self) -> bool:
        """True if ``begin`` is overridden."""
        return type(self).begin is not Method.begin

    @property
    def edits_weights(self) -> bool:
        """True if ``edit`` is overridden."""
        return type(self).edit is not Method.edit

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; ``get_unlearner(name, **values)`` restores them."""
        return dataclasses.asdict(self)


def check_needs(method: Method) -> None:
    """Refuse an unknown entry of ``needs``.

    Raises:
        UnlearnerError: An entry is unknown; the message lists the known ones.
    """
    known = sorted(get_args(Need))
    unknown = sorted(repr(need) for need in method.needs if need not in known)
    if unknown:
        raise UnlearnerError(
            f"{type(method).__name__}: unknown needs {', '.join(unknown)}: available: "
            f"{', '.join(known)}"
        )
