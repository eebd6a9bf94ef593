"""Checks of texts against a model's limits, and their errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RequestError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM


def too_long(request: Instance, length: str, limit: int) -> RequestError:
    """Make the error for a text longer than the model's context.

    Args:
        request: Request with the text.
        length: Length of the text in words, such as ``70 tokens``.
        limit: Context of the model in tokens.
    """
    return RequestError(
        f"{request.task_name}: text {request.doc_id} has {length}, the model holds {limit}; "
        "evaluate a model with a longer context (max_length= in --model_args if it holds more "
        """than it says), or cut texts and have the results say so with --metadata '{"truncate": """
        "true}'"
    )


def no_eos(lm: LM) -> RequestError:
    """Make the error for a tokenizer without an EOS token, which lm-eval's models need."""
    return RequestError(
        f"the tokenizer has no EOS token, which lm-eval's model class {type(lm).__name__} needs: "
        "set one, or evaluate with --model hf-muse"
    )


def embedding_rows(lm: LM) -> int | None:
    """Return the number of tokens with an embedding in the model; None if unknown."""
    model: Any = getattr(lm, "model", None)
    embeddings = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    weight = getattr(embeddings, "weight", None)
    return None if weight is None else getattr(embeddings, "num_embeddings", len(weight))


def check_ids(lm: LM, request: Instance, ids: Sequence[int]) -> None:
    """Refuse a text with a token that has no embedding in the model.

    Args:
        lm: The model.
        request: Request with the text, for the message.
        ids: Token ids of the text.

    Raises:
        RequestError: A token has no embedding.
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
