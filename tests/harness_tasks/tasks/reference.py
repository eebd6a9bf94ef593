"""Reference implementation of MUSE, written from its protocol alone."""

import json
from pathlib import Path
from typing import Any

import torch
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import roc_auc_score
from transformers import LlamaForCausalLM


class Reference:
    """MUSE with one text at a time, plain ``generate`` and plain log-softmax."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: Any, corpus: Path) -> None:
        self.model, self.tokenizer, self.corpus = model, tokenizer, corpus
        self.rouge = RougeScorer(["rougeL"], use_stemmer=False)

    def read(self, name: str) -> list[Any]:
        return json.loads((self.corpus / f"{name}.json").read_text(encoding="utf-8"))

    def encode(self, text: str) -> torch.Tensor:
        return self.tokenizer(text, return_tensors="pt", add_special_tokens=True)["input_ids"]

    def generate(self, prompt: str, max_new_tokens: int) -> str:
        ids = self.encode(prompt)
        output = self.model.generate(
            ids, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=1
        )
        return self.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)

    def rouge_l(self, response: str, reference: str) -> float:
        return 100 * self.rouge.score(reference, response)["rougeL"].fmeasure

    def verbmem(self) -> dict[str, Any]:
        scores, responses = [], []
        for row in self.read("verbmem/forget"):
            responses.append(self.generate(row["prompt"], 128))
            cut = self.encode(row["gt"])[0, :128]
            reference = self.tokenizer.decode(cut, skip_special_tokens=True)
            scores.append(self.rouge_l(responses[-1], reference))
        return {"score": sum(scores) / len(scores), "responses": responses}

    def knowmem(self, half: str) -> dict[str, Any]:
        shots = "".join(
            f"Question: {row['question']}\nAnswer: {row['answer']}\n\n"
            for row in self.read(f"knowmem/{half}_qa_icl")
        )
        scores, responses = [], []
        for row in self.read(f"knowmem/{half}_qa"):
            response = self.generate(f"{shots}Question: {row['question']}\nAnswer: ", 32)
            for stop in ("\n\n", "\nQuestion", "Question:"):
                response = response.split(stop)[0]
            responses.append(response)
            scores.append(self.rouge_l(response, row["answer"]))
        return {"score": sum(scores) / len(scores), "responses": responses}

    def auc(self) -> float:
        scores, labels = [], []
        for split in ("forget", "holdout"):
            for text in self.read(f"privleak/{split}"):
                ids = self.encode(text)
                with torch.no_grad():
                    logits = self.model(ids).logits[0]
                logprobs = [
                    torch.log_softmax(logits[i], -1)[ids[0, i + 1]].item()
                    for i in range(ids.shape[1] - 1)
                ]
                lowest = sorted(logprobs)[: int(0.4 * len(logprobs))]
                scores.append(sum(lowest) / len(lowest))
                labels.append(int(split == "holdout"))
        return float(roc_auc_score(labels, scores))
