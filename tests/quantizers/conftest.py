"""Tiny random models, made in the test."""

import copy

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

VOCABULARY = 300


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Use one thread: threads slow tiny matrices down, most of all on shared cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_llama(seed=0, **changes):
    torch.manual_seed(seed)
    settings = dict(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(LlamaConfig(**settings | changes)).eval()


def tiny_gpt2(seed=0):
    torch.manual_seed(seed)
    config = GPT2Config(
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=128,
        vocab_size=VOCABULARY,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # biases start at zero, where losing them would not show
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.normal_(std=0.1)
    return model


@pytest.fixture
def llama():
    """A Llama with an untied head."""
    return tiny_llama()


@pytest.fixture
def gpt2():
    """A GPT-2: ``Conv1D`` layers and a head tied to the embeddings."""
    return tiny_gpt2()


@pytest.fixture(params=[tiny_llama, tiny_gpt2], ids=["llama", "gpt2"])
def model(request):
    return request.param()


@torch.no_grad()
def with_update(model):
    """A copy after an update of every weight: normal noise of standard deviation 0.003."""
    changed = copy.deepcopy(model)
    torch.manual_seed(7)
    for parameter in changed.parameters():
        parameter.add_(0.003 * torch.randn_like(parameter))
    return changed


@pytest.fixture
def updated(model):
    return with_update(model)


@pytest.fixture
def updated_llama(llama):
    return with_update(llama)


@pytest.fixture
def tokens():
    return torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def logits(tokens):
    """A function from a model to its logits."""

    @torch.no_grad()
    def compute(model):
        return model(tokens).logits

    return compute


@pytest.fixture(scope="session")
def tokenizer():
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator(["the mill by the river", "a lamp in the window"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="session")
def texts():
    """Twenty short texts to calibrate on."""
    places = ["the mill", "a lamp", "the river", "a window", "the old bridge"]
    return [
        f"by {first} {number} people look at {second}"
        for number, first in enumerate(places)
        for second in places
        if second != first
    ]


class PeakMemory(TorchDispatchMode):
    """Peak number of bytes of tensors that are created inside the ``with`` block."""

    def __init__(self):
        super().__init__()
        self.live = WeakIdKeyDictionary()
        self.known = WeakIdKeyDictionary()
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, torch.Tensor) and given.untyped_storage() not in self.live:
                self.known[given.untyped_storage()] = True
        result = function(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if not isinstance(made, torch.Tensor) or made.is_meta:
                continue
            if made.untyped_storage() not in self.known:
                self.live[made.untyped_storage()] = made.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(self.live.values()))
        return result


@pytest.fixture
def peak_memory():
    return PeakMemory()
