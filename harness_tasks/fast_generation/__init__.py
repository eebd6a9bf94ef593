"""Generation for many prompts that share a prefix, used by ``hf-muse``."""
