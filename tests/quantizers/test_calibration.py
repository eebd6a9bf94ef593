"""Calibration text: sampling, record of its origin; a plug-in quantizer."""

import dataclasses
import hashlib
import json
from typing import ClassVar

import pytest
import torch
from transformers import AutoModelForCausalLM

from quantizers import (
    CalibratedQuantizer,
    QuantizerError,
    get_quantizer,
    register_quantizer,
    registry,
)
from quantizers.calibration import draw_windows, read_texts
from quantizers.registry import quantizer_name
from quantizers.saving import load_quantized, read_quantizer, save_quantized

ALPHABET = "a b c d e f g h i j k l m n o p q r s t u v w x y z"


class Numbers:
    """A tokenizer of texts of numbers: each number is its token id."""

    def __call__(self, texts, verbose):
        return {"input_ids": [[int(word) for word in text.split()] for text in texts]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeenPeak(CalibratedQuantizer):
    """Rounds the embeddings to ``steps`` below the largest that calibration text looks up."""

    bits: ClassVar[int] = 4
    steps: int = 7

    def quantize(self, model, windows):
        weight = model.get_input_embeddings().weight.data
        step = weight[torch.tensor(windows)].abs().max() / self.steps
        weight.div_(step).round_().clamp_(-self.steps, self.steps).mul_(step)
        return model


@pytest.fixture
def seen_peak():
    """`SeenPeak`, registered as ``seen-peak`` for the time of a test."""
    register_quantizer("seen-peak")(SeenPeak)
    yield get_quantizer("seen-peak", samples=3, window=4)
    del registry.registry._objs["seen-peak"]


def test_windows_are_cut_from_the_texts_one_after_the_other():
    """Ten tokens hold three windows of 3: 0 1 2, 3 4 5 and 6 7 8; the last token is left."""
    texts = ["0 1", "2 3 4 5 6", "7 8 9"]
    windows = draw_windows(Numbers(), texts, samples=5, window=3, seed=0)
    assert sorted(windows) == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]


def test_the_draw_is_without_replacement_and_follows_the_seed():
    texts = [" ".join(map(str, range(400)))]
    draws = [draw_windows(Numbers(), texts, samples=20, window=4, seed=seed) for seed in (1, 1, 2)]
    assert len(set(draws[0])) == 20
    assert all(window == tuple(range(window[0], window[0] + 4)) for window in draws[0])
    assert draws[0] == draws[1] != draws[2]


def test_less_text_than_one_window():
    assert draw_windows(Numbers(), ["5 6", "7"], samples=2, window=8, seed=0) == ((5, 6, 7),)
    with pytest.raises(QuantizerError, match="hold no token"):
        draw_windows(Numbers(), ["", ""], samples=2, window=8, seed=0)


def test_files_of_texts(tmp_path):
    path = tmp_path / "retain.json"
    path.write_text('["one", {"text": "two", "id": 2}]')
    assert read_texts(path) == ["one", "two"]
    (tmp_path / "lines.txt").write_text("one\n\n  two\n")
    assert read_texts(tmp_path / "lines.txt") == ["one", "  two"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "FileNotFoundError"),
        ("[", "JSONDecodeError"),
        ('[{"body": "one"}]', r"KeyError\('text'\)"),
        ("[1, 2]", "must be a list of texts"),
        ("3", "TypeError"),
    ],
)
def test_files_that_are_none(tmp_path, content, message):
    path = tmp_path / "retain.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(QuantizerError, match=rf"calibration file .*retain.json .*{message}"):
        read_texts(path)


def test_what_is_recorded(seen_peak):
    """Two texts, one of which overlaps; the other one's nine tokens are two windows of 4."""
    overlapping = " ".join(map(str, range(100, 113)))
    texts = [overlapping, "1 2 3 4 5 6 7 8 9"]
    bound = seen_peak.calibrated(Numbers(), texts, exclude=[f"{overlapping} 7", "8"])
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    assert bound.calibration.to_dict() == {
        "source": "sha256:" + hashlib.sha256(b"".join(digests)).hexdigest(),
        "texts": 2,
        "excluded_texts": 2,
        "dropped": 1,
        "samples": 2,
        "window": 4,
        "seed": 0,
    }
    assert sorted(bound.calibration.windows) == [(1, 2, 3, 4), (5, 6, 7, 8)]
    json.dumps(bound.calibration.to_dict())


def test_binding_text_leaves_the_configuration_as_it_was(seen_peak):
    bound = seen_peak.calibrated(Numbers(), ["1 2 3 4"])
    assert seen_peak.calibration is None
    assert bound == seen_peak
    assert (
        bound.to_dict()
        == seen_peak.to_dict()
        == {
            "samples": 3,
            "window": 4,
            "seed": 0,
            "file": None,
            "steps": 7,
        }
    )
    assert quantizer_name(bound) == "seen-peak"
    with pytest.raises(QuantizerError, match="has no parameter 'calibration'"):
        get_quantizer("seen-peak", calibration=bound.calibration)


def test_text_comes_from_the_file_where_one_is_named(seen_peak, tmp_path):
    (tmp_path / "own.txt").write_text("7 7 7 7\n8 8 8 8\n")
    own = dataclasses.replace(seen_peak, file=str(tmp_path / "own.txt"))
    bound = own.calibrated(Numbers(), ["1 2 3 4"])
    assert sorted(bound.calibration.windows) == [(7, 7, 7, 7), (8, 8, 8, 8)]
    assert bound.calibration.texts == 2


def test_no_text(seen_peak, llama):
    with pytest.raises(QuantizerError, match=r"SeenPeak needs calibration text: bind it with"):
        seen_peak(llama)
    with pytest.raises(QuantizerError, match=r"got no calibration text; .*file=PATH"):
        seen_peak.calibrated(Numbers(), [])
    with pytest.raises(QuantizerError, match=r"is left: each of the 2 texts shares 13 consecutive"):
        seen_peak.calibrated(Numbers(), [ALPHABET, f"so {ALPHABET}"], exclude=[ALPHABET])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"samples": 0}, "samples=0: Input should be greater than 0"),
        ({"window": 1}, "window=1: Input should be greater than or equal to 2"),
    ],
)
@pytest.mark.parametrize("name", ["gptq-int4", "awq-int4"])
def test_settings_out_of_range(name, params, message):
    with pytest.raises(QuantizerError, match=f"'{name}': {message}"):
        get_quantizer(name, **params)


def test_windows_beyond_the_context_of_the_model(llama):
    text = " ".join(["5"] * 129)
    bound = SeenPeak(window=129).calibrated(Numbers(), [text])
    with pytest.raises(
        QuantizerError, match=r"of 129 tokens exceed .* context of 128; set window="
    ):
        bound(llama)


def test_a_plugged_in_quantizer_uses_the_text(seen_peak, llama, logits, tmp_path):
    """Token 9 has the largest embedding; text without it leads to a finer grid, cut at 1.75."""
    with torch.no_grad():
        llama.get_input_embeddings().weight[7, :3] = torch.tensor([1.75, 0.30, -0.40])
        llama.get_input_embeddings().weight[9, :3] = torch.tensor([7.0, 1.6, -0.4])
    llama.save_pretrained(tmp_path / "original")

    def quantized(text):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "original")
        bound = seen_peak.calibrated(Numbers(), [text])
        return bound, bound(model)

    _, without = quantized("7 7 8 8")
    weight = without.get_input_embeddings().weight
    assert weight[7, :3].tolist() == [1.75, 0.25, -0.5]
    assert weight[9, :3].tolist() == [1.75, 1.5, -0.5]
    bound, seen = quantized("7 7 9 8")
    weight = seen.get_input_embeddings().weight
    assert weight[7, :3].tolist() == [2.0, 0.0, 0.0]
    assert weight[9, :3].tolist() == [7.0, 2.0, 0.0]

    save_quantized(seen, tmp_path / "seen", bound)
    record = json.loads((tmp_path / "seen" / "quantizer.json").read_text())
    assert record["calibration"] == bound.calibration.to_dict()
    assert read_quantizer(tmp_path / "seen") == bound
    assert torch.equal(logits(load_quantized(tmp_path / "seen")), logits(seen))


@pytest.mark.parametrize("name", ["gptq-int4", "awq-int4"])
def test_a_missing_llm_compressor_says_what_to_install(llama, name, tmp_path, monkeypatch):
    monkeypatch.setattr("quantizers.methods.llm_compressor.find_spec", lambda name: None)
    bound = get_quantizer(name, window=4).calibrated(Numbers(), ["7 7 8 8"])
    with pytest.raises(QuantizerError, match=r"pip install 'lm-eval-muse\[calibrated\]'"):
        bound(llama)
    with pytest.raises(QuantizerError, match=r"pip install 'lm-eval-muse\[calibrated\]'"):
        bound.load(tmp_path)
