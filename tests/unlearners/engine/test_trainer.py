"""Training against a plain loop with a frozen copy of the model, written for the test."""

import copy
import json
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from unlearners import (
    DivergedError,
    UnlearnerError,
    get_unlearner,
    register_unlearner,
)
from unlearners.base import Unlearner
from unlearners.engine.dataset import ForgetRetainDataset, cut_windows
from unlearners.finetuning import FullFinetuning, LoRA

from ..tiny_models import (
    WINDOW,
    byte_tokenizer,
    settings,
    tiny_llama,
)

METHODS = ["ga", "ga_gdr", "ga_klr", "npo", "npo_gdr", "npo_klr"]
LAMBDA, BETA = 0.7, 0.3


def nll(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """(B, T - 1) float32."""
    logits = model(input_ids=ids).logits.float().log_softmax(-1)
    return -logits[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2)


def plain_loop(name: str, model: PreTrainedModel, tokenizer, data, make_optimizer, *, steps: int):
    """Train in place; yields (loss, forget, retain) of every step. Batches of four in order."""
    frozen = copy.deepcopy(model).eval()
    dataset = ForgetRetainDataset(cut_windows(tokenizer, data.forget, WINDOW))
    retain = cut_windows(tokenizer, data.retain, WINDOW)
    model.train()
    optimizer = make_optimizer(model.parameters())
    order = []
    for epoch in range(steps):
        dataset.set_epoch(epoch)
        indices = [dataset[i] for i in range(len(dataset))]
        order += [indices[i : i + 4] for i in range(0, len(indices), 4)]
    for batch in order[:steps]:
        f = dataset.forget[batch]
        r = torch.stack([retain[i % len(retain)] for i in batch])
        if name.startswith("ga"):
            forget = -nll(model, f).mean()
        else:
            with torch.no_grad():
                reference = -nll(frozen, f).sum(1)
            ratio = -nll(model, f).sum(1) - reference
            forget = -(2 / BETA) * torch.log(torch.sigmoid(-BETA * ratio)).mean()
        loss, kept = forget, None
        if name.endswith("_gdr"):
            kept = nll(model, r).mean()
        elif name.endswith("_klr"):
            with torch.no_grad():
                p = F.softmax(frozen(input_ids=r).logits.float(), -1)
            q = F.softmax(model(input_ids=r).logits.float(), -1)
            kept = (p * (p / q).log()).sum(-1).mean()
        if kept is not None:
            loss = forget + LAMBDA * kept
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item(), forget.item(), None if kept is None else kept.item()
    model.eval()


def method_params(name: str) -> dict[str, float]:
    retain = {"retain_weight": LAMBDA} if "_" in name else {}
    return retain | ({"beta": BETA} if name.startswith("npo") else {})


def curve(folder) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]


def assert_same_weights(one: PreTrainedModel, other: PreTrainedModel, **tolerance: float) -> None:
    others = dict(other.named_parameters())
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(parameter, others[name], msg=name, **tolerance)


def sgd(parameters) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def adamw(parameters) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0)


@pytest.mark.parametrize(
    ("name", "make_optimizer"), [*((name, sgd) for name in METHODS), ("npo_gdr", adamw)]
)
def test_equals_a_plain_loop_with_a_frozen_copy(
    name, make_optimizer, run, tokenizer, data, tmp_path, monkeypatch
) -> None:
    """Same losses at each of five steps (two and a half epochs), and the same weights after.

    AdamW would scale KL's first gradient, zero but for rounding, to a full step: SGD for all.
    """
    if make_optimizer is sgd:
        monkeypatch.setattr(Unlearner, "create_optimizer", lambda self, groups, _: sgd(groups))
    expected = tiny_llama()
    steps = list(plain_loop(name, expected, tokenizer, data, make_optimizer, steps=5))
    model = run(
        name,
        tiny_llama(),
        params=method_params(name),
        learning_rate=1e-3,  # of AdamW
        max_steps=5,
        output_dir=tmp_path / "run",
    )
    for line, (loss, forget, retain) in zip(curve(tmp_path / "run"), steps, strict=True):
        assert line["loss"] == pytest.approx(loss, rel=1e-4, abs=1e-6)
        assert line["forget"] == pytest.approx(forget, rel=1e-4)
        assert line.get("retain") == (retain and pytest.approx(retain, rel=1e-3, abs=1e-6))
    assert_same_weights(model, expected, atol=1e-5, rtol=0)


def test_loss_log_has_a_line_per_step(run, tmp_path) -> None:
    run("npo_gdr", tiny_llama(), output_dir=tmp_path / "run", learning_rate=2e-4)
    lines = curve(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert [line["epoch"] for line in lines] == [0.5, 1.0, 1.5]
    for line in lines:
        assert line["learning_rate"] == 2e-4
        assert line["loss"] == pytest.approx(line["forget"] + line["retain"], rel=1e-5)


@pytest.mark.parametrize("name", ["npo_gdr", "ga_klr"])
def test_accumulated_batches_equal_one_large_batch(name, run) -> None:
    """Seven windows: four and three, or two, two, two and one. The last step is a smaller one."""
    large = run(name, tiny_llama(), batch_size=4, max_steps=4)
    small = run(name, tiny_llama(), batch_size=2, gradient_accumulation_steps=2, max_steps=4)
    assert_same_weights(large, small, atol=2e-6, rtol=0)


def test_seed_decides_order_and_adapter(run) -> None:
    def weights(seed: int, finetuning) -> torch.Tensor:
        model = run("ga_gdr", tiny_llama(), finetuning, seed=seed, max_steps=1)
        return model.model.layers[0].mlp.up_proj.weight.detach()

    for finetuning in (FullFinetuning(), LoRA(rank=2)):
        assert torch.equal(weights(0, finetuning), weights(0, finetuning))
        assert not torch.equal(weights(0, finetuning), weights(1, finetuning))


def test_schedule_and_warmup(run, tmp_path) -> None:
    """Linear over four steps with one of warm-up: 0, then 1, 2/3 and 1/3 of the rate."""
    run(
        "ga",
        tiny_llama(),
        output_dir=tmp_path / "run",
        lr_scheduler="linear",
        warmup_ratio=0.25,
        max_steps=4,
        learning_rate=3e-4,
    )
    rates = [line["learning_rate"] for line in curve(tmp_path / "run")]
    assert rates == pytest.approx([0, 3e-4, 2e-4, 1e-4])


def test_epochs_without_max_steps(run, tmp_path) -> None:
    run("ga", tiny_llama(), output_dir=tmp_path / "run", epochs=2, max_steps=None)
    assert len(curve(tmp_path / "run")) == 4


def test_callbacks_of_the_caller_see_every_step(run) -> None:
    from transformers import TrainerCallback

    steps = []

    class Progress(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            steps.append((state.global_step, state.max_steps))

    run("ga", tiny_llama(), callbacks=[Progress()])
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_nothing_is_printed(run, capfd) -> None:
    run("ga", tiny_llama(), save_steps=1)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("finetuning", [FullFinetuning(), LoRA(rank=2)], ids=lambda f: f.name)
def test_everything_but_the_weights_is_restored(finetuning, run) -> None:
    """Dtype, evaluation mode, cache, ``requires_grad`` and no gradients."""
    model = tiny_llama(torch.bfloat16)
    model.config.use_cache, model.config.dtype = True, torch.bfloat16
    frequencies = model.model.rotary_emb.inv_freq.clone()
    unlearned = run("npo_klr", model, finetuning, gradient_checkpointing=True)
    assert type(unlearned) is type(model)
    assert {parameter.dtype for parameter in unlearned.parameters()} == {torch.bfloat16}
    assert torch.equal(unlearned.model.rotary_emb.inv_freq, frequencies)
    assert unlearned.config.use_cache and unlearned.config.dtype == torch.bfloat16
    assert not unlearned.training and not unlearned.is_gradient_checkpointing
    assert all(p.requires_grad and p.grad is None for p in unlearned.parameters())
    assert not unlearned.get_input_embeddings()._forward_hooks


@pytest.mark.parametrize("finetuning", [FullFinetuning(), LoRA(rank=2)], ids=lambda f: f.name)
def test_an_unlearned_model_can_be_unlearned_again(finetuning, run) -> None:
    """As for forget sets that arrive one after another: the same as from a copy of the weights."""
    once = run("npo_klr", tiny_llama(), finetuning)
    fresh = tiny_llama()
    fresh.load_state_dict(once.state_dict())
    twice, expected = (run("npo_klr", model, finetuning) for model in (once, fresh))
    assert_same_weights(twice, expected, atol=0, rtol=0)


def test_bf16_autocast_trains_float32_weights(run, tmp_path) -> None:
    run("npo_klr", tiny_llama(), output_dir=tmp_path / "plain")
    mixed = run("npo_klr", tiny_llama(), output_dir=tmp_path / "mixed", mixed_precision="bf16")
    one, other = curve(tmp_path / "plain"), curve(tmp_path / "mixed")
    assert other[0]["retain"] == pytest.approx(0, abs=1e-6), "the reference computes the same way"
    assert other[0]["forget"] == pytest.approx(one[0]["forget"], rel=1e-6)
    assert other[2]["loss"] != one[2]["loss"]
    assert other[2]["loss"] == pytest.approx(one[2]["loss"], rel=0.05)
    assert mixed.dtype == torch.float32
    assert "forward" not in vars(mixed) and "_original_forward" not in vars(mixed)


@pytest.mark.parametrize("finetuning", [FullFinetuning(), LoRA(rank=2)], ids=lambda f: f.name)
def test_divergence_stops_the_run_with_step_and_loss(finetuning, run, tmp_path) -> None:
    with pytest.raises(DivergedError, match="at step") as caught:
        run(
            "ga",
            tiny_llama(),
            finetuning,
            output_dir=tmp_path / "run",
            learning_rate=1e30,
            max_steps=20,
            max_grad_norm=0,
            save_steps=1,
        )
    assert caught.value.step >= 2 and not torch.tensor(caught.value.loss).isfinite()
    lines = curve(tmp_path / "run")
    assert len(lines) == caught.value.step - 1
    assert not (tmp_path / "run" / f"checkpoint-{caught.value.step}").exists()


def test_weights_lost_in_the_last_step_are_noticed(run) -> None:
    with pytest.raises(DivergedError, match="step 1"):
        run("task_vector", tiny_llama(), params={"alpha": 1e38}, learning_rate=1e3, max_steps=1)


def test_out_of_memory_says_what_to_lower(run) -> None:
    @register_unlearner("greedy_for_memory")
    class Greedy(Unlearner):
        def loss(self, model, batch, reference):
            return {"loss": torch.empty(1 << 60).sum()}

    with pytest.raises(UnlearnerError, match=r"lower batch_size \(4\) .* window \(16\)"):
        run("greedy_for_memory", tiny_llama())


def test_a_loss_must_declare_what_it_reads(run) -> None:
    @register_unlearner("undeclared_needs")
    @dataclass(frozen=True, kw_only=True)
    class Undeclared(Unlearner):
        what: str = "retain"

        @property
        def needs(self):
            return frozenset({"retain"}) if self.what == "retain_logits" else frozenset()

        def loss(self, model, batch, reference):
            reads = {
                "retain": lambda: batch.retain,
                "forget_log_probs": lambda: reference.log_probs(batch.forget),
                "retain_logits": lambda: reference.logits(batch.retain),
            }
            return reads[self.what]()

    for what in ("retain", "forget_log_probs", "retain_logits"):
        with pytest.raises(UnlearnerError, match=f"declare '{what}' in needs"):
            run("undeclared_needs", tiny_llama(), params={"what": what})


@pytest.mark.parametrize("entry", ["forget_logits", "retian"])
def test_an_unknown_need_is_refused_before_training(entry, run, tmp_path) -> None:
    @register_unlearner(f"needs_{entry}")
    @dataclass(frozen=True, kw_only=True)
    class Unknown(Unlearner):
        needs = frozenset({"retain", entry})

    message = f"unknown needs '{entry}': available: forget_log_probs, retain, retain_logits"
    with pytest.raises(UnlearnerError, match=message):
        run(f"needs_{entry}", tiny_llama(), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("finetuning", [FullFinetuning(), LoRA(rank=2)], ids=lambda f: f.name)
def test_a_tokenizer_without_special_tokens_trains(finetuning, data, tmp_path) -> None:
    """No BOS, no EOS, no padding token: windows are 16 bytes of text.

    The forget text has 92 bytes and a blank line: six windows in batches of four.
    """
    tokenizer = byte_tokenizer()
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (None,) * 3
    model = get_unlearner("npo_klr")(
        tiny_llama(),
        tokenizer,
        data,
        finetuning=finetuning,
        training=settings(epochs=1, max_steps=None),
        output_dir=tmp_path,
    )
    assert len(curve(tmp_path)) == 2
    weight = model.model.layers[0].mlp.up_proj.weight
    assert not torch.equal(weight, tiny_llama().model.layers[0].mlp.up_proj.weight)


def test_model_and_windows_must_fit(run) -> None:
    with pytest.raises(UnlearnerError, match="window=65 is longer than the model's context of 64"):
        run("ga", tiny_llama(), window=65)
    with pytest.raises(UnlearnerError, match="the model embeds 40 tokens"):
        run("ga", tiny_llama(vocab_size=40))
    quantized = tiny_llama()
    quantized.is_quantized = True
    with pytest.raises(UnlearnerError, match="quantized: unlearn first"):
        run("ga", quantized)


@pytest.mark.parametrize(
    "bad",
    [
        {"learning_rate": 0},
        {"learning_rate": "fast"},
        {"learning_rate": float("nan")},
        {"epochs": 0},
        {"max_steps": 0},
        {"batch_size": 0},
        {"gradient_accumulation_steps": 0},
        {"warmup_ratio": 1},
        {"weight_decay": -1},
        {"max_grad_norm": -1},
        {"window": 1},
        {"seed": -1},
        {"weights_dtype": "float16"},
        {"mixed_precision": "fp16"},
        {"save_steps": 0},
        {"lr_scheduler": "constnat"},
    ],
    ids=lambda bad: next(iter(bad)),
)
def test_settings_out_of_range_are_named(bad) -> None:
    (name, value), *_ = bad.items()
    with pytest.raises(UnlearnerError, match=f"^{name}={value!r}: Input should be"):
        settings(**bad)


def test_a_number_that_yaml_reads_as_text_is_a_number() -> None:
    assert repr(settings(learning_rate="1e-5", epochs=2)) == repr(
        settings(learning_rate=1e-5, epochs=2.0)
    )


def test_settings_survive_json() -> None:
    one = settings(report_to=("tensorboard",), mixed_precision="bf16")
    assert type(one)(**json.loads(json.dumps(one.to_dict()))) == one


def test_loss_of_the_base_class_is_missing() -> None:
    with pytest.raises(NotImplementedError):
        Unlearner().loss(None, None, None)
    assert get_unlearner("ga").needs == frozenset()
