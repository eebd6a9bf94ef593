"""The MUSE benchmark as lm-evaluation-harness tasks."""
