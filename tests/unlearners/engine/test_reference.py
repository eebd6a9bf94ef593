"""The reference against a frozen copy of the model, and its cache on disk."""

import copy
import json

import numpy as np
import pytest
import torch

from unlearners import UnlearnerError, get_unlearner, losses
from unlearners.data import Batch, Side, Windows
from unlearners.engine.dataset import ForgetRetainDataset, cut_windows
from unlearners.engine.reference import ReferenceBuilder, model_digest
from unlearners.finetuning import LoRA
from unlearners.weights import cast

from ..tiny_models import (
    WINDOW,
    architecture,
    tiny_gemma2,
    tiny_gpt2,
    tiny_granite,
    tiny_llama,
)

NEEDS = frozenset({"retain", "forget_log_probs", "retain_logits"})


@pytest.fixture
def dataset(tokenizer, data) -> ForgetRetainDataset:
    sides = (cut_windows(tokenizer, texts, WINDOW) for texts in (data.forget, data.retain))
    return ForgetRetainDataset(*sides)


def builder(model, cache, **settings) -> ReferenceBuilder:
    defaults = {"autocast": False, "batch_size": 2, "model_digest": model_digest(model)}
    return ReferenceBuilder(model, cache=cache, **defaults | settings)


def windows(dataset: ForgetRetainDataset, side: Side, *index: int) -> Windows:
    return Windows(getattr(dataset, side)[list(index)], torch.tensor(index), side)


@torch.no_grad()
def disturb(model) -> None:
    """Move the weights that are trained, as training does."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter) * 0.1)


MODELS = {
    "llama": tiny_llama,
    "llama-tied": lambda: tiny_llama(tie_word_embeddings=True),
    "llama-bfloat16": lambda: tiny_llama(torch.bfloat16),
    "gpt2": tiny_gpt2,
    "capped": tiny_gemma2,
    "capped-bfloat16": lambda: tiny_gemma2(torch.bfloat16),
    "scaled": lambda: tiny_granite(4.0),
    "scaled-by-its-backbone": lambda: architecture("falcon_h1"),
    "head-in-a-part": lambda: architecture("llama4"),
}


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_equals_a_frozen_copy_after_the_model_has_moved(name, adapter, dataset, tmp_path) -> None:
    model = MODELS[name]()
    frozen = copy.deepcopy(model).eval()
    if adapter:
        model = LoRA(rank=2, dropout=0.5).prepare(model, torch.float32, None)
    reference = builder(model, tmp_path).build(dataset, NEEDS)
    disturb(model)
    model.train()

    forget, retain = windows(dataset, "forget", 5, 0), windows(dataset, "retain", 2, 2, 0)
    with torch.no_grad():
        moved = model(input_ids=retain.input_ids).logits
        expected = frozen(input_ids=retain.input_ids).logits
        log_probs = losses.sequence_log_probs(
            frozen(input_ids=forget.input_ids).logits, forget.input_ids
        )
    logits = reference.logits(retain)
    tolerance = {"atol": 0.02, "rtol": 0.02} if "bfloat16" in name else {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(logits, expected, **tolerance)
    torch.testing.assert_close(reference.log_probs(forget), log_probs, **tolerance)
    assert not torch.allclose(moved, expected, atol=0.1)
    assert not logits.requires_grad and model.training


def test_two_workers_may_fill_one_cache(dataset, tmp_path) -> None:
    """The second starts and ends while the first is at work."""
    needs = frozenset({"forget_log_probs"})
    model = tiny_llama()
    others = []

    def meanwhile(*_) -> None:
        hook.remove()
        others.append(builder(tiny_llama(), tmp_path).build(dataset, needs))

    hook = model.register_forward_hook(meanwhile)
    first = builder(model, tmp_path).build(dataset, needs)
    everything = windows(dataset, "forget", *range(len(dataset.forget)))
    assert first.log_probs(everything).equal(others[0].log_probs(everything))
    assert {path.suffix for path in tmp_path.iterdir()} == {".npy", ".json"}


def test_only_what_is_needed_is_computed(dataset, tmp_path) -> None:
    model = tiny_llama()
    builder(model, tmp_path / "none").build(dataset, frozenset({"retain"}))
    assert not (tmp_path / "none").exists()
    builder(model, tmp_path / "npo").build(dataset, frozenset({"forget_log_probs"}))
    assert [p.name.split("-")[0] for p in (tmp_path / "npo").glob("*.npy")] == ["forget_log_probs"]
    adapted = LoRA().prepare(model, torch.float32, None)
    builder(adapted, tmp_path / "lora").build(dataset, frozenset({"retain_logits"}))
    assert not (tmp_path / "lora").exists(), "an adapter is switched off, nothing is stored"


def test_retain_logits_need_retain_windows(dataset, tmp_path) -> None:
    alone = ForgetRetainDataset(dataset.forget)
    with pytest.raises(UnlearnerError, match="declare both"):
        builder(tiny_llama(), tmp_path).build(alone, frozenset({"retain_logits"}))


def test_hidden_states_are_mapped_not_loaded(dataset, tmp_path) -> None:
    builder(tiny_llama(), tmp_path).build(dataset, frozenset({"retain_logits"}))
    (path,) = tmp_path.glob("*.npy")
    stored = np.load(path, mmap_mode="r")
    assert stored.shape == (len(dataset.retain), WINDOW, 32) and stored.dtype == np.float32


def test_the_cache_is_shared_by_content(run, dataset, tmp_path, monkeypatch) -> None:
    """One run fills it; methods, weights of the retain loss and finetunings after it only read."""
    cache = tmp_path / "cache"
    run("npo_klr", tiny_llama(), reference_cache=cache)
    files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(files) == 4

    def refuse(*_) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(ReferenceBuilder, "_write", refuse)
    run("npo_klr", tiny_llama(), reference_cache=cache, params={"retain_weight": 3})
    run("npo_gdr", tiny_llama(), reference_cache=cache)
    run("npo_gdr", tiny_llama(), LoRA(), reference_cache=cache)
    run("ga_klr", tiny_llama(), reference_cache=cache)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == files

    for change in (
        {"model": tiny_llama(initializer_range=0.2)},
        {"window": 15},
        {"mixed_precision": "bf16"},
        {"weights_dtype": "bfloat16"},
    ):
        with pytest.raises(AssertionError, match="computed again"):
            run("npo", **{"model": tiny_llama()} | change, reference_cache=cache)


def test_training_from_the_cache_is_the_same(run, tmp_path) -> None:
    one, other = (
        run("npo_klr", tiny_llama(), reference_cache=tmp_path / "cache") for _ in range(2)
    )
    assert torch.equal(one.lm_head.weight, other.lm_head.weight)


@pytest.mark.parametrize("damage", ["bytes", "missing", "record", "record's bytes"])
def test_a_damaged_file_is_computed_again(damage, run, tmp_path) -> None:
    cache = tmp_path / "cache"
    run("npo", tiny_llama(), reference_cache=cache)
    (path,) = cache.glob("*.npy")
    whole = path.read_bytes()
    if damage == "bytes":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "missing":
        path.unlink()
    elif damage == "record's bytes":
        path.with_suffix(".json").write_bytes(b'{"key": "\xff')
    else:
        record = path.with_suffix(".json")
        record.write_text(json.dumps(json.loads(record.read_text()) | {"key": "another"}))
    run("npo", tiny_llama(), reference_cache=cache)
    assert path.read_bytes() == whole


def test_a_file_that_was_being_written_is_written_again(run, tmp_path) -> None:
    cache = tmp_path / "cache"
    run("npo", tiny_llama(), reference_cache=cache)
    (path,) = cache.glob("*.npy")
    path.with_suffix(".json").unlink()
    path.write_bytes(b"half of it")
    run("npo", tiny_llama(), reference_cache=cache)


@pytest.mark.parametrize("make_model", [tiny_gemma2, lambda: tiny_granite(4.0)])
def test_kl_with_changed_logits_and_an_adapter(make_model, dataset, run, tmp_path) -> None:
    """The KL of the loss is that to the logits of a frozen copy: sum of p (log p - log q)."""
    frozen = make_model()
    model = LoRA(rank=2, dropout=0).prepare(make_model(), torch.float32, None)
    reference = builder(model, tmp_path / "cache").build(dataset, NEEDS)
    disturb(model)
    batch = Batch(windows(dataset, "forget", 0, 1), windows(dataset, "retain", 0, 1))
    terms = get_unlearner("ga_klr").loss(model, batch, reference)
    with torch.no_grad():
        p, q = (m(input_ids=batch.retain.input_ids).logits.softmax(-1) for m in (frozen, model))
    expected = (p * (p.log() - q.log())).sum(-1).mean().item()
    assert expected > 0.001
    assert terms["retain"].item() == pytest.approx(expected, rel=1e-3)

    run("npo_klr", make_model(), LoRA(rank=2, dropout=0), output_dir=tmp_path / "run")
    first = json.loads((tmp_path / "run" / "loss.jsonl").read_text().splitlines()[0])
    assert first["retain"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_windows_of_the_other_side_are_refused(adapter, dataset, tmp_path) -> None:
    model = tiny_llama()
    if adapter:
        model = LoRA(rank=2).prepare(model, torch.float32, None)
    reference = builder(model, tmp_path).build(dataset, NEEDS)
    forget, retain = windows(dataset, "forget", 0, 1), windows(dataset, "retain", 0, 1)
    with pytest.raises(UnlearnerError, match=r"log_probs is for forget .* pass batch\.forget"):
        reference.log_probs(retain)
    with pytest.raises(UnlearnerError, match=r"logits is for retain .* pass batch\.retain"):
        reference.logits(forget)
    assert reference.log_probs(forget).shape == (2,)
    assert reference.logits(retain).shape == (2, WINDOW, 300)


def test_digest_sees_values_dtypes_and_configuration() -> None:
    digests = [model_digest(model) for model in (tiny_llama(), tiny_llama(torch.bfloat16))]
    model = tiny_llama()
    assert model_digest(model) == digests[0] != digests[1]
    cast(model, dict.fromkeys(dict(model.named_parameters()), torch.bfloat16))
    assert model_digest(model) == digests[1]
    with torch.no_grad():
        model.model.norm.weight[-1] += 1
    assert model_digest(model) != digests[1]
    assert model_digest(tiny_llama(rms_norm_eps=1e-5)) != digests[0]
