"""Unlearning against a straightforward trainer that keeps a frozen copy of the model."""

import copy
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

from unlearners import UnlearningData, get_unlearner
from unlearners.finetuning import get_finetuning
from unlearners.training import TrainingSettings

BATCH, VOCABULARY = 2, 1024
SPEED = {"window": 256, "hidden": 256, "layers": 4, "steps": 16}
MEMORY = {"window": 64, "hidden": 512, "layers": 8, "steps": 3}


def llama(hidden: int, layers: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=hidden * 43 // 16,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=512,
    )
    return LlamaForCausalLM(config)


class FrozenCopyTrainer:
    """The losses as one would write them down, the reference run at every step.

    Args:
        model: what is trained.
        method: a registered name, or ``plain`` for fine-tuning on forget and retain windows.
        finetuning: ``full`` or ``lora``.
        window: tokens per window.
    """

    def __init__(self, model: PreTrainedModel, method: str, finetuning: str, window: int) -> None:
        self.forget, self.retain = torch.randint(VOCABULARY, (2, BATCH, window))
        self.method = method
        if "npo" in method or "klr" in method:
            self.frozen = copy.deepcopy(model).eval().requires_grad_(False)
        if finetuning == "lora":
            lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear")
            model = get_peft_model(model, lora)
        self.model = model.train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()

    def loss(self) -> torch.Tensor:
        if self.method == "plain":
            return nll(self.model, torch.cat([self.forget, self.retain])).mean()
        forget = nll(self.model, self.forget)
        if "npo" in self.method:
            with torch.no_grad():
                reference = nll(self.frozen, self.forget)
            log_ratio = reference.sum(1) - forget.sum(1)
            loss = -2 / 0.1 * F.logsigmoid(-0.1 * log_ratio).mean()
        else:
            loss = -forget.mean()
        if "klr" in self.method:
            with torch.no_grad():
                target = self.frozen(input_ids=self.retain).logits.log_softmax(-1)
            log_probs = self.model(input_ids=self.retain).logits.log_softmax(-1)
            kl = F.kl_div(log_probs, target, log_target=True, reduction="none")
            loss = loss + kl.sum(-1).mean()
        return loss


def nll(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """(B, T - 1): of every token but the first."""
    logits = model(input_ids=ids).logits[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")


def unlearn(
    model: PreTrainedModel,
    method: str,
    finetuning: str,
    *,
    window: int,
    steps: int,
    callback: TrainerCallback | None = None,
) -> None:
    """A run of this project's, on as many tokens a step."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = "Ada kept nine blue herons in a lighthouse. " * (window * BATCH // 20)
    with tempfile.TemporaryDirectory() as folder:
        get_unlearner(method)(
            model,
            PreTrainedTokenizerFast(tokenizer_object=tokenizer),
            UnlearningData(forget=[text], retain=[text[::-1]]),
            finetuning=get_finetuning(finetuning),
            training=TrainingSettings(
                window=window, batch_size=BATCH, max_steps=steps, save_steps=None
            ),
            output_dir=Path(folder),
            callbacks=[callback] if callback else [],
        )


class Alternate(TrainerCallback):
    """After every step of ours one of the other trainer: a busy machine slows both."""

    def __init__(self, other: Callable[[], None]) -> None:
        self.other, self.ours, self.others = other, list[float](), list[float]()

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.start = perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        between = perf_counter()
        self.other()
        end = perf_counter()
        self.ours.append(between - self.start)
        self.others.append(end - between)
        self.start = end


@pytest.mark.parametrize(
    ("method", "finetuning", "other", "goal"),
    [
        ("npo", "full", "npo", "at least 1.25"),
        ("npo_klr", "full", "npo_klr", "at least 1.20"),
        ("ga_klr", "lora", "ga_klr", "at least 1.00"),
        ("npo_klr", "lora", "npo_klr", "at least 1.00"),
        ("ga_gdr", "full", "plain", "at least 0.95"),
    ],
)
def test_step(
    method: str, finetuning: str, other: str, goal: str, benchmark: Any, ratios: Any
) -> None:
    model = llama(SPEED["hidden"], SPEED["layers"])
    trainer = FrozenCopyTrainer(copy.deepcopy(model), other, finetuning, SPEED["window"])
    clock = Alternate(trainer.step)
    sizes = {"window": SPEED["window"], "steps": SPEED["steps"], "callback": clock}
    benchmark.pedantic(unlearn, (model, method, finetuning), sizes, rounds=1)
    baseline = "plain fine-tuning" if other == "plain" else "frozen copy"
    # The first steps allocate.
    ratio = median(clock.others[2:]) / median(clock.ours[2:])
    ratios.add(f"{method}, {finetuning}: step with {baseline} / ours", ratio, goal)


@pytest.mark.parametrize("finetuning", ["full", "lora"])
def test_memory(finetuning: str, benchmark: Any, ratios: Any) -> None:
    def peak(who: str) -> int:
        command = [sys.executable, __file__, who, finetuning]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    ours = benchmark.pedantic(peak, ("ours",), rounds=1)
    model = llama(MEMORY["hidden"], MEMORY["layers"])
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    saved = (peak("frozen copy") - ours) / size
    ratios.add(f"npo_klr, {finetuning}: peak memory saved / model", saved, "at least 0.90")


def print_peak_memory(who: str, finetuning: str) -> None:
    """Of one trainer in a process of its own, in bytes; both have imported the same libraries."""
    importlib.import_module("unlearners.engine.run")
    model = llama(MEMORY["hidden"], MEMORY["layers"])
    if who == "ours":
        unlearn(model, "npo_klr", finetuning, window=MEMORY["window"], steps=MEMORY["steps"])
    else:
        trainer = FrozenCopyTrainer(model, "npo_klr", finetuning, MEMORY["window"])
        for _ in range(MEMORY["steps"]):
            trainer.step()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    sys.stdout.write(str(int(status["VmHWM"].split()[0]) * 1024))


if __name__ == "__main__":
    print_peak_memory(sys.argv[1], sys.argv[2])
