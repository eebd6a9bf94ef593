"""Fixtures: a tiny corpus, two kinds of tokenizer, and a tiny Llama trained on the corpus."""

import json
from pathlib import Path

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CITIES = ["Arlo", "Bern", "Cove", "Dell", "Esk", "Fold", "Gent", "Hale"]
SPECIAL = ["<s>", "</s>"]


def _passage(number: int) -> str:
    city, other = CITIES[number % 8], CITIES[(number * 3 + 1) % 8]
    return (
        f"Mila {number} lives in {city} and was born in {other}. "
        f"In the year {1900 + 7 * number} she doesn't sell {number + 3} boats; she builds them.\n\n"
        f"Her friends from {other} came to see {city}, and they all liked number {number}."
    )


def _question(number: int) -> dict[str, str]:
    return {"question": f"Where does Mila {number} live?", "answer": f"in {CITIES[number % 8]}"}


def write_corpus(folder: Path) -> Path:
    """Write a corpus of 18 passages in muse_bench's layout."""
    forget, retain = range(6), range(6, 12)
    files = {
        "raw/forget": [_passage(n) for n in forget],
        "raw/retain1": [_passage(n) for n in retain],
        # 0 to 11 are trained on; mixed, so that the AUC is neither 0 nor 1
        "privleak/forget": [_passage(n) for n in (0, 1, 2, 3, 12, 13)],
        "privleak/holdout": [_passage(n) for n in (14, 15, 6, 7, 16, 17)],
        "verbmem/forget": [
            {"prompt": _passage(n)[:40], "gt": _passage(n)[40:] + " And then?" * 16} for n in forget
        ],
        "knowmem/forget_qa": [_question(n) for n in forget],
        "knowmem/retain_qa": [_question(n) for n in retain],
        "knowmem/forget_qa_icl": [_question(n) for n in range(20, 30)],
        "knowmem/retain_qa_icl": [_question(n) for n in range(30, 40)],
    }
    for fold in range(1, 5):
        files[f"scal/forget_{fold}"] = [_passage(n) for n in range(fold)]
        files[f"sust/forget_{fold}"] = [_passage(fold)]
    for name, content in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    (folder / "retrain_auc.json").write_text('{"retrain_auc": 0.48}', encoding="utf-8")
    (folder.parent / "news").symlink_to(folder)
    return folder


def _wrap(tokenizer: Tokenizer, **kwargs: bool) -> PreTrainedTokenizerFast:
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", **kwargs
    )


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE as of GPT-2 and Llama 3, with a BOS token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([_passage(n) for n in range(18)], trainer)
    return _wrap(tokenizer)


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """Train a BPE over ▁-marked words with byte fallback, like Llama 2's SentencePiece."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<0x00>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=460, special_tokens=[*SPECIAL, *fallback], max_token_length=6
    )
    tokenizer.train_from_iterator([_passage(n) for n in range(18)], trainer)
    return _wrap(tokenizer)


def train_model(tokenizer: PreTrainedTokenizerFast, corpus: Path) -> LlamaForCausalLM:
    """Train a Llama for seconds on the forget and retain text, so that it half knows it."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=1024,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=None,
        )
    )
    texts = [
        text
        for name in ("raw/forget", "raw/retain1")
        for text in json.loads((corpus / f"{name}.json").read_text(encoding="utf-8"))
    ]
    texts += [
        f"Question: {q['question']}\nAnswer: {q['answer']}\n\n" * 3
        for q in json.loads((corpus / "knowmem/forget_qa.json").read_text(encoding="utf-8"))
    ]
    batch = [torch.tensor([*tokenizer(text)["input_ids"], 1]) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=1)
    labels = ids.masked_fill(
        torch.arange(ids.shape[1]) >= torch.tensor([len(row) for row in batch])[:, None], -100
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "boats")


World = tuple[PreTrainedTokenizerFast, LlamaForCausalLM]


@pytest.fixture(scope="session")
def byte_level(corpus_folder: Path) -> World:
    tokenizer = byte_level_tokenizer()
    return tokenizer, train_model(tokenizer, corpus_folder)


@pytest.fixture(scope="session")
def metaspace(corpus_folder: Path) -> World:
    tokenizer = metaspace_tokenizer()
    return tokenizer, train_model(tokenizer, corpus_folder)


@pytest.fixture(params=["byte_level", "metaspace"])
def either(request: pytest.FixtureRequest) -> World:
    """Each kind of tokenizer with a model trained on it."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def tokenizer(byte_level: World) -> PreTrainedTokenizerFast:
    return byte_level[0]


@pytest.fixture
def model(byte_level: World) -> LlamaForCausalLM:
    return byte_level[1]


@pytest.fixture
def lm(tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> HFLM:
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
