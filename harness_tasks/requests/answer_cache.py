"""Use of lm-eval's cache (``--use_cache``) for our requests, which lm-eval does not cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import hash_args

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM


def cached(
    lm: LM,
    kind: str,
    requests: Sequence[Instance],
    answer: Callable[[Sequence[Instance]], Sequence[Any]],
) -> list[Any]:
    """Answer requests from the cache, and missing ones by ``answer``.

    Args:
        lm: Model that has the cache; without one all requests go to ``answer``.
        kind: Name of the request in the cache.
        requests: The requests; those with equal arguments are answered once.
        answer: Function from requests to an equal number of JSON-compatible answers.

    Returns:
        One answer for every request.
    """
    store = lm.cache_hook.dbdict
    if store is None:
        return list(answer(requests))
    keys = [hash_args(kind, request.args) for request in requests]
    missing = {key: r for key, r in zip(keys, requests, strict=True) if key not in store}
    if missing:
        store.update(zip(missing, answer([*missing.values()]), strict=True))
        store.commit()
    return [store[key] for key in keys]
