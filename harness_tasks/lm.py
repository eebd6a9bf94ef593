"""lm-eval model ``hf-muse``: a Hugging Face model with transformed weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel

from quantizers import CalibratedQuantizer, get_quantizer
from quantizers.loading import auto_class
from quantizers.saving import QUANTIZER_FILE, load_quantized
from unlearners import UnlearnerError, get_unlearner
from unlearners.finetuning import get_finetuning
from unlearners.training import TrainingSettings

from .calibration import calibration_facts, with_calibration
from .corpora import load_corpus
from .errors import CorpusError
from .fast_generation import generation
from .loading import (
    CompleteLoader,
    refuse_adapter,
    refuse_rounded,
    repair_generation_config,
)
from .transforms import Unlearning, merge_adapter


@register_model("hf-muse")
class MuseHFLM(HFLM):
    """HFLM with a model that is merged with an adapter, unlearned, and quantized, in this order.

    A transform's parameters are prefixed with its name and a dot:
    ``quantizer=rtn-int4,quantizer.group_size=64``, ``unlearner.beta=0.1``,
    ``finetuning.rank=16``, ``training.epochs=5``. Without transforms the results are those of
    HFLM, generated faster.

    Args:
        pretrained: Hub id or folder of the model (a folder of ``lm-eval-muse quantize`` included),
            or the model itself, which is consumed.
        peft: Adapter to merge, in float32, rounded once to the model's dtype.
        unlearner: Name of an unlearning method; needs ``corpus``.
        finetuning: Name of the choice of trained weights, ``full`` or ``lora``.
        corpus: Name or folder of the corpus for unlearning and calibration; the tasks of the group
            ``muse`` use it too.
        data_dir: Folder that holds the corpora.
        forget: Split of the corpus with the documents to unlearn.
        retain: Split of the corpus with the documents to keep.
        output_dir: Folder for checkpoints and losses of unlearning; None for a temporary folder.
        quantizer: Name of a quantizer.
        **kwargs: HFLM's arguments, and parameters of the transforms.

    Raises:
        CorpusError, UnlearnerError, QuantizerError: A transform is not possible; names and
            parameters are checked before the model is loaded.
        ModelError: The checkpoint is incomplete, or is an adapter.

    Attributes:
        progress_bar: Optional replacement of tqdm that counts answered requests.
        needs_eos: False, so that requests of MUSE accept a tokenizer without an EOS token.
    """

    AUTO_MODEL_CLASS: Any
    progress_bar: Callable[..., Any]
    needs_eos = False

    def __init__(
        self,
        pretrained: str | PreTrainedModel,
        *,
        peft: str | None = None,
        unlearner: str | None = None,
        finetuning: str = "full",
        corpus: str | None = None,
        data_dir: str | None = None,
        forget: str = "raw/forget",
        retain: str = "raw/retain1",
        output_dir: str | None = None,
        quantizer: str | None = None,
        **kwargs: Any,
    ) -> None:
        # lm-eval parses `corpus=1984` as a number
        peft, unlearner, corpus, data_dir, output_dir, quantizer = map(
            _text, (peft, unlearner, corpus, data_dir, output_dir, quantizer)
        )
        finetuning, forget, retain = str(finetuning), str(forget), str(retain)
        parameters = {
            transform: _pop_parameters(transform, kwargs)
            for transform in ("unlearner", "finetuning", "training", "quantizer")
        }
        if isinstance(pretrained, str):
            refuse_adapter(pretrained)
        unlearn = quantize = None
        if unlearner:
            if corpus is None:
                raise CorpusError(f"unlearner={unlearner} needs corpus=, a name or a folder")
            refuse_rounded(pretrained if isinstance(pretrained, str) else pretrained.name_or_path)
            unlearn = Unlearning(
                name=unlearner,
                unlearner=get_unlearner(unlearner, **parameters["unlearner"]),
                finetuning=get_finetuning(finetuning, **parameters["finetuning"]),
                training=_training(parameters["training"]),
                corpus=load_corpus(corpus, data_dir),
                forget=forget,
                retain=retain,
                output_dir=output_dir,
            )
        if quantizer:
            quantize = get_quantizer(quantizer, **parameters["quantizer"])
            if isinstance(quantize, CalibratedQuantizer) and corpus is None:
                raise CorpusError(f"quantizer={quantizer} needs corpus=, for its retain set")

        super().__init__(pretrained=pretrained, peft=peft, **kwargs)
        self._pad_within_vocabulary()
        if hasattr(self, "accelerator") and self.device.type == "cpu":
            # HFLM distributes documents over processes on GPUs only
            self._rank = self.accelerator.local_process_index
            self._world_size = self.accelerator.num_processes
        if peft:
            self._model = merge_adapter(self.model, peft)
        if unlearn:
            repair_generation_config(self.model)  # the Trainer saves checkpoints
            self._model = unlearn(self.model, self.tokenizer)
        if quantize:
            if isinstance(quantize, CalibratedQuantizer):
                source = load_corpus(str(corpus), data_dir)
                quantize = with_calibration(quantize, self.tokenizer, source, forget, retain)
            self._model = quantize(self.model)
        self.model.eval()
        self.transforms = {
            "unlearning": unlearn and unlearn.to_dict(),
            "quantizer": quantize and {"name": quantizer} | quantize.to_dict(),
            "calibration": quantize and calibration_facts(quantize),
        }

    def _pad_within_vocabulary(self) -> None:
        """Replace a padding token without an embedding in the model.

        HFLM adds such a token to a tokenizer that has no EOS, padding or unknown token. Padding is
        masked, so any token can be used.
        """
        if self.tokenizer.eos_token_id is not None:
            return
        if self.tokenizer.pad_token_id >= self.model.get_input_embeddings().weight.shape[0]:
            self.tokenizer.pad_token_id = self.tokenizer.bos_token_id or 0

    def _create_model(self, pretrained: str, *args: Any, **kwargs: Any) -> None:
        """Load a model as HFLM does, or from a folder of ``lm-eval-muse quantize``.

        A multimodal checkpoint is loaded completely.

        Raises:
            ModelError: A tensor is missing, unexpected or of another shape.
        """
        if Path(pretrained, QUANTIZER_FILE).is_file():
            self._model = load_quantized(pretrained)
            return
        own = self.AUTO_MODEL_CLASS
        loaded_class = auto_class(self.config) if self.backend == "causal" else own
        self.AUTO_MODEL_CLASS = CompleteLoader(loaded_class)
        try:
            super()._create_model(pretrained, *args, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = own

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, *args: Any, **kwargs: Any
    ) -> list[int]:
        """Encode as HFLM does; also without BOS and EOS tokens, which HFLM does not support.

        Args:
            string: Text to encode.
            add_special_tokens: Add the tokenizer's special tokens; None for HFLM's default.
            *args: Further arguments of HFLM.
            **kwargs: Further arguments of HFLM.

        Returns:
            Token ids.
        """
        if add_special_tokens is None and self.prefix_token_id is None:
            add_special_tokens = self.add_bos_token is not False
        return super().tok_encode(string, add_special_tokens, *args, **kwargs)

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Decode as HFLM does; a missing EOS token (None) gives an empty text."""
        return "" if tokens is None else super().tok_decode(tokens, skip_special_tokens)

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any
    ) -> torch.Tensor:
        """Generate as HFLM does; without an EOS token, end at length and stop strings only."""
        if self.eot_token_id is None:
            # an empty stop string would end every text at once
            stop, kwargs["eos_token_id"] = [string for string in stop if string], None
        return super()._model_generate(context, max_length, stop, **kwargs)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Generate HFLM's texts, faster if decoding is greedy and the model's cache is plain."""
        if generation.is_supported(self, requests):
            return generation.generate_until(self, requests, disable_tqdm)
        return super().generate_until(requests, disable_tqdm)

    def get_model_info(self) -> dict[str, Any]:
        """Return HFLM's description of the model with the settings of its transforms."""
        return super().get_model_info() | self.transforms


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _pop_parameters(transform: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Remove the arguments ``<transform>.<name>`` from ``kwargs`` and return them by name."""
    prefix = f"{transform}."
    names = [name for name in kwargs if name.startswith(prefix)]
    return {name.removeprefix(prefix): kwargs.pop(name) for name in names}


def _training(parameters: dict[str, Any]) -> TrainingSettings:
    try:
        return TrainingSettings(**parameters)
    except TypeError as error:  # an unknown name
        raise UnlearnerError(f"training settings: {error}") from error
