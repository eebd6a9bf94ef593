"""Models of the demo: a small Llama trained on the demo corpus with and without its forget set.

The AUC of the latter, the zero of PrivLeak, is kept with the corpus.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness_tasks.cache import build_once, cache_dir
from harness_tasks.corpora import RETRAIN_AUC_FILE, load_corpus
from harness_tasks.corpora.demo import (
    DemoWorld,
    Person,
    demo_corpus_folder,
    make_people,
)
from harness_tasks.corpora.retrained import check_auc
from unlearners.files import replace_file, write_checksums

from ..models.folders import refuse_damaged
from ..records.schema import Dtype, ModelId

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, TrainerCallback

    from ..progress import Progress

# Raise when the training code changes: a new version is a new model in the cache.
RECIPE_VERSION = 1
DTYPE: Dtype = "float32"
SPLITS = {"target": ("forget", "retain"), "retrain": ("retain",)}


@dataclass(frozen=True, kw_only=True)
class DemoRecipe:
    """Architecture and training of the demo's models.

    Attributes:
        vocabulary: Number of tokens of the byte-level BPE tokenizer.
        hidden: Hidden size of the Llama.
        layers: Number of layers.
        window: Tokens per training window; the prompts of KnowMem must fit.
        epochs: Passes over passages and questions, each in a new order.
        batch_size: Windows per step.
        learning_rate: Peak of the cosine schedule.
        seed: Seed of initialization and order.
    """

    vocabulary: int = 1024
    hidden: int = 128
    layers: int = 4
    window: int = 384
    epochs: int = 60
    batch_size: int = 4
    learning_rate: float = 4e-3
    seed: int = 0


@dataclass(frozen=True)
class DemoModels:
    """Folders of the two models and their identity.

    Attributes:
        target: Folder of the model trained on forget and retain text.
        retrain: Folder of the model trained on retain text alone.
        digest: Digest of corpus and recipe.
    """

    target: Path
    retrain: Path
    digest: str


def demo_models(
    world: DemoWorld | None = None,
    recipe: DemoRecipe | None = None,
    progress: Progress | None = None,
) -> DemoModels:
    """Train the demo's models, or find them in the cache; measure the retrain AUC.

    Deterministic for a seed on one machine and number of threads.

    Args:
        world: The generated people; the default world if left out.
        recipe: Architecture and training; the default recipe if left out.
        progress: Progress bars.

    Raises:
        InputError: A model in the cache is damaged.
    """
    world, recipe = world or DemoWorld(), recipe or DemoRecipe()
    digest = demo_digest(world, recipe)
    root = cache_dir() / "demo"
    folders = {}
    for name in SPLITS:
        build = partial(_train, name=name, world=world, recipe=recipe, progress=progress)
        folders[name] = build_once(root / f"{name}-{digest}", build)
        refuse_damaged(folders[name])
    models = DemoModels(folders["target"], folders["retrain"], digest)
    _keep_retrain_auc(demo_corpus_folder(world), models)
    return models


def demo_digest(world: DemoWorld | None = None, recipe: DemoRecipe | None = None) -> str:
    """Digest, in eight hexadecimal digits, of the models of a world and recipe."""
    content = [RECIPE_VERSION, (world or DemoWorld()).digest(), asdict(recipe or DemoRecipe())]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def demo_id(name: str, digest: str | None = None) -> ModelId:
    """Identity of a generated model or of the demo's tokenizer."""
    return ModelId(name=name, revision=f"recipe:{digest or demo_digest()}")


def train_tokenizer(world: DemoWorld, vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with tokens that include the space after a word.

    The prompt's "Answer: " then ends in the token that precedes every answer in the training
    text. The tokenizer is trained on another world of the same kind: on this one it would know
    the names of the forget set, and membership inference would measure that.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\w+ ?|[^\w\s] ?|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    people = make_people(replace(world, seed=world.seed + 1))
    tokenizer.train_from_iterator(
        (person.document for split in ("forget", "retain") for person in people[split]),
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _windows(
    people: list[Person], tokenizer: PreTrainedTokenizerFast, recipe: DemoRecipe
) -> list[dict[str, list[int]]]:
    """Make the training windows of all epochs: passages and runs of questions, reordered."""
    rng = random.Random(recipe.seed)
    passages = [person.passage for person in people]
    questions = [f"Question: {q}\nAnswer: {a}" for person in people for q, a in person.questions]
    stride = recipe.window - 1  # the first token of a window is BOS
    rows = []
    for _ in range(recipe.epochs):
        rng.shuffle(questions)
        # runs of questions, so that the ten in-context pairs of KnowMem look familiar
        runs = ["\n\n".join(questions[i : i + 12]) for i in range(0, len(questions), 12)]
        texts = passages + runs
        rng.shuffle(texts)
        ids = tokenizer("\n\n".join(texts), add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids) - stride + 1, stride):
            window = [tokenizer.bos_token_id, *ids[start : start + stride]]
            rows.append({"input_ids": window, "labels": window})
    return rows


def _train(
    folder: Path, name: str, world: DemoWorld, recipe: DemoRecipe, progress: Progress | None
) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed
    from transformers.trainer_callback import PrinterCallback

    from unlearners.onednn import onednn_linears

    tokenizer = train_tokenizer(world, recipe.vocabulary)
    people = make_people(world)
    rows = _windows([p for split in SPLITS[name] for p in people[split]], tokenizer, recipe)
    callbacks: list[TrainerCallback] = []
    if progress is not None:
        from ..training.callbacks import TrainingProgress

        progress.stage(f"demo: training the {name} model")
        callbacks.append(TrainingProgress(progress))
    set_seed(recipe.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=3 * recipe.hidden,
            num_hidden_layers=recipe.layers,
            num_attention_heads=4,
            max_position_embeddings=1024,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder / "trainer"),
            num_train_epochs=1,  # the rows hold all epochs
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,  # a share of all steps
            adam_beta2=0.99,
            weight_decay=0.01,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            seed=recipe.seed,
        ),
        train_dataset=rows,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    with onednn_linears(model):
        trainer.train()
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.rmtree(folder / "trainer", ignore_errors=True)
    write_checksums(folder)


def _keep_retrain_auc(corpus: Path, models: DemoModels) -> None:
    """Measure the retrain AUC and write it to the corpus folder, if it is not there yet."""
    path = corpus / RETRAIN_AUC_FILE
    with contextlib.suppress(FileNotFoundError, ValueError, LookupError, TypeError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["models"] == models.digest:
            check_auc(kept["scores"], kept["retrain_auc"], path)
            return
    from ..config import CorpusEntry, Evaluation
    from ..evaluation.evaluate import retrain_scores
    from ..models.folders import load_model
    from .retrain_auc import scores_content, scores_text

    model, tokenizer = load_model(str(models.retrain))
    scores = retrain_scores(model, tokenizer, CorpusEntry(name=str(corpus)), Evaluation())
    identity = {
        "models": models.digest,
        "model": demo_id("demo-retrain", models.digest).model_dump(),
        "tokenizer": demo_id("demo", models.digest).model_dump(),
        "dtype": DTYPE,
        "corpus": load_corpus(str(corpus)).fingerprint,
    }
    replace_file(path, scores_text(scores_content(scores) | identity))
