"""The contract of every method, whoever wrote it, checked on a model of a few thousand weights.

``tests/unlearners/test_testing.py`` holds the registered methods to it, and
``lm-eval-muse submit`` a method that wants a row in the leaderboard.
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
# Six forget windows: a full batch and one that is not.
SETTINGS = TrainingSettings(
    learning_rate=1e-2, max_steps=2, batch_size=4, window=16, save_steps=None
)


def check_contract(name: str, **params: Any) -> None:
    """Hold a registered method to what the training loop and the leaderboard rely on.

    It is a documented frozen dataclass whose parameters survive JSON, and its ``needs`` has known
    entries only. With full finetuning and
    with LoRA, in float32 and bfloat16, it changes weights and keeps them finite; two runs with
    one seed give the same bits; everything else about the model and the tokenizer stays as it
    was, and under LoRA all but the adapter. Its loss is a mean over windows.

    Args:
        name: of the method.
        **params: its parameters.

    Raises:
        UnlearnerError: the first thing it does not keep, in one line.
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
        raise _broken(name, f"{cls.__name__} has no docstring that says what it does")
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
    where = f"{finetuning.name} finetuning in {dtype}"
    settings = dataclasses.replace(SETTINGS, weights_dtype=dtype)
    before = _tiny_model(dtype)
    tokenizer = _tokenizer()
    kept = _description(before, tokenizer)
    if isinstance(finetuning, LoRA):
        finetuning = _watched(finetuning, before, name)
    unlearned, log = _run(name, where, unlearner, tokenizer, finetuning, settings, seed=1)

    for what, found in _description(unlearned, tokenizer).items():
        if found != kept[what]:
            raise _broken(name, f"{where} leaves another {what}: {_changes(kept[what], found)}")
    for step in log:
        for term, value in step.items():
            if not math.isfinite(value):
                raise _broken(name, f"{where}: {term} is {value} at step {step['step']:.0f}")
    weights = dict(unlearned.named_parameters())
    if all(weights[key].equal(weight) for key, weight in before.named_parameters()):
        raise _broken(name, f"{where} changes no weight")
    again, _ = _run(name, where, unlearner, tokenizer, finetuning, settings, seed=2)
    for key, weight in again.named_parameters():
        if not weight.equal(weights[key]):
            raise _broken(name, f"{where} gives another {key} when it is run again")


def _check_mean(name: str, unlearner: Unlearner) -> None:
    """One batch of four and two of two have the same loss if it is a mean over windows."""
    found = []
    for size in (4, 2):
        settings = dataclasses.replace(
            SETTINGS, batch_size=size, gradient_accumulation_steps=4 // size, max_steps=1
        )
        where = f"full finetuning with batches of {size}"
        found.append(_run(name, where, unlearner, _tokenizer(), FullFinetuning(), settings, 1)[1])
    whole, halves = (log[0]["loss"] for log in found)
    if not math.isclose(whole, halves, rel_tol=1e-3, abs_tol=1e-4):
        raise _broken(
            name,
            f"its loss is no mean over windows: {whole:.4f} for a batch of four, {halves:.4f} for "
            "the same windows as two batches of two",
        )


def _run(
    name: str,
    where: str,
    unlearner: Unlearner,
    tokenizer: PreTrainedTokenizerBase,
    finetuning: Finetuning,
    settings: TrainingSettings,
    seed: int,
) -> tuple[PreTrainedModel, list[dict[str, float]]]:
    """The unlearned model and the log of its losses; no result may depend on ``seed``."""
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
            raise _broken(name, f"{where}: {error}") from error
        except Exception as error:
            raise _broken(name, f"{where}: {type(error).__name__}: {error}") from error
        lines = Path(folder, "loss.jsonl").read_text(encoding="utf-8").splitlines()
    if not isinstance(unlearned, PreTrainedModel):
        raise _broken(name, f"{where} returns a {type(unlearned).__name__}, not a model")
    return torch.nn.Module.to(unlearned, "cpu"), [json.loads(line) for line in lines]


def _watched(lora: LoRA, before: PreTrainedModel, name: str) -> LoRA:
    """The same LoRA, which refuses a base model that is not ``before`` any more at its merge."""

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
    """Everything about a model and its tokenizer that unlearning leaves alone."""
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
    """Entries that only one of the two has, or that differ; cut where the list is long."""
    names = [name for name in before | after if before.get(name) != after.get(name)]
    found = ", ".join(f"{name} was {before.get(name)}, is {after.get(name)}" for name in names)
    return found[:200]


def _tiny_model(dtype: Dtype) -> PreTrainedModel:
    """A target of 30,000 weights, the same every time."""
    import torch

    return torch.nn.Module.to(copy.deepcopy(_target()), getattr(torch, dtype))


@cache
def _target() -> PreTrainedModel:
    """A Llama that knows the text it is to forget: a bounded loss would not move another one."""
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
    # eager attention gives the same bits every time, on a GPU too
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
    """Bytes: it needs no files."""
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer(extra_ids=0)


class _Broken(UnlearnerError):
    """A finding of a check, not the method's own error."""


def _broken(name: str, what: str) -> _Broken:
    return _Broken(f"{name} breaks the contract of methods: {' '.join(what.split())}")
