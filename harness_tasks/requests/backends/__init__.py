"""How lm-eval's model classes give log-probabilities, one module for each.

A module defines ``check(lm, statistics)``, which refuses what the model cannot give,
``max_tokens(lm, longest)``, the most tokens of a text that it can score where ``longest`` are
needed, and ``score(lm, texts)``. It is imported when a model of its class is asked.
"""

# lm-eval's model classes, which serve their subclasses too, and their modules here
BACKENDS = {
    "lm_eval.models.huggingface.HFLM": "huggingface",
    "lm_eval.models.vllm_causallms.VLLM": "vllm",
}
