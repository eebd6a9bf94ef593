"""Training with weights that FSDP or DeepSpeed splits over processes.

Everything that reads whole weights (digest, reference, adapter, merge, edit) runs before the
Trainer splits them or after ``whole`` has gathered them.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import StateDictType

from ..errors import UnlearnerError
from ..method import Method

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel

    from ..training import TrainingSettings


def is_sharded(accelerator: Accelerator) -> bool:
    """Return True if training splits the weights over processes."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def refuse_unfit(accelerator: Accelerator, unlearner: Method, training: TrainingSettings) -> None:
    """Refuse a launch that would silently change the result of the settings.

    Args:
        accelerator: Accelerator of the launch.
        unlearner: Method of the run.
        training: Settings of the run.

    Raises:
        UnlearnerError: The launch does not fit; the message says what would work.
    """
    if accelerator.mixed_precision != (training.mixed_precision or "no"):
        raise UnlearnerError(
            f"accelerate was launched with mixed_precision={accelerator.mixed_precision}: launch "
            "with 'no' and use the training setting mixed_precision"
        )
    if not is_sharded(accelerator):
        return
    fsdp = getattr(accelerator.state, "fsdp_plugin", None)
    if fsdp is not None and (fsdp.fsdp_version != 2 or fsdp.cpu_ram_efficient_loading):
        raise UnlearnerError(
            "FSDP is supported with fsdp_version 2 and fsdp_cpu_ram_efficient_loading false only: "
            "launch with these"
        )
    if unlearner.has_state:
        raise UnlearnerError(
            f"{type(unlearner).__name__} works on whole weights while it trains, which FSDP and "
            "DeepSpeed split over processes: launch without them"
        )
    if training.weights_dtype == "bfloat16" and training.mixed_precision is not None:
        raise UnlearnerError(
            "FSDP and DeepSpeed keep float32 weights under mixed_precision='bf16': set "
            "weights_dtype='float32', or mixed_precision=None"
        )
    # Other checkpoints are pickles, which are never loaded.
    full = fsdp is not None and fsdp.state_dict_type is StateDictType.FULL_STATE_DICT
    if training.save_steps is not None and not full:
        raise UnlearnerError(
            f"training setting save_steps={training.save_steps}: checkpoints of split weights need "
            "FSDP with fsdp_state_dict_type FULL_STATE_DICT; launch with it, or set save_steps=None"
        )


def empty_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Copy the model with its parameters on the meta device; the configuration is shared."""
    memo: dict[int, object] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in model.parameters()
    }
    memo[id(model.config)] = model.config
    return copy.deepcopy(model, memo)


def whole(empty: PreTrainedModel, trained: nn.Module) -> PreTrainedModel:
    """Fill ``empty`` with the gathered weights of ``trained``, in main memory of every process."""
    # Gradient checkpointing wraps modules.
    names = [n.replace("_checkpoint_wrapped_module.", "") for n, _ in trained.named_parameters()]
    weights = {n: _gather(p) for n, p in zip(names, trained.parameters(), strict=True)}
    empty.load_state_dict(weights, strict=False, assign=True)
    empty.tie_weights()
    nn.Module.to(empty, "cpu")  # buffers
    return empty


def _gather(parameter: nn.Parameter) -> torch.Tensor:
    if hasattr(parameter, "full_tensor"):  # FSDP
        return parameter.full_tensor().detach().cpu()
    if hasattr(parameter, "ds_id"):  # DeepSpeed ZeRO-3
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().cpu().clone()
    return parameter.detach().cpu()
