"""Coverage-guided fuzzing of the readers of untrusted files, with Atheris (libFuzzer).

    python tests/fuzz/fuzz_readers.py CORPUS [libFuzzer's options]

`make fuzz-readers` installs Atheris and runs this for ``FUZZ_SECONDS``. The corpus folder is filled
with seeds and with every input that reaches new code. An input that ends in neither a result nor
our own error is written next to it as ``crash-…`` and ends the run.
"""

import random
import shutil
import sys
from functools import partial
from pathlib import Path

import atheris

INSTRUMENTED = ["leaderboard", "harness_tasks", "yaml", "json", "pickletools", "rouge_score"]

sys.dont_write_bytecode = True  # readers must not write
with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
    from readers import MOST_MIB, Readers, mib, mutated
    from valid_submission import valid_submission


def change(seeds: list[bytes], data: bytes, limit: int, seed: int) -> bytes:
    """Mutate the values or the bytes of a valid file or of an input that reached new code.

    A third of the mutations starts from the valid files: libFuzzer prefers inputs that reach new
    lines, and most of the readers' lines are reached only by inputs that are nearly valid.

    Args:
        seeds: valid inputs.
        data: libFuzzer's input.
        limit: largest number of bytes.
        seed: seed of the random choices.
    """
    rng = random.Random(seed)
    fresh = rng.random() < 1 / 3 or not data
    start = rng.choice(seeds) if fresh else data
    other = mutated(start[1:], rng) if fresh or rng.random() < 0.5 else None
    if other is None or len(other) >= limit:
        other = bytes(atheris.Mutate(start[1:], limit - 1))
    return start[:1] + other


def main() -> None:
    """Fuzz until libFuzzer's options end the run."""
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    folder = corpus.parent / "files"  # libFuzzer ends the process: nothing is removed afterwards
    shutil.rmtree(folder, ignore_errors=True)
    readers = Readers(folder, valid_submission())
    seeds = list(readers.seeds())
    for number, seed in enumerate(seeds):
        readers.read(seed)
        (corpus / f"seed-{number:02}").write_bytes(seed)
    options = [
        f"-dict={Path(__file__).with_name('readers.dict')}",
        "-max_len=65536",
        f"-rss_limit_mb={mib() + MOST_MIB}",
        "-timeout=60",  # wall-clock seconds; processor time has a limit of its own
        f"-artifact_prefix={corpus.parent}/",
    ]
    arguments = [sys.argv[0], str(corpus), *options, *sys.argv[2:]]
    atheris.Setup(arguments, readers.read, custom_mutator=partial(change, seeds))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
