"""``--model hf-muse``: lm-eval's Hugging Face model, its weights passed through transforms."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from peft import PeftModel
from transformers import PreTrainedModel

from .corpora import CorpusError, load_corpus

TRANSFORMS = ("unlearner", "finetuning", "training", "quantizer")


@register_model("hf-muse")
class MuseHFLM(HFLM):
    """HFLM whose model is first merged with an adapter, then unlearned, then quantized.

    Takes HFLM's arguments and those below. A transform's own parameters follow its name and a
    dot: ``quantizer=rtn-int4,quantizer.group_size=64``, ``unlearner.beta=0.1``,
    ``finetuning.rank=16``, ``training.epochs=5``. With no transform it is HFLM.

    Args:
        pretrained: name or folder of the model, or the model itself, which is then consumed.
        peft: adapter to merge, in float32, rounded once to the model's dtype.
        unlearner: name of an unlearning method; needs ``corpus``.
        finetuning: which weights it trains, ``full`` or ``lora``.
        corpus: corpus to unlearn, a name or a folder; tasks of the group ``muse`` use it too.
        data_dir: folder that holds the corpora.
        forget: split with the documents to unlearn.
        retain: split with the documents to keep.
        output_dir: where unlearning keeps its checkpoints and losses; a temporary folder if none.
        quantizer: name of a quantizer.

    Raises:
        CorpusError, UnlearnerError, QuantizerError: a transform cannot be done as asked.
    """

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
        parameters = {name: _pop_parameters(name, kwargs) for name in TRANSFORMS}
        super().__init__(pretrained=pretrained, peft=peft, **kwargs)
        self.transforms: dict[str, Any] = {}
        if peft:
            self._model = _merge(self.model, peft)
        if unlearner:
            if corpus is None:
                raise CorpusError(f"unlearner={unlearner} needs corpus=, a name or a folder")
            self._unlearn(
                unlearner, finetuning, parameters, corpus, data_dir, forget, retain, output_dir
            )
        if quantizer:
            from quantizers import get_quantizer

            transform = get_quantizer(quantizer, **parameters["quantizer"])
            self._model = transform(self.model)
            self.transforms["quantizer"] = {"name": quantizer} | transform.to_dict()
        if self.transforms:
            self.model.eval()

    def _unlearn(
        self,
        method: str,
        finetuning: str,
        parameters: dict[str, dict[str, Any]],
        corpus: str,
        data_dir: str | None,
        forget: str,
        retain: str,
        output_dir: str | None,
    ) -> None:
        from unlearners import UnlearningData, get_unlearner
        from unlearners.finetuning import get_finetuning
        from unlearners.training import TrainingSettings

        unlearner = get_unlearner(method, **parameters["unlearner"])
        adaptation = get_finetuning(finetuning, **parameters["finetuning"])
        training = TrainingSettings(**parameters["training"])
        source = load_corpus(corpus, data_dir)
        data = UnlearningData(
            forget=source.texts(forget),
            retain=source.texts(retain) if "retain" in unlearner.needs else (),
        )
        with tempfile.TemporaryDirectory() as scratch:
            self._model = unlearner(
                self.model,
                self.tokenizer,
                data,
                finetuning=adaptation,
                training=training,
                output_dir=Path(output_dir or scratch),
            )
        self.transforms["unlearner"] = {"name": method} | unlearner.to_dict()
        self.transforms["finetuning"] = adaptation.to_dict()
        self.transforms["training"] = training.to_dict()
        self.transforms["corpus"] = source.provenance | {"forget": forget, "retain": retain}

    def get_model_info(self) -> dict[str, Any]:
        """HFLM's account of the model, with the resolved settings of every transform."""
        return super().get_model_info() | {"transforms": self.transforms}


def _pop_parameters(transform: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments ``<transform>.<name>`` out of ``kwargs``."""
    prefix = f"{transform}."
    names = [name for name in kwargs if name.startswith(prefix)]
    return {name.removeprefix(prefix): kwargs.pop(name) for name in names}


def _merge(model: PreTrainedModel | PeftModel, peft: str) -> PreTrainedModel:
    """Merge the adapter in float32: in bfloat16, rounding would eat small updates."""
    if not isinstance(model, PeftModel):  # HFLM leaves a model in memory without its adapter
        model = PeftModel.from_pretrained(model, peft)
    dtype = next(model.get_base_model().parameters()).dtype
    _cast(model, torch.float32)
    merged = model.merge_and_unload()
    _cast(merged, dtype)
    return merged


def _cast(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast parameters in place; buffers (rotary frequencies) keep their own precision."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
