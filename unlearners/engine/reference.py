"""Quantities of theta_ref, the model before unlearning, without a second model in memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from typing import cast as typed

import numpy as np
import torch

from .. import losses
from ..data import Windows
from ..errors import UnlearnerError
from ..files import replacing, sha256, write_json
from ..method import Need
from ..reference import Reference
from .dataset import ForgetRetainDataset

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class ReferenceBuilder:
    """Builder of the reference of one run, from the model before training.

    Log-probabilities are computed once, one per forget window. Logits of retain windows come from
    the model with its adapter disabled; with full finetuning, from final hidden states that are
    computed once and memory-mapped on disk, through a frozen copy of the output head.

    Args:
        model: Model with an adapter or without, on the device of training.
        autocast: True if training computes under bfloat16 autocast.
        batch_size: Windows per forward pass.
        cache: Folder of the files, with names by content: model, windows and arithmetic.
        model_digest: Digest of theta_ref.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        autocast: bool,
        batch_size: int,
        cache: Path,
        model_digest: str,
    ) -> None:
        self._model = model
        self._device = model.device
        self._autocast = autocast
        self._batch_size = batch_size
        self._cache = cache
        self._digest = model_digest
        self._has_adapter = hasattr(model, "disable_adapter")

    def build(self, dataset: ForgetRetainDataset, needs: frozenset[Need]) -> Reference:
        """Compute the quantities in ``needs``.

        Args:
            dataset: Windows of the run.
            needs: Needs of the method.

        Raises:
            UnlearnerError: The model cannot provide one of the quantities.
        """
        log_probs: torch.Tensor | None = None
        logits: Callable[[Windows], torch.Tensor] | None = None
        if "retain_logits" in needs:
            if dataset.retain is None:
                raise UnlearnerError("needs has 'retain_logits' without 'retain': declare both")
            if self._has_adapter:
                logits = self._logits_without_adapter
            else:
                logits = self._logits_from_hidden_states(dataset.retain)
        if "forget_log_probs" in needs:
            log_probs = self._forget_log_probs(dataset.forget)
        return Reference(log_probs, logits)

    @contextlib.contextmanager
    def _no_grad(self) -> Iterator[None]:
        """Disable gradients and compute with the precision of training."""
        autocast = torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast)
        with torch.no_grad(), autocast:
            yield

    @contextlib.contextmanager
    def _as_reference(self) -> Iterator[None]:
        """Turn the model into theta_ref: no dropout, no adapter, no gradient."""
        from .modes import evaluation_mode

        with self._no_grad(), contextlib.ExitStack() as stack:
            stack.enter_context(evaluation_mode(self._model))
            if self._has_adapter:
                stack.enter_context(typed("PeftModel", self._model).disable_adapter())
            yield

    def _forget_log_probs(self, windows: torch.Tensor) -> torch.Tensor:
        def compute(ids: torch.Tensor) -> torch.Tensor:
            return losses.sequence_log_probs(self._model(input_ids=ids).logits, ids)

        stored = self._stored("forget_log_probs", windows, compute)
        return _from_numpy(np.array(stored)).to(self._device)

    def _logits_without_adapter(self, windows: Windows) -> torch.Tensor:
        with self._as_reference():
            return self._model(input_ids=windows.input_ids).logits

    def _logits_from_hidden_states(self, retain: torch.Tensor) -> Callable[[Windows], torch.Tensor]:
        from .frozen_head import FrozenHead

        with self._as_reference():
            head = FrozenHead(self._model, retain[:1].to(self._device))
        stored = self._stored("last_hidden_states", retain, head.hidden_states)

        def logits(windows: Windows) -> torch.Tensor:
            hidden = _from_numpy(stored[windows.index.cpu().numpy()]).to(self._device)
            with self._no_grad():
                return head.logits(windows.input_ids, hidden)

        return logits

    def _stored(
        self, kind: str, windows: torch.Tensor, compute: Callable[[torch.Tensor], torch.Tensor]
    ) -> np.ndarray:
        """Return ``compute`` of all windows, memory-mapped, from the cache or computed now."""
        from accelerate import PartialState

        dtype = str(self._model.get_input_embeddings().weight.dtype)
        content = [kind, self._digest, dtype, self._autocast, list(windows.shape)]
        key = hashlib.sha256(json.dumps(content).encode())
        key.update(windows.numpy().tobytes())
        path = self._cache / f"{kind}-{key.hexdigest()[:16]}.npy"
        record = path.with_suffix(".json")
        with PartialState().main_process_first():
            if not _is_whole(path, record, key.hexdigest()):
                self._write(path, windows, compute)
                write_json(record, {"key": key.hexdigest(), "sha256": sha256(path)})
        return np.load(path, mmap_mode="r")

    def _write(
        self, path: Path, windows: torch.Tensor, compute: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        # not through a memory map: a full disk would end the process with SIGBUS
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            for start in range(0, len(windows), self._batch_size):
                ids = windows[start : start + self._batch_size].to(self._device)
                with self._as_reference():
                    values = _to_numpy(compute(ids).cpu())
                if start == 0:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(values.dtype),
                        "fortran_order": False,
                        "shape": (len(windows), *values.shape[1:]),
                    }
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(values.tobytes())


def _is_whole(path: Path, record: Path, key: str) -> bool:
    """Return True if a file of the cache matches its record."""
    try:
        return json.loads(record.read_bytes()) == {"key": key, "sha256": sha256(path)}
    except (FileNotFoundError, ValueError):  # ValueError: the record itself is damaged
        return False


def _to_numpy(values: torch.Tensor) -> np.ndarray:
    """Convert to numpy, with the bits of bfloat16, which numpy lacks, as int16."""
    return (values.view(torch.int16) if values.dtype == torch.bfloat16 else values).numpy()


def _from_numpy(values: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(values)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor


# Parts of a configuration that do not change what the model computes.
_IDLE = {"_name_or_path", "architectures", "dtype", "transformers_version", "use_cache"}


def model_digest(model: PreTrainedModel) -> str:
    """Compute the SHA-256 of configuration and parameters, which identifies the target model."""
    config = {key: value for key, value in model.config.to_dict().items() if key not in _IDLE}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        raw = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()
