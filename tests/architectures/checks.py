"""The work of a cell of the matrix, and the reference that it is held against.

The references share no code with the packages: generation without a cache and log-softmax of
single texts, by transformers alone; the first losses that NPO and KL must have before any step;
the tensors that a gradient reaches; the layers there are. Each check comes with the same work by
the libraries alone, which tells a fault of theirs from one of ours.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from optimum.quanto import freeze, qint4, quantize
from peft import LoraConfig, get_peft_model
from rich.console import Console
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

import harness_tasks.tasks.base  # noqa: F401  # gives lm-eval's models the requests of MUSE
from harness_tasks.lm import MuseHFLM
from leaderboard.config import CorpusEntry, ModelSource, UnlearnEntry
from leaderboard.execution.single_model import quantize_to_folder, unlearn_to_folder
from leaderboard.models.folders import load_model
from leaderboard.progress import Progress
from quantizers import get_quantizer
from quantizers.loading import auto_class

from .target import (
    FORGET,
    NEW_TOKENS,
    PROMPTS,
    TEXTS,
    TOLERANCE,
    Answers,
    Target,
    log_softmax,
    next_token_loss,
)

TRAINING = {
    "learning_rate": 1e-3,
    "max_steps": 2,
    "batch_size": 2,
    "window": 32,
    "save_steps": None,
}
NOT_CAUSAL = "later tokens change what the model says of earlier ones: meaningless"
TOWER = re.compile(r"vision|visual|image|audio|speech|tower|projector|vq", re.IGNORECASE)


class DifferentError(Exception):
    """Something is not as the reference says; the message is one line."""


class PartialError(Exception):
    """An adapter is not for every linear weight; the training's record has the share."""


class UpstreamError(Exception):
    """transformers, PEFT or lm-eval alone do not give what the reference says."""


def check_answers(target: Target, folder: Path, kind: type[HFLM], batch_size: int) -> None:
    """Ask a model class of lm-eval.

    Raises:
        UpstreamError: lm-eval's own class, or padding in transformers, gives other answers.
        DifferentError: our class gives other answers than the reference and lm-eval's own.
    """
    got = _ask(target, kind, batch_size)
    if not target.causal:
        raise DifferentError(f"{NOT_CAUSAL} log-probabilities")
    for text, found, expected in zip(TEXTS, got.log_probs, target.expected.log_probs, strict=True):
        if len(found) != len(expected):
            raise DifferentError(f"{len(found)} log-probabilities of {len(expected)} for {text!r}")
        gap = max(abs(a - b) for a, b in zip(found, expected, strict=True))
        if not gap <= TOLERANCE:
            if batch_size > 1 and (alone := _padding_gap(target)) > TOLERANCE:
                raise UpstreamError(f"log-softmax of a padded batch differs by {alone:.1g}")
            raise DifferentError(f"log-probabilities of {text!r} differ by {gap:.1g}")
        target.gap = max(target.gap, gap)
    pairs = list(zip(PROMPTS, got.texts, target.expected.texts, strict=True))
    others = [(a, b) for prompt, a, b in pairs if a != b and not _is_tie(target, prompt, a, b)]
    if not others:
        return
    line = f"{len(others)} of {len(pairs)} texts differ: {others[0][0]!r}, not {others[0][1]!r}"
    if got.texts == generate_alone(target, kind, batch_size):
        raise UpstreamError(f"by transformers' generate() {line}")
    if kind is HFLM or got.texts == _ask(target, HFLM, batch_size).texts:
        raise UpstreamError(f"by lm-eval's hf {line}")
    raise DifferentError(line)


def _ask(target: Target, kind: type[HFLM], batch_size: int) -> Answers:
    """Send the requests of MUSE's tasks to a model of lm-eval."""
    lm: Any = kind(pretrained=str(target.folder), batch_size=batch_size, device="cpu")
    generation = {"do_sample": False, "max_gen_toks": NEW_TOKENS, "until": []}
    requests: dict[str, list[tuple[Any, ...]]] = {
        "check_context": [(prompt, NEW_TOKENS, False) for prompt in PROMPTS],
        "greedy_until": [(prompt, generation) for prompt in PROMPTS],
        "token_logprobs": [(text, {}) for text in TEXTS],
    }
    answers = {
        name: getattr(lm, name)(
            [
                Instance(name, {}, arguments, 0, metadata=("boats", index, 1))  # type: ignore[arg-type]
                for index, arguments in enumerate(each)
            ]
        )
        for name, each in requests.items()
    }
    return Answers(answers["greedy_until"], [a["logprobs"] for a in answers["token_logprobs"]])


@torch.no_grad()
def _padding_gap(target: Target) -> float:
    """Distance of log-softmax of a padded batch from that of single texts, in transformers."""
    encoded = [target.tokenizer(text)["input_ids"] for text in TEXTS]
    batch = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in encoded], batch_first=True)
    logits = target.model(input_ids=batch, use_cache=False).logits
    found = itertools.chain.from_iterable(map(log_softmax, logits, encoded))
    expected = itertools.chain.from_iterable(target.expected.log_probs)
    return max(abs(a - b) for a, b in zip(found, expected, strict=True))


@torch.no_grad()
def _is_tie(target: Target, prompt: str, found: str, expected: str) -> bool:
    """True where two texts part at tokens that are equally likely, up to the tolerance."""
    one, other = (target.tokenizer(prompt + text)["input_ids"] for text in (found, expected))
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if at is None:
        return False
    logits = target.model(input_ids=torch.tensor([one[:at]]), use_cache=False).logits[0, -1]
    return bool(abs(logits[one[at]] - logits[other[at]]) <= TOLERANCE)


def generate_alone(target: Target, kind: type[HFLM], batch_size: int) -> list[str]:
    """Load as ``hf`` does it, or a multimodal model whole as ``hf-muse`` does, and generate."""
    loader = AutoModelForCausalLM if kind is HFLM else auto_class(target.model.config)
    model = loader.from_pretrained(target.folder, dtype=torch.float32).eval()
    texts: list[str] = []
    for start in range(0, len(PROMPTS), batch_size):
        prompts = list(PROMPTS[start : start + batch_size])
        batch = target.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
        batch.pop("token_type_ids", None)
        ids = model.generate(**batch, max_new_tokens=NEW_TOKENS, do_sample=False)
        generated = ids[:, batch["input_ids"].shape[1] :]
        texts += target.tokenizer.batch_decode(generated, skip_special_tokens=True)
    return texts


def check_unlearning(target: Target, folder: Path, finetuning: str, method: str) -> None:
    """Unlearn with the command's function; look at losses and at the saved weights.

    Raises:
        DifferentError: they are not what they must be.
    """
    unlearn_to_folder(
        UnlearnEntry(method=method, finetuning=finetuning, training=TRAINING),
        ModelSource(path=str(target.folder)),
        CorpusEntry(name=str(target.corpus)),
        folder,
        Progress(Console(quiet=True)),
    )
    if not target.causal:
        raise DifferentError(f"{NOT_CAUSAL} losses")
    load_model(str(folder))
    steps = [json.loads(line) for line in (folder / "training/loss.jsonl").read_text().splitlines()]
    if len(steps) != 2 or not all(math.isfinite(step["loss"]) for step in steps):
        raise DifferentError(f"losses of two steps: {[step['loss'] for step in steps]}")
    # before the first step the model is its own reference: NPO is (2 / beta) log 2, and KL is 0
    if not abs(steps[0]["forget"] - 20 * math.log(2)) <= 5e-3:
        raise DifferentError(f"the first loss of NPO is {steps[0]['forget']:.4g}, not 13.86")
    if method == "npo_klr" and not abs(steps[0]["retain"]) <= TOLERANCE:
        raise DifferentError(f"the first KL is {steps[0]['retain']:.2g}, not 0")
    _check_weights(target, folder, finetuning)


def _check_weights(target: Target, folder: Path, finetuning: str) -> None:
    if strange := _keys(target.folder) ^ _keys(folder):
        raise DifferentError(f"{len(strange)} names of saved tensors differ: {min(strange)}")
    after, report = auto_class(target.model.config).from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    if strange := {*report["missing_keys"], *report["unexpected_keys"]}:
        raise DifferentError(f"{len(strange)} tensors are not loaded as saved: {min(strange)}")
    found = dict(_tensors(after))
    changed = {name for name, value in _tensors(target.model) if not value.equal(found[name])}
    expected = target.reached
    if finetuning == "lora":
        expected = expected & {name for name, _ in linear_weights(target.model)}
    still = expected - changed
    if strange := changed - expected:
        raise DifferentError(f"{len(strange)} tensors change that should not: {min(strange)}")
    if finetuning == "lora":
        recorded = json.loads((folder / "training/facts.json").read_text())["adapted_parameters"]
        number = sum(target.model.get_parameter(name).numel() for name in changed)
        if recorded != number:
            raise DifferentError(f"{number} parameters change, the record says {recorded}")
        if still:
            line = f"LoRA reaches {len(changed)} of {len(expected)} linear weights"
            raise PartialError(f"{line}, as its record says; first left out: {min(still)}")
    if still:
        raise DifferentError(f"{len(still)} of {len(expected)} weights stay: {min(still)}")


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _keys(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names |= set(file.keys())
    return names


def linear_weights(model: PreTrainedModel) -> Iterator[tuple[str, nn.Parameter]]:
    """Weights of linear layers but the head, and those of several experts in one tensor."""
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.Linear | Conv1D) and module is not head:
            yield f"{name}.weight", module.weight
        elif "Expert" in kind:
            for parameter, tensor in module.named_parameters(recurse=False):
                if tensor.ndim == 3 or kind == "DbrxExpertGLU":
                    yield f"{name}.{parameter}", tensor


def train_alone(target: Target, finetuning: str, method: str) -> None:
    """Take two steps with a loss of the same kind, save and load."""
    model: Any = target.fresh()
    if finetuning == "lora":
        model = get_peft_model(
            model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
        )
    ids = torch.tensor([target.tokenizer(text)["input_ids"][:32] for text in FORGET])
    with torch.no_grad():
        before = model(input_ids=ids).logits.float().log_softmax(-1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    for _ in range(2):
        logits = model(input_ids=ids, use_cache=False).logits
        loss = -next_token_loss(logits, ids)
        if method == "npo_klr":
            log_probs = logits.float().log_softmax(-1)
            loss = loss + (before.exp() * (before - log_probs)).sum(-1).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    if finetuning == "lora":
        model = model.merge_and_unload()
    folder = target.place / "alone"
    model.save_pretrained(folder)
    auto_class(model.config).from_pretrained(folder)
    shutil.rmtree(folder)


@torch.no_grad()
def check_quantizer(target: Target, folder: Path, name: str) -> None:
    """Quantize with the command's function, load, and compare with the model in memory.

    Raises:
        DifferentError: they differ, or something is quantized that should not be, or is not.
    """
    quantize_to_folder(str(target.folder), None, name, {}, folder)
    quantized = get_quantizer(name)(load_model(str(target.folder))[0])
    ids = target.tokenizer(TEXTS[2])["input_ids"]
    batch = torch.tensor([ids])
    expected = quantized(input_ids=batch).logits
    if not expected.isfinite().all():
        raise DifferentError("logits of the quantized model are not finite")
    weights = [name for name, _ in linear_weights(target.model) if name in target.reached]
    left = [name for name in weights if not _is_quantized(target.model, quantized, name)]
    if left:
        raise DifferentError(f"{len(left)} of {len(weights)} weights stay: {left[0]}")
    after = dict(quantized.named_parameters())
    for name, weight in target.model.named_parameters():
        outside = name not in target.reached and TOWER.search(name)
        if outside and not (name in after and weight.equal(after[name])):
            raise DifferentError(f"a tensor outside the language model changes: {name}")
    lm: Any = MuseHFLM(pretrained=str(folder), batch_size=1, device="cpu")
    if not torch.equal(loaded := lm.model(input_ids=batch).logits, expected):
        raise DifferentError(f"logits differ by {(loaded - expected).abs().max():.1g} once loaded")
    if not target.causal:
        return
    (scored,) = lm.token_logprobs([Instance("token_logprobs", {}, (TEXTS[2], {}), 0)])  # type: ignore[arg-type]
    alone = log_softmax(expected[0], ids)
    gap = max(abs(a - b) for a, b in zip(scored["logprobs"], alone, strict=True))
    if not gap <= TOLERANCE:
        raise DifferentError(f"log-probabilities of hf-muse differ by {gap:.1g}")


def _is_quantized(before: PreTrainedModel, after: PreTrainedModel, name: str) -> bool:
    """True where a weight, or the class of the layer that holds it, is another."""
    path, _, parameter = name.rpartition(".")
    old, new = before.get_submodule(path), after.get_submodule(path)
    if type(old) is not type(new):
        return True
    weight = getattr(new, parameter)
    return type(weight) is not nn.Parameter or not weight.equal(getattr(old, parameter))


@torch.no_grad()
def quantize_alone(target: Target, name: str) -> None:
    """Quantize by bitsandbytes or quanto alone and use the model; the rest is ours."""
    batch = torch.tensor([target.tokenizer(TEXTS[2])["input_ids"]])
    if name == "bnb-fp4":
        options = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4")
        kind = auto_class(target.model.config)
        kind.from_pretrained(target.folder, quantization_config=options)(input_ids=batch)
    elif name == "quanto-int4":
        model = target.fresh()
        quantize(model, weights=qint4)
        freeze(model)
        model(input_ids=batch)


Check = Callable[[Target, Path], None]
Alone = Callable[[Target], None]


def _columns() -> Iterator[tuple[str, tuple[Check, Alone]]]:
    for name, kind in (("hf", HFLM), ("hf-muse", MuseHFLM)):
        for size in (1, 5):
            settings = {"kind": kind, "batch_size": size}
            yield (
                f"{name} {size}",
                (partial(check_answers, **settings), partial(generate_alone, **settings)),
            )
    for finetuning in ("full", "lora"):
        for method in ("npo_gdr", "npo_klr"):
            names = {"finetuning": finetuning, "method": method}
            yield (
                f"{finetuning} {method}",
                (partial(check_unlearning, **names), partial(train_alone, **names)),
            )
    for name in ("rtn-int4", "quanto-int4", "bnb-fp4"):
        yield name, (partial(check_quantizer, name=name), partial(quantize_alone, name=name))


COLUMNS: dict[str, tuple[Check, Alone]] = dict(_columns())
"""By column, the check and the same work by the libraries alone."""
