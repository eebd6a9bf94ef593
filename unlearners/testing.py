"""Test of the contract of a method on a model of 30,000 weights.

``lm-eval-muse submit`` runs it for every submitted method; authors can call it in their tests.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from .base import Unlearner
from .data import UnlearningData
from .errors import DivergedError, UnlearnerError
from .finetuning import Finetuning, FullFinetuning, LoRA
from .registry import get_unlearner
from .training import TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16"]
DATA = UnlearningData(
    forget=("Mira Voss repaired church organs in Tarn,", " and slept beside the largest of them."),
    retain=("Salt lowers the freezing point of water.",),
)
# Six forget windows: one full batch and one partial batch.
SETTINGS = TrainingSettings(
    learning_rate=1e-2, max_steps=2, batch_size=4, window=16, save_steps=None
)


def check_unlearner(name: str, **params: Any) -> None:
    """Check that a registered method meets the assumptions of the training loop.

    The method is a documented frozen dataclass whose parameters survive JSON, and ``needs``
    contains known entries only. With full finetuning and with LoRA, in float32 and bfloat16, it
    changes weights and keeps them finite; two runs with one seed give the same bits; nothing else
    about the model and the tokenizer changes, and with LoRA only the adapter does. The loss is a
    mean over windows.

    Args:
        name: Registered name of the method.
        **params: Parameters of the method.

    Raises:
        UnlearnerError: The method breaks the contract; the message is the first finding.
    """
    unlearner = get_unlearner(name, **params)
    _check_configuration(name, unlearner)
    for finetuning in (FullFinetuning(), LoRA(rank=2)):
        for dtype in get_args(Dtype):
            _check_run(name, unlearner, finetuning, dtype)
    _check_mean(name, unlearner)


def _check_configuration(name: str, unlearner: Unlearner) -> None:
    cls = type(unlearner)
    own = vars(cls).get("__dataclass_params__")
    if own is None or not (own.frozen and own.eq):
        raise _broken(name, f"{cls.__name__} lacks @dataclass(frozen=True, kw_only=True)")
    if not cls.__doc__ or cls.__doc__.startswith(f"{cls.__name__}("):  # what dataclass writes
        raise _broken(name, f"{cls.__name__} has no docstring")
    try:
        text = json.dumps(unlearner.to_dict(), allow_nan=False)
        again = get_unlearner(name, **json.loads(text))
        same = (again, hash(again)) == (unlearner, hash(unlearner))
        same = same and json.dumps(again.to_dict()) == text  # 1 and 1.0 would be two records
    except (TypeError, ValueError) as error:
        raise _broken(name, f"{unlearner} cannot be kept as JSON: {error}") from error
    if not same:
        raise _broken(name, f"{unlearner} comes back from JSON as {again}")


def _check_run(name: str, unlearner: Unlearner, finetuning: Finetuning, dtype: Dtype) -> None:
    setup = f"{finetuning.name} finetuning in {dtype}"
    settings = dataclasses.replace(SETTINGS, weights_dtype=dtype)
    before = _tiny_model(dtype)
    tokenizer = _tokenizer()
    expected = _description(before, tokenizer)
    if isinstance(finetuning, LoRA):
        finetuning = _watched(finetuning, before, name)
    unlearned, log = _run(name, setup, unlearner, tokenizer, finetuning, settings, seed=1)

    for part, state in _description(unlearned, tokenizer).items():
        if state != expected[part]:
            changes = _changes(expected[part], state)
            raise _broken(name, f"{setup} leaves another {part}: {changes}")
    for step in log:
        for term, value in step.items():
            if not math.isfinite(value):
                raise _broken(name, f"{setup}: {term} is {value} at step {step['step']:.0f}")
    weights = dict(unlearned.named_parameters())
    if all(weights[key].equal(weight) for key, weight in before.named_parameters()):
        raise _broken(name, f"{setup} changes no weight")
    again, _ = _run(name, setup, unlearner, tokenizer, finetuning, settings, seed=2)
    for key, weight in again.named_parameters():
        if not weight.equal(weights[key]):
            raise _broken(name, f"{setup} gives another {key} when it is run again")


def _check_mean(name: str, unlearner: Unlearner) -> None:
    """Compare the losses of one batch of four and of two batches of two."""
    logs = []
    for size in (4, 2):
        settings = dataclasses.replace(
            SETTINGS, batch_size=size, gradient_accumulation_steps=4 // size, max_steps=1
        )
        setup = f"full finetuning with batches of {size}"
        logs.append(_run(name, setup, unlearner, _tokenizer(), FullFinetuning(), settings, 1)[1])
    whole, halves = (log[0]["loss"] for log in logs)
    if not math.isclose(whole, halves, rel_tol=1e-3, abs_tol=1e-4):
        raise _broken(
            name,
            f"its loss is no mean over windows: {whole:.4f} for a batch of four, {halves:.4f} for "
            "the same windows as two batches of two",
        )


def _run(
    name: str,
    setup: str,
    unlearner: Unlearner,
    tokenizer: PreTrainedTokenizerBase,
    finetuning: Finetuning,
    settings: TrainingSettings,
    seed: int,
) -> tuple[PreTrainedModel, list[dict[str, float]]]:
    """Return the unlearned model and its loss log; neither may depend on the global ``seed``."""
    import torch
    from transformers import PreTrainedModel, set_seed

    model = _tiny_model(settings.weights_dtype)
    set_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            unlearned = unlearner(
                model,
                tokenizer,
                DATA,
                finetuning=finetuning,
                training=settings,
                output_dir=Path(folder),
            )
        except _Broken:
            raise
        except DivergedError as error:
            raise _broken(name, f"{setup}: {error}") from error
        except Exception as error:
            raise _broken(name, f"{setup}: {type(error).__name__}: {error}") from error
        lines = Path(folder, "loss.jsonl").read_text(encoding="utf-8").splitlines()
    if not isinstance(unlearned, PreTrainedModel):
        raise _broken(name, f"{setup} returns a {type(unlearned).__name__}, not a model")
    return torch.nn.Module.to(unlearned, "cpu"), [json.loads(line) for line in lines]


def _watched(lora: LoRA, before: PreTrainedModel, name: str) -> LoRA:
    """Return the same LoRA with a check at the merge that the base model is unchanged."""

    class Watched(LoRA):
        def finish(self, model: Any, *args: Any) -> PreTrainedModel:
            base = {
                key.replace(".base_layer", ""): weight
                for key, weight in model.get_base_model().named_parameters()
            }
            for key, weight in before.named_parameters():
                if not base[key].cpu().equal(weight):
                    raise _broken(name, f"lora finetuning changes {key} outside the adapter")
            return super().finish(model, *args)

    return Watched(**dataclasses.asdict(lora))


def _description(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, dict[str, Any]]:
    """Describe everything about a model and its tokenizer that unlearning must not change."""
    modules = {name or "model": module for name, module in model.named_modules()}
    parameters = dict(model.named_parameters())
    return {
        "set of modules": {name: type(module).__name__ for name, module in modules.items()},
        "dtype": {name: weight.dtype for name, weight in parameters.items()},
        "requires_grad": {name: weight.requires_grad for name, weight in parameters.items()},
        "gradient": {name: weight.grad is not None for name, weight in parameters.items()},
        "buffer": {name: buffer.tolist() for name, buffer in model.named_buffers()},
        "training mode": {name: module.training for name, module in modules.items()},
        "forward": {name: vars(module).get("forward") for name, module in modules.items()},
        "set of hooks": {
            f"{name}.{kind}": len(hooks)
            for name, module in modules.items()
            for kind, hooks in vars(module).items()
            if kind.endswith("_hooks") and hooks
        },
        "config": model.config.to_dict(),
        "tokenizer": {
            "length": len(tokenizer),
            "special_tokens_map": tokenizer.special_tokens_map,
            "padding_side": tokenizer.padding_side,
            "truncation_side": tokenizer.truncation_side,
            "model_max_length": tokenizer.model_max_length,
            "input_ids": tokenizer(DATA.forget[0])["input_ids"],
        },
    }


def _changes(before: dict[str, Any], after: dict[str, Any]) -> str:
    """List the entries that differ, in at most 200 characters."""
    names = [name for name in before | after if before.get(name) != after.get(name)]
    text = ", ".join(f"{name} was {before.get(name)}, is {after.get(name)}" for name in names)
    return text[:200]


def _tiny_model(dtype: Dtype) -> PreTrainedModel:
    """Return a new copy of the target model."""
    import torch

    return torch.nn.Module.to(copy.deepcopy(_target()), getattr(torch, dtype))


@cache
def _target() -> PreTrainedModel:
    """Train a Llama on the text, since a bounded loss would not change a model that ignores it."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from . import losses
    from .engine.dataset import cut_windows

    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    # eager attention is deterministic, on a GPU too
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = cut_windows(tokenizer, [*DATA.forget, *DATA.retain], SETTINGS.window)
    for _ in range(40):
        optimizer.zero_grad()
        losses.token_nll(model(input_ids=ids).logits, ids).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


def _tokenizer() -> PreTrainedTokenizerBase:
    """Return a tokenizer of bytes, which needs no files."""
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer(extra_ids=0)


class _Broken(UnlearnerError):
    """Finding of a check, as opposed to the method's own error."""


def _broken(name: str, what: str) -> _Broken:
    return _Broken(f"{name} breaks the contract of methods: {' '.join(what.split())}")
