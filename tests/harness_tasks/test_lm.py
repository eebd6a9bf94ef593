"""Model ``hf-muse``: HFLM with transforms."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from harness_tasks.errors import CorpusError
from harness_tasks.lm import MuseHFLM
from quantizers import QuantizerError, get_quantizer
from quantizers.saving import save_quantized
from unlearners import UnlearnerError

from . import evaluating


@pytest.fixture(scope="module")
def folder(byte_level: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model")
    tokenizer, model = byte_level
    tokenizer.save_pretrained(path)
    model.save_pretrained(path)
    return str(path)


def evaluate(
    model: Any, corpus: Path, model_args: Any = None, limit: int | None = 4
) -> dict[str, Any]:
    return evaluating.evaluate(
        model,
        corpus,
        ["muse"],
        model_args=model_args,
        batch_size=4,
        limit=limit,
        device="cpu",
    )


def test_without_a_transform_it_is_hf(folder: str, corpus_folder: Path) -> None:
    ours = evaluate("hf-muse", corpus_folder, f"pretrained={folder}")
    theirs = evaluate("hf", corpus_folder, f"pretrained={folder}")
    assert ours["results"] == theirs["results"]
    assert ours["config"]["unlearning"] is None
    assert ours["config"]["quantizer"] is None


def test_quantizer_and_its_parameters(
    folder: str, corpus_folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    arguments = f"pretrained={folder},quantizer=rtn-int3,quantizer.group_size=16"
    ours = evaluate("hf-muse", corpus_folder, arguments)
    quantized = get_quantizer("rtn-int3", group_size=16)(copy.deepcopy(model))
    by_hand = evaluate(HFLM(pretrained=quantized, tokenizer=tokenizer), corpus_folder)
    assert ours["results"] == by_hand["results"]
    assert ours["config"]["quantizer"]["name"] == "rtn-int3"
    assert ours["config"]["quantizer"]["group_size"] == 16


@pytest.mark.parametrize("in_memory", [False, True])
def test_adapter_is_merged_in_float32_and_rounded_once(
    folder: str, tmp_path: Path, in_memory: bool
) -> None:
    """Merging in bfloat16 would lose part of an update below its rounding error."""
    base = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    original = base.model.layers[0].mlp.up_proj.weight.detach().clone()
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["up_proj"], init_lora_weights=False)
    adapted = get_peft_model(copy.deepcopy(base), config, autocast_adapter_dtype=False).float()
    adapted.save_pretrained(tmp_path)
    layer = adapted.base_model.model.model.layers[0].mlp.up_proj
    expected = (original.float() + layer.get_delta_weight("default")).to(torch.bfloat16)

    lm = MuseHFLM(
        base if in_memory else folder,
        tokenizer=folder,
        dtype="bfloat16",
        peft=str(tmp_path),
        device="cpu",
    )
    merged = lm.model.model.layers[0].mlp.up_proj.weight
    assert type(lm.model) is LlamaForCausalLM
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, expected)
    assert not torch.equal(merged, original)
    assert lm.model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_unlearns_then_quantizes(folder: str, corpus_folder: Path, tmp_path: Path) -> None:
    lm = MuseHFLM(
        folder,
        device="cpu",
        corpus=str(corpus_folder),
        unlearner="npo_gdr",
        finetuning="lora",
        quantizer="rtn-int2",
        output_dir=str(tmp_path / "run"),
        **{
            "unlearner.beta": 0.2,
            "finetuning.rank": 2,
            "training.max_steps": 2,
            "training.learning_rate": 1e-2,
            "training.window": 64,
        },
    )
    rows = lm.model.model.layers[0].mlp.up_proj.weight
    assert max(len(row.unique()) for row in rows) <= 4
    before = LlamaForCausalLM.from_pretrained(folder)
    only_quantized = get_quantizer("rtn-int2")(before).model.layers[0].mlp.up_proj.weight
    assert not torch.equal(rows, only_quantized)

    info = lm.get_model_info()
    assert info["unlearning"]["unlearner"]["name"] == "npo_gdr"
    assert info["unlearning"]["unlearner"]["beta"] == 0.2
    assert info["unlearning"]["finetuning"]["rank"] == 2
    assert info["unlearning"]["training"]["max_steps"] == 2
    assert info["unlearning"]["corpus"]["name"] == "boats"
    assert info["quantizer"]["bits"] == 2
    json.dumps(info["unlearning"])
    assert any((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"quantizer": "rtn-int5"}, QuantizerError, "unknown quantizer 'rtn-int5'"),
        ({"quantizer": "rtn-int4", "quantizer.group": 8}, QuantizerError, "group"),
        ({"unlearner": "npo"}, CorpusError, "unlearner=npo needs corpus="),
        ({"unlearner": "npx", "corpus": "c"}, UnlearnerError, "unknown unlearner 'npx'"),
        (
            {"unlearner": "npo", "corpus": "c", "finetuning": "lore"},
            UnlearnerError,
            "unknown finetuning 'lore'",
        ),
        (
            {"unlearner": "npo", "corpus": "c", "training.epoch": 3},
            UnlearnerError,
            "training settings: .*epoch",
        ),
        ({"unlearner": "npo", "corpus": "nowhere"}, CorpusError, "unknown corpus 'nowhere'"),
    ],
)
def test_wrong_arguments_are_refused_before_loading(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MuseHFLM("no/such-model", **arguments)


EVALUATION = """
import json, sys, lm_eval
from lm_eval.tasks import TaskManager
folder, tasks, corpus, output = sys.argv[1:]
manager = TaskManager(include_path=tasks, include_defaults=False, metadata={"corpus": corpus})
results = lm_eval.simple_evaluate(
    model="hf-muse", model_args={"pretrained": folder}, tasks=["muse"], task_manager=manager,
    batch_size=4, device="cpu",
)
if results is not None:
    json.dump({key: results[key] for key in ("results", "n-samples")}, open(output, "x"))
"""


def test_two_processes_give_the_scores_of_one(
    folder: str, corpus_folder: Path, tmp_path: Path, lm: HFLM
) -> None:
    """Each process has half of the documents, and the first returns the results."""
    script, output = tmp_path / "evaluation.py", tmp_path / "results.json"
    script.write_text(EVALUATION)
    launch = "--cpu --num_processes=2 --num_machines=1 --mixed_precision=no --dynamo_backend=no"
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch.split()]
    arguments = [folder, str(evaluating.TASKS), str(corpus_folder), str(output)]
    subprocess.run(
        [*command, "--main_process_port=0", str(script), *arguments],
        check=True,
        capture_output=True,
    )
    two = evaluating.own_names(json.loads(output.read_text(encoding="utf-8")))
    one = evaluate(lm, corpus_folder, limit=None)
    assert two["results"].keys() == one["results"].keys()
    for task, metrics in one["results"].items():
        assert two["results"][task] == pytest.approx(metrics)
    assert two["n-samples"] == one["n-samples"]


@pytest.mark.parametrize("name", ["rtn-int4", "quanto-int8"])
def test_saved_quantized_model(name: str, model, tokenizer, tmp_path: Path) -> None:
    quantizer = get_quantizer(name)
    quantized = quantizer(copy.deepcopy(model))
    save_quantized(quantized, tmp_path, quantizer)
    tokenizer.save_pretrained(tmp_path)
    lm = MuseHFLM(pretrained=str(tmp_path), device="cpu")
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert lm.model(tokens).logits.equal(quantized(tokens).logits)


def test_simulated_grid_is_read_by_plain_hf(model, tokenizer, tmp_path: Path) -> None:
    quantizer = get_quantizer("rtn-int4")
    quantized = quantizer(copy.deepcopy(model))
    save_quantized(quantized, tmp_path, quantizer)
    tokenizer.save_pretrained(tmp_path)
    lm = HFLM(pretrained=str(tmp_path), device="cpu")
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert lm.model(tokens).logits.equal(quantized(tokens).logits)
