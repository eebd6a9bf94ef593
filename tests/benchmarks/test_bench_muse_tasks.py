"""The tasks on ``hf-muse`` against MUSE's own way of running: a loop over single examples.

The loop does what muse_bench does: full prompts, all new tokens even after a stop string,
forget, retain and holdout texts for PrivLeak, each also in lower case, all logits at once, and a
Python loop over tokens. Neither gives a stop or an end, so that both decode all tokens.

``MUSE_BENCH_EXAMPLES`` sets the number of examples, ``MUSE_BENCH_SHAPE=smollm2`` the shape of a
model of 135 million parameters instead of 5.5.
"""

import json
import os
import random
from pathlib import Path
from time import perf_counter
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import harness_tasks
from harness_tasks.lm import MuseHFLM

EXAMPLES = int(os.environ.get("MUSE_BENCH_EXAMPLES", "16"))
SHAPE = os.environ.get("MUSE_BENCH_SHAPE", "small")
GOALS = {
    "small": {"verbmem": 5.0, "knowmem": 8.0, "utility": 8.0, "auc": 3.3, "together": 4.0},
    "smollm2": {"verbmem": 3.0, "knowmem": 8.0, "utility": 8.0, "auc": 2.8},
}
SHAPES: dict[str, dict[str, Any]] = {
    "small": {
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "smollm2": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
}
WORDS = [f"w{number}" for number in range(4000)]
TASKS = Path(harness_tasks.__file__).parent / "muse"


def _text(generator: random.Random, words: int) -> str:
    return " ".join(generator.choices(WORDS, k=words))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of the lengths of MUSE-News, in tokens, made of invented words."""
    generator, folder = random.Random(0), tmp_path_factory.mktemp("bench")

    def questions(count: int) -> list[dict[str, str]]:
        return [
            {"question": _text(generator, generator.randint(10, 30)), "answer": _text(generator, 4)}
            for _ in range(count)
        ]

    files: dict[str, Any] = {
        "verbmem/forget": [
            {"prompt": _text(generator, generator.randint(950, 1100)), "gt": _text(generator, 300)}
            for _ in range(EXAMPLES)
        ],
        "knowmem/forget_qa": questions(EXAMPLES),
        "knowmem/forget_qa_icl": questions(10),
        "knowmem/retain_qa": questions(EXAMPLES),
        "knowmem/retain_qa_icl": questions(10),
    }
    for split in ("forget", "retain", "holdout"):
        files[f"privleak/{split}"] = [
            _text(generator, generator.randint(1700, 2100)) for _ in range(EXAMPLES)
        ]
    for name, content in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(["<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(max_position_embeddings=4096, **SHAPES[SHAPE])
    return LlamaForCausalLM(config).eval()


class MuseLoop:
    """One example at a time."""

    def __init__(self, model: Any, tokenizer: Any, corpus: Path) -> None:
        self.model, self.tokenizer, self.corpus = model, tokenizer, corpus
        model.generation_config.eos_token_id = None  # none of the random models ends a text

    def read(self, name: str) -> list[Any]:
        return json.loads((self.corpus / f"{name}.json").read_text(encoding="utf-8"))

    def generate(self, prompt: str, tokens: int) -> str:
        ids = self.tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = self.model.generate(ids, max_new_tokens=tokens, do_sample=False, pad_token_id=1)
        return self.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)

    def verbmem(self) -> None:
        for row in self.read("verbmem/forget"):
            self.generate(row["prompt"], 128)

    def knowmem(self, split: str = "forget") -> None:
        shots = "".join(
            f"Question: {row['question']}\nAnswer: {row['answer']}\n\n"
            for row in self.read(f"knowmem/{split}_qa_icl")
        )
        for row in self.read(f"knowmem/{split}_qa"):
            self.generate(f"{shots}Question: {row['question']}\nAnswer: ", 32)

    def utility(self) -> None:
        self.knowmem("retain")

    def auc(self) -> None:
        for split in ("forget", "retain", "holdout"):
            for text in self.read(f"privleak/{split}"):
                for variant in (text, text.lower()):
                    ids = self.tokenizer(variant, return_tensors="pt")["input_ids"]
                    with torch.no_grad():
                        logits = self.model(ids, labels=ids).logits
                    logprobs = torch.log_softmax(logits, dim=-1)
                    for place, token in enumerate(ids[0, 1:]):
                        logprobs[0, place, token].item()


SECONDS: dict[str, tuple[float, float]] = {}  # of the loop and of hf-muse


@pytest.mark.parametrize("task", ["verbmem", "knowmem", "utility", "auc"])
def test_task(
    benchmark: Any,
    ratios: Any,
    task: str,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Path,
) -> None:
    lm = MuseHFLM(pretrained=model, tokenizer=tokenizer, batch_size=EXAMPLES)
    manager = TaskManager(
        include_path=str(TASKS), include_defaults=False, metadata={"corpus": str(corpus)}
    )
    tasks = manager.load([f"muse_{task}"])
    tasks["tasks"][f"muse_{task}"].set_fewshot_seed(0)
    loop = getattr(MuseLoop(model, tokenizer, corpus), task)

    def run() -> None:
        lm_eval.evaluate(lm, tasks, bootstrap_iters=0, log_samples=False)

    forget_peak_memory()
    benchmark.pedantic(run, rounds=1)
    memory = peak_memory()
    forget_peak_memory()
    start = perf_counter()
    loop()
    seconds = perf_counter() - start
    what = f"{task}, {EXAMPLES} examples, {SHAPE} model: MUSE's loop / hf-muse"
    ratios.add(f"{what}, seconds", seconds / benchmark.stats["min"], f"{GOALS[SHAPE][task]}")
    SECONDS[task] = seconds, benchmark.stats["min"]
    if len(SECONDS) == 4 and "together" in GOALS[SHAPE]:
        loop_sum, own_sum = (sum(times) for times in zip(*SECONDS.values(), strict=True))
        together = what.replace(task, "all four", 1)
        ratios.add(f"{together}, seconds", loop_sum / own_sum, f"{GOALS[SHAPE]['together']}")
    if task == "auc":
        ratios.add(f"{what}, peak memory", peak_memory() / memory, "above 1")


def forget_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The largest resident size since ``forget_peak_memory``, in KiB."""
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    return int(line.split()[1])
