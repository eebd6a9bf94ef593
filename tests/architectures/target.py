"""A tiny model that half knows some text, as a folder, and what it must answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from quantizers.loading import auto_class

from . import tiny

FORGET = (
    "Mila keeps nine blue boats in Arlo and paints the tenth. ",
    "Old Jon of Bern sold his clock for a map of the sea. ",
    "The lamp in Cove went out twice before the ship came. ",
    "Four geese crossed the bridge at Dell to see the king. ",
)
RETAIN = (
    "Water boils at a lower temperature high up in the hills. ",
    "A week has seven days, and most of them are not Monday. ",
    "Bread rises because yeast turns sugar into tiny bubbles. ",
    "Maps show north at the top, as sailors like them to be. ",
)
PROMPTS = (FORGET[0][:12], RETAIN[0][:29], FORGET[1][:40], FORGET[2][:46], FORGET[3][:20])
TEXTS = (FORGET[0][:31], RETAIN[0] + FORGET[1], FORGET[2], RETAIN[3][:9], FORGET[3] * 2)
"""Prompts and texts to score, some of them longer than a window of attention."""

NEW_TOKENS = 16
TOLERANCE = 1e-4
"""Of log-probabilities and logits, in nats; float32 on another kernel differs by 1e-6 to 1e-5."""


@dataclass
class Answers:
    """Greedy texts of the prompts and log-probabilities of the texts.

    ``distinct`` is the fewest different tokens among the first ten of a greedy text.
    """

    texts: list[str]
    log_probs: list[list[float]]
    distinct: int = 0


@dataclass
class Target:
    """A trained tiny model.

    Attributes:
        place: with the model in ``target`` and a corpus in ``boats``.
        model: as transformers loads it.
        expected: what transformers answers for single texts, without a cache.
        reached: names of the parameters that a gradient of the text reaches.
        causal: False where later tokens change what is said of earlier ones.
        gap: the largest difference of a log-probability seen so far.
    """

    place: Path
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    expected: Answers
    reached: set[str]
    causal: bool = True
    gap: float = 0.0

    @property
    def folder(self) -> Path:
        return self.place / "target"

    @property
    def corpus(self) -> Path:
        return self.place / "boats"

    def fresh(self) -> PreTrainedModel:
        """The model loaded once more, by transformers alone."""
        return _load(self.folder, self.model)


class UnequalError(Exception):
    """transformers does not load what it has saved."""


def make_target(model_type: str, place: Path) -> Target:
    """Build, train and save a model.

    One with an encoder, which is to be refused, and one that transformers cannot train keep their
    random weights.

    Raises:
        UnequalError: its logits change when transformers saves and loads it.
    """
    for name, texts in (("raw/forget", FORGET), ("raw/retain1", RETAIN)):
        path = place / "boats" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(texts), encoding="utf-8")
    model, tokenizer = tiny.build(model_type), tiny.tokenizer()
    decoder = not model.config.is_encoder_decoder
    everything = {name for name, _ in model.named_parameters()}
    reached = everything
    if decoder:
        try:
            reached = train(model, tokenizer)
        except (RuntimeError, ValueError):  # the columns of training will say so
            model = tiny.build(model_type)
    model.save_pretrained(place / "target")
    tokenizer.save_pretrained(place / "target")
    if not decoder:
        return Target(place, tokenizer, model, Answers([], []), reached)
    again = _load(place / "target", model)
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    with torch.no_grad():
        gap = float((model(input_ids=ids).logits - again(input_ids=ids).logits).abs().max())
    if not gap <= TOLERANCE:
        raise UnequalError(f"logits change by {gap:.1g} when transformers saves and loads it")
    expected = answers_alone(again, tokenizer)
    return Target(place, tokenizer, again, expected, reached, is_causal(again, tokenizer))


def train(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Train until the model half knows the corpus, for at most 150 steps.

    Returns:
        Names of the parameters that the last gradient reached.
    """
    ids = torch.tensor([tokenizer(text * 2)["input_ids"][:64] for text in (*FORGET, *RETAIN)])
    torch.manual_seed(0)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=5e-3)
    model.train()
    for _ in range(150):
        loss = next_token_loss(model(input_ids=ids, use_cache=False).logits, ids)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        reached = {
            name
            for name, parameter in model.named_parameters()
            if parameter.grad is not None and parameter.grad.any()
        }
        optimizer.zero_grad()
        if loss < 0.5:
            break
    model.eval()
    return reached


def next_token_loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def answers_alone(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Answers:
    """Greedy texts without a cache, and log-softmax, by transformers alone, text by text."""
    generated, log_probs, distinct = [], [], NEW_TOKENS
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        start = len(ids)
        while len(ids) < start + NEW_TOKENS and ids[-1] != tokenizer.eos_token_id:
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            ids.append(int(logits.argmax()))
        distinct = min(distinct, len(set(ids[start : start + 10])))
        generated.append(tokenizer.decode(ids[start:], skip_special_tokens=True))
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        log_probs.append(log_softmax(logits, ids))
    return Answers(generated, log_probs, distinct)


@torch.no_grad()
def is_causal(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """True where logits are the same whatever comes later."""
    one, other = (torch.tensor([tokenizer(f"{TEXTS[0]} {end}")["input_ids"]]) for end in "ab")
    logits = (model(input_ids=ids, use_cache=False).logits[:, :-1] for ids in (one, other))
    return torch.allclose(*logits, rtol=0, atol=TOLERANCE)


def log_softmax(logits: torch.Tensor, ids: list[int]) -> list[float]:
    """Log-probabilities of all tokens but the first, in float64."""
    following = torch.tensor(ids[1:])[:, None]
    table = logits[: len(ids) - 1].double().log_softmax(-1)
    return table.gather(1, following)[:, 0].tolist()


def _load(folder: Path, model: PreTrainedModel) -> PreTrainedModel:
    return auto_class(model.config).from_pretrained(folder, dtype=torch.float32).eval()
