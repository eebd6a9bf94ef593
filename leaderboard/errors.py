"""Errors that are the user's to mend: shown as one line, exit code 2."""

from __future__ import annotations

from harness_tasks.corpora import CorpusError
from harness_tasks.token_logprobs import RequestError
from quantizers import QuantizerError
from unlearners import UnlearnerError


class InputError(ValueError):
    """A setting, file or folder the user gave cannot be used; the message is one line."""


USER_ERRORS = (InputError, CorpusError, RequestError, QuantizerError, UnlearnerError)
