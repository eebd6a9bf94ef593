"""Parts of a model that unlearning and quantization change, for any architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from .errors import QuantizerError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Classes that store (experts, inputs, outputs) without an attribute `is_transposed`.
TRANSPOSED = {"Llama4TextExperts", "AriaGroupedExpertsGemm"}

# Projections of images among the layers of a language model.
PROJECTIONS = {"GitProjection"}

CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_target_positions")
"""Configuration keys of the maximum number of tokens, by architecture."""


class ExpertWeights(NamedTuple):
    """Weights of several experts in one tensor.

    Attributes:
        name: Dotted name of the parameter in the model.
        module: Module that owns the parameter.
        parameter: Name of the parameter in that module.
        axis: Dimension of `stack` for the input features, 1 or 2.
    """

    name: str
    module: nn.Module
    parameter: str
    axis: int

    @property
    def weight(self) -> nn.Parameter:
        """The parameter: a matrix of concatenated experts in DBRX, otherwise as `stack`."""
        return getattr(self.module, self.parameter)

    @property
    def stack(self) -> Tensor:
        """A view of shape (experts, outputs, inputs) or (experts, inputs, outputs)."""
        return stacked(self.module, self.weight)


def stacked(module: nn.Module, weight: Tensor) -> Tensor:
    """View a weight of a module of experts as three dimensions, the first one for the experts."""
    if weight.ndim == 3:
        return weight
    experts: int = module.moe_num_experts  # type: ignore[assignment]
    return weight.unflatten(0, (experts, -1))


def is_multimodal(model: PreTrainedModel) -> bool:
    """Return True if the language model is only a part of ``model``, as with images or sound."""
    return model.config.get_text_config(decoder=True) is not model.config


def context_length(model: PreTrainedModel) -> int | None:
    """Return the maximum number of tokens of the language model; None if it has no limit."""
    config = model.config.get_text_config(decoder=True)
    lengths = (getattr(config, name, None) for name in CONTEXT)
    return next((length for length in lengths if isinstance(length, int) and length > 0), None)


@torch.no_grad()
def sees_later_tokens(logits: Callable[[Tensor], Tensor], example: Tensor) -> bool:
    """Return True if later tokens change the logits of earlier ones: the model is not causal.

    Args:
        logits: Model in evaluation mode, from token ids (1, T) to logits (1, T, V).
        example: (1, T) int64, at least four tokens, not all of them equal.
    """
    half = example.shape[1] // 2
    changed = torch.cat([example[:, :half], example[:, half:].flip(1)], dim=1)
    before, after = (logits(ids)[0, :half].float() for ids in (example, changed))
    return bool(torch.dist(before, after) > 1e-3 * before.norm())


def language_modules(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of the language model with their dotted names in ``model``.

    In a text model these are all modules. In a multimodal model they are those of the decoder and
    of the output head, without towers for images or sound inside the decoder.

    Raises:
        QuantizerError: The model does not name its decoder.
    """
    parts: list[nn.Module] = [model]
    if is_multimodal(model):
        decoder, head = model.get_decoder(), model.get_output_embeddings()
        if decoder is model:
            raise QuantizerError(
                f"{type(model).__name__} does not say which of its parts is the language model; "
                "use a checkpoint of that part alone"
            )
        parts = [decoder] + ([] if head is None else [head])
    inside = {module for part in parts for module in part.modules()}
    for tower in _towers(model):
        inside -= set(tower.modules())
    yield from ((name, module) for name, module in model.named_modules() if module in inside)


def language_parameters(model: PreTrainedModel) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield every parameter of the language model once, with its dotted name in ``model``."""
    inside = {id(p) for _, module in language_modules(model) for p in module._parameters.values()}
    yield from ((name, p) for name, p in model.named_parameters() if id(p) in inside)


def expert_weights(model: PreTrainedModel) -> Iterator[ExpertWeights]:
    """Yield the tensors of the language model that contain the weights of several experts."""
    for name, module in language_modules(model):
        kind = type(module).__name__
        if kind == "DbrxExpertGLU":  # w2 is (inputs, outputs)
            for parameter, axis in (("w1", 2), ("v1", 2), ("w2", 1)):
                yield ExpertWeights(f"{name}.{parameter}", module, parameter, axis)
        if "Experts" not in kind:
            continue
        axis = 1 if getattr(module, "is_transposed", kind in TRANSPOSED) else 2
        for parameter, tensor in module.named_parameters(recurse=False):
            if tensor.ndim == 3:
                yield ExpertWeights(f"{name}.{parameter}", module, parameter, axis)


def _towers(model: PreTrainedModel) -> Iterator[nn.Module]:
    """Yield the largest parts of ``model`` with a submodel that reads no text.

    A tower does not contain the input embeddings of the text.
    """
    from transformers import PreTrainedModel

    embeddings = model.get_input_embeddings()
    for name, module in model.named_modules():
        if type(module).__name__ in PROJECTIONS:
            yield module
        if not name or not isinstance(module, PreTrainedModel):
            continue
        if "text" in module.input_modalities and module.main_input_name == "input_ids":
            continue
        path = name.split(".")
        parents = (model.get_submodule(".".join(path[:end])) for end in range(1, len(path) + 1))
        yield from [part for part in parents if embeddings not in part.modules()][:1]
