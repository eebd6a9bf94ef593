"""Checks of texts against what a model holds, and the errors that they raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RequestError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM


def too_long(request: Instance, length: str, limit: int) -> RequestError:
    """The error for a text longer than the model's context."""
    return RequestError(
        f"{request.task_name}: text {request.doc_id} has {length}, the model holds {limit}; "
        "evaluate a model with a longer context (max_length= in --model_args where it holds more "
        """than it says), or cut texts and have the results say so with --metadata '{"truncate": """
        "true}'"
    )


def no_eos(lm: LM) -> RequestError:
    """The error for a tokenizer without an EOS token, which lm-eval's own model classes need."""
    return RequestError(
        f"the tokenizer has no EOS token, which lm-eval's model class {type(lm).__name__} needs: "
        "set one, or evaluate with --model hf-muse"
    )


def embedding_rows(lm: LM) -> int | None:
    """Tokens that the model has an embedding of; None where its class does not tell."""
    model: Any = getattr(lm, "model", None)
    embeddings = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    weight = getattr(embeddings, "weight", None)
    return None if weight is None else getattr(embeddings, "num_embeddings", len(weight))


def check_ids(lm: LM, request: Instance, ids: Sequence[int]) -> None:
    """Refuse a text with a token that the model has no embedding of.

    Raises:
        RequestError: naming the token.
    """
    rows = embedding_rows(lm)
    if rows is None or not ids or (index := max(ids)) < rows:
        return
    tokenizer: Any = lm.tokenizer
    raise RequestError(
        f"{request.task_name}: text {request.doc_id} has token {index} "
        f"({tokenizer.convert_ids_to_tokens(index)}), the model has embeddings of {rows} tokens: "
        "evaluate with the tokenizer that the model was trained with, or resize its embeddings "
        "(resize_token_embeddings)"
    )
