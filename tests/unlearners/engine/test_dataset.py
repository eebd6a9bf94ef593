"""Windows and their pairs, as in MUSE."""

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from unlearners import UnlearnerError, UnlearningData
from unlearners.engine.dataset import FILLER, ForgetRetainDataset, cut_windows

from ..tiny_models import byte_tokenizer

TEXTS = ["abcde", "fghij"]  # with the blank line between, twelve bytes


def spell(tokenizer, windows: torch.Tensor) -> list[str]:
    return [tokenizer.decode(window) for window in windows]


def test_windows_begin_with_bos_and_the_last_is_filled_from_the_first(tokenizer) -> None:
    """Five tokens are BOS and four bytes; twelve bytes fill three windows exactly.

    At six tokens, five bytes each: the last window has two bytes of its own and is filled up with
    the first window, its BOS included.
    """
    assert spell(tokenizer, cut_windows(tokenizer, TEXTS, 5)) == ["<s>abcd", "<s>e\n\nf", "<s>ghij"]
    assert spell(tokenizer, cut_windows(tokenizer, TEXTS, 6)) == [
        "<s>abcde",
        "<s>\n\nfgh",
        "<s>ij<s>ab",
    ]


def test_without_bos_windows_are_text_alone() -> None:
    tokenizer = byte_tokenizer()
    assert spell(tokenizer, cut_windows(tokenizer, TEXTS, 7)) == ["abcde\n\n", "fghijab"]


def test_tokens_that_a_tokenizer_puts_around_a_text_are_not_in_windows() -> None:
    tokenizer = byte_tokenizer(bos_token="<s>", eos_token="</s>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> <s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert spell(tokenizer, torch.tensor([tokenizer("ab")["input_ids"]])) == ["<s><s>ab</s>"]
    assert spell(tokenizer, cut_windows(tokenizer, ["ab", "c"], 20)) == ["<s>ab\n\nc"]


def test_a_single_short_window_stays_short(tokenizer) -> None:
    assert spell(tokenizer, cut_windows(tokenizer, ["abc"], 20)) == ["<s>abc"]


def test_a_document_in_parts_is_one_document(tokenizer) -> None:
    parts = ["ab", ("cd", "ef"), "g"]
    assert spell(tokenizer, cut_windows(tokenizer, parts, 20)) == ["<s>ab\n\ncdef\n\ng"]


def test_retain_windows_are_paired_modulo() -> None:
    forget, retain = torch.arange(10).reshape(5, 2), torch.arange(100, 104).reshape(2, 2)
    batch = ForgetRetainDataset(forget, retain).collate([0, 3, 4])
    assert batch["count"] == 3
    assert batch["forget"]["input_ids"].tolist() == [[0, 1], [6, 7], [8, 9]]
    assert batch["paired"]["index"].tolist() == [0, 1, 0]
    assert batch["paired"]["input_ids"].tolist() == [[100, 101], [102, 103], [100, 101]]
    assert (batch["forget"]["side"], batch["paired"]["side"]) == ("forget", "retain")


def test_only_paired_retain_windows_are_kept() -> None:
    dataset = ForgetRetainDataset(torch.zeros(2, 3, dtype=int), torch.zeros(9, 3, dtype=int))
    assert len(dataset.retain) == 2


def test_every_epoch_is_another_permutation_fixed_by_the_seed() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        dataset = ForgetRetainDataset(torch.zeros(20, 3, dtype=int), seed=seed)
        dataset.set_epoch(epoch)
        return [dataset[i] for i in range(len(dataset))]

    assert sorted(order(0, 0)) == list(range(20))
    assert order(0, 0) == order(0, 0) != order(0, 1)
    assert order(0, 0) != order(7, 0)


def test_fillers_complete_the_last_batches_and_carry_no_window() -> None:
    """Five windows on two processes, two a batch: 2 and 2, then 1 with a filler and 2 fillers."""
    dataset = ForgetRetainDataset(torch.arange(10).reshape(5, 2), global_batch_size=4)
    order = [dataset[i] for i in range(len(dataset))]
    assert len(order) == 8 and order[5:] == [FILLER] * 3
    assert dataset.collate(order[4:6])["forget"]["index"].tolist() == [order[4]]
    alone = dataset.collate(order[6:])
    assert alone["count"] == 0 and alone["forget"]["index"].tolist() == [0]


@pytest.mark.parametrize("side", ["forget", "retain"])
def test_a_side_without_text_is_refused(tokenizer, side: str) -> None:
    data = UnlearningData(**{"forget": ["some text"], "retain": ["more text"]} | {side: []})
    with pytest.raises(UnlearnerError, match=f"the {side} text is empty"):
        ForgetRetainDataset.from_text(
            tokenizer, data, window=8, needs_retain=True, seed=0, global_batch_size=1
        )
