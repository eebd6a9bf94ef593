"""Parts of a model that unlearning and quantization work on, whatever its architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from .errors import QuantizerError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Classes that store experts × inputs × outputs and do not say so by an attribute `is_transposed`.
TRANSPOSED = {"Llama4TextExperts", "AriaGroupedExpertsGemm"}

# Projections of images that stand among the layers of a language model.
PROJECTIONS = {"GitProjection"}

CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_target_positions")
"""Names that configurations have for the number of tokens that a model reads."""


class ExpertWeights(NamedTuple):
    """Weights of several experts in one tensor.

    Attributes:
        name: Dotted name of the parameter.
        module: The module that holds it.
        parameter: The parameter's name in that module.
        axis: The dimension of `stack` that runs over input features, 1 or 2.
    """

    name: str
    module: nn.Module
    parameter: str
    axis: int

    @property
    def weight(self) -> nn.Parameter:
        """The parameter: in DBRX a matrix, experts one below the other, otherwise a `stack`."""
        return getattr(self.module, self.parameter)

    @property
    def stack(self) -> Tensor:
        """A view: experts × outputs × inputs, or experts × inputs × outputs."""
        return stacked(self.module, self.weight)


def stacked(module: nn.Module, weight: Tensor) -> Tensor:
    """View ``weight``, of a module of experts, with experts along dimension 0 of three."""
    if weight.ndim == 3:
        return weight
    experts: int = module.moe_num_experts  # type: ignore[assignment]
    return weight.unflatten(0, (experts, -1))


def is_multimodal(model: PreTrainedModel) -> bool:
    """True where the language model is a part of ``model``, next to parts for images or sound."""
    return model.config.get_text_config(decoder=True) is not model.config


def context_length(model: PreTrainedModel) -> int | None:
    """Number of tokens that the language model is made for; None where it names no limit."""
    config = model.config.get_text_config(decoder=True)
    lengths = (getattr(config, name, None) for name in CONTEXT)
    return next((length for length in lengths if isinstance(length, int) and length > 0), None)


@torch.no_grad()
def sees_later_tokens(logits: Callable[[Tensor], Tensor], example: Tensor) -> bool:
    """True where other tokens later on change the logits of earlier ones: the model is not causal.

    Args:
        logits: from token ids, (1, T), to (1, T, vocabulary), in evaluation mode.
        example: (1, T) int64 of at least four tokens, not all alike.
    """
    half = example.shape[1] // 2
    other = torch.cat([example[:, :half], example[:, half:].flip(1)], dim=1)
    one, two = (logits(ids)[0, :half].float() for ids in (example, other))
    return bool(torch.dist(one, two) > 1e-3 * one.norm())


def language_modules(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """Modules of the language model and their dotted names in ``model``.

    These are all modules of a text model. In a multimodal model they are those of its decoder and
    its output head, without towers for images or sound that the decoder holds.

    Raises:
        QuantizerError: the model does not say which part is its decoder.
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
    """Parameters of the language model and their dotted names in ``model``, each once."""
    inside = {id(p) for _, module in language_modules(model) for p in module._parameters.values()}
    yield from ((name, p) for name, p in model.named_parameters() if id(p) in inside)


def expert_weights(model: PreTrainedModel) -> Iterator[ExpertWeights]:
    """Tensors of the language model that hold the weights of several experts."""
    for name, module in language_modules(model):
        kind = type(module).__name__
        if kind == "DbrxExpertGLU":  # matrices, the second of a block inputs × outputs
            for parameter, axis in (("w1", 2), ("v1", 2), ("w2", 1)):
                yield ExpertWeights(f"{name}.{parameter}", module, parameter, axis)
        if "Experts" not in kind:
            continue
        axis = 1 if getattr(module, "is_transposed", kind in TRANSPOSED) else 2
        for parameter, tensor in module.named_parameters(recurse=False):
            if tensor.ndim == 3:
                yield ExpertWeights(f"{name}.{parameter}", module, parameter, axis)


def _towers(model: PreTrainedModel) -> Iterator[nn.Module]:
    """Models inside ``model`` that read no text, with all that is around them.

    A tower ends below the module that holds the input embeddings of the text too.
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
        around = (model.get_submodule(".".join(path[:end])) for end in range(1, len(path) + 1))
        yield from [part for part in around if embeddings not in part.modules()][:1]
