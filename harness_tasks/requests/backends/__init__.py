"""Log-probabilities from lm-eval's model classes, one module for each class.

A module defines ``check(lm, statistics)``, which refuses unsupported requests,
``max_tokens(lm, longest)``, the maximum number of tokens of a text if ``longest`` are needed, and
``score(lm, texts)``. It is imported on first use.
"""

# modules by lm-eval's model class, including its subclasses
BACKENDS = {
    "lm_eval.models.huggingface.HFLM": "huggingface",
    "lm_eval.models.vllm_causallms.VLLM": "vllm",
}
