"""Contract of every registered method; methods that break it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from unlearners import (
    Unlearner,
    UnlearnerError,
    get_unlearner,
    list_unlearners,
    losses,
    register_unlearner,
)
from unlearners.testing import check_unlearner


@pytest.mark.parametrize("name", sorted(list_unlearners()))
def test_registered_method(name: str) -> None:
    check_unlearner(name)


def test_parameters_given_are_those_checked() -> None:
    check_unlearner("npo_gdr", beta=0.5)
    with pytest.raises(UnlearnerError, match="has no parameter 'betta'"):
        check_unlearner("npo_gdr", betta=0.5)


def ascent(model: Any, batch: Any) -> dict[str, torch.Tensor]:
    ids = batch.forget.input_ids
    return {"loss": -losses.token_nll(model(input_ids=ids).logits, ids)}


@dataclass(frozen=True, kw_only=True)
class Sound(Unlearner):
    """Gradient ascent; base of the broken methods below."""

    def loss(self, model: Any, batch: Any, reference: Any) -> Any:
        return ascent(model, batch)


@dataclass(frozen=True, kw_only=True)
class Idle(Sound):
    """A loss with a gradient of zero."""

    def loss(self, model: Any, batch: Any, reference: Any) -> Any:
        return {"loss": 0 * ascent(model, batch)["loss"]}


@dataclass(frozen=True, kw_only=True)
class Sum(Sound):
    """A sum over windows in place of a mean."""

    def loss(self, model: Any, batch: Any, reference: Any) -> Any:
        return {"loss": ascent(model, batch)["loss"] * len(batch.forget.index)}


calls = 0


@dataclass(frozen=True, kw_only=True)
class Moody(Sound):
    """A loss that depends on how often it was computed in this process."""

    def loss(self, model: Any, batch: Any, reference: Any) -> Any:
        global calls
        calls += 1
        return {"loss": calls * ascent(model, batch)["loss"]}


@dataclass(frozen=True, kw_only=True)
class UnseededEdit(Sound):
    """Noise from an unseeded generator."""

    def edit(self, original: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
        return trained + 1e-3 * random.SystemRandom().random()


@dataclass(frozen=True, kw_only=True)
class Buffer(Sound):
    """Changes a buffer, which is not a weight."""

    def begin(self, model: Any, forget: Any) -> Any:
        for module in model.modules():
            if "inv_freq" in dict(module.named_buffers(recurse=False)):
                module.inv_freq.mul_(0.5)
        return self


@dataclass(frozen=True, kw_only=True)
class Hook(Sound):
    """Leaves a hook in the output head."""

    def begin(self, model: Any, forget: Any) -> Any:
        model.get_output_embeddings().register_forward_hook(lambda *_: None)
        return self


@dataclass(frozen=True, kw_only=True)
class Config(Sound):
    """Changes the model's configuration."""

    def begin(self, model: Any, forget: Any) -> Any:
        model.config.rms_norm_eps = 1.0
        return self


@dataclass(frozen=True, kw_only=True)
class Infinite(Sound):
    """Logs a term that is no number."""

    def loss(self, model: Any, batch: Any, reference: Any) -> Any:
        found = ascent(model, batch)
        return found | {"ratio": found["loss"].detach() / 0}


@dataclass(frozen=True, kw_only=True)
class Diverging(Sound):
    """Its loss is no number."""

    def loss(self, model: Any, batch: Any, reference: Any) -> Any:
        return {"loss": ascent(model, batch)["loss"] * float("nan")}


@dataclass(frozen=True, kw_only=True)
class Nameless(Sound):
    """Returns no ``loss``."""

    def loss(self, model: Any, batch: Any, reference: Any) -> Any:
        return {"forget": ascent(model, batch)["loss"]}


class BaseWeights(TrainerCallback):
    """Moves a weight of the base model after every step."""

    def loss(self, model: Any, batch: Any, reference: Any) -> Any:
        return ascent(model, batch)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            kwargs["model"].get_input_embeddings().weight.mul_(0.9)


@dataclass(frozen=True, kw_only=True)
class BesideTheAdapter(Sound):
    """Moves weights that are not the adapter's."""

    def begin(self, model: Any, forget: Any) -> Any:
        return BaseWeights()


@dataclass(frozen=True, kw_only=True)
class NotJson(Sound):
    """A parameter that JSON cannot express."""

    salt: bytes = b"x"


@dataclass(frozen=True, kw_only=True)
class Forgetful(Sound):
    """A parameter that its JSON form leaves out."""

    strength: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, kw_only=True)
class UnknownNeed(Sound):
    """Needs an unknown quantity."""

    needs = frozenset({"retain", "forget_logits"})


class NoDataclass(Sound):
    """A parameter without the dataclass decorator."""

    strength: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Undocumented(Sound):
    pass


@dataclass(frozen=True, kw_only=True)
class AnotherResult(Sound):
    """Returns weights in place of a model."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs).state_dict()


@dataclass(frozen=True, kw_only=True)
class Tokenizer(Sound):
    """Adds a token."""

    def __call__(self, model: Any, tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
        unlearned = super().__call__(model, tokenizer, *args, **kwargs)
        tokenizer.add_tokens(["<forgotten>"])
        return unlearned


@dataclass(frozen=True, kw_only=True)
class Freezing(Sound):
    """Freezes the weights it returns, in training mode and half precision."""

    what: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        unlearned = super().__call__(*args, **kwargs)
        match self.what:
            case "requires_grad":
                unlearned.requires_grad_(False)
            case "training mode":
                unlearned.train()
            case "dtype":
                unlearned.half()
        return unlearned


@pytest.fixture
def named(request: pytest.FixtureRequest) -> Callable[[type[Unlearner]], str]:
    """Registers a class under a name of this test's."""

    def register(cls: type[Unlearner]) -> str:
        name = f"broken_{cls.__name__.lower()}_{len(list_unlearners())}"
        register_unlearner(name)(cls)
        return name

    return register


def test_sound_one_passes(named: Any) -> None:
    """The base of the broken methods keeps the contract."""
    check_unlearner(named(Sound))


@dataclass(frozen=True, kw_only=True)
class Bounded(Sound):
    """Ascent up to 5 nats per token; a model that knows no text has ln 259 = 5.6 already."""

    bound: float = 5  # 5.0 in every record, whether it is given or left out

    def loss(self, model: Any, batch: Any, reference: Any) -> Any:
        return {"loss": ascent(model, batch)["loss"].clamp(min=-self.bound)}


def test_bounded_loss_passes(named: Any) -> None:
    name = named(Bounded)
    check_unlearner(name)
    assert isinstance(get_unlearner(name).to_dict()["bound"], float)


@pytest.mark.parametrize(
    ("cls", "params", "message"),
    [
        (Idle, {}, "full finetuning in float32 changes no weight"),
        (Sum, {}, "its loss is no mean over windows"),
        (Moody, {}, "full finetuning in float32 gives another .* when it is run again"),
        (UnseededEdit, {}, "full finetuning in float32 gives another .* when it is run again"),
        (Buffer, {}, "leaves another buffer: model.rotary_emb.inv_freq was"),
        (Hook, {}, r"leaves another set of hooks: lm_head._forward_hooks was None, is 1"),
        (Config, {}, "leaves another config: rms_norm_eps was 1e-06, is 1.0"),
        (Infinite, {}, "full finetuning in float32: ratio is -inf at step 1"),
        (Diverging, {}, "training diverged at step 1: loss nan"),
        (Nameless, {}, "full finetuning in float32: KeyError: 'loss'"),
        (
            BesideTheAdapter,
            {},
            "lora finetuning changes model.embed_tokens.weight outside the adapter",
        ),
        (NotJson, {}, r"salt=b'x'\) cannot be kept as JSON"),
        (Forgetful, {"strength": 2}, r"strength=2.0\) comes back from JSON as .*strength=1.0\)"),
        (
            UnknownNeed,
            {},
            "UnknownNeed: unknown needs 'forget_logits': available: forget_log_probs",
        ),
        (NoDataclass, {}, "NoDataclass lacks @dataclass"),
        (Undocumented, {}, "Undocumented has no docstring"),
        (AnotherResult, {}, "returns a OrderedDict, not a model"),
        (Tokenizer, {}, "leaves another tokenizer: length was 259, is 260"),
        (Freezing, {"what": "requires_grad"}, "another requires_grad: .* was True, is False"),
        (Freezing, {"what": "training mode"}, "another training mode: model was False, is True"),
        (Freezing, {"what": "dtype"}, "another dtype: .* was torch.float32, is torch.float16"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_broken_one_is_named_in_one_line(
    named: Any, cls: type[Unlearner], params: dict[str, Any], message: str
) -> None:
    name = named(cls)
    with pytest.raises(UnlearnerError, match=message) as caught:
        check_unlearner(name, **params)
    assert str(caught.value).startswith(f"{name} breaks the contract of methods: ")
    assert "\n" not in str(caught.value)
