"""Cut the documents of the mini corpus from a MUSE data folder; the text stays out of here.

    python documents.py MUSE_BENCH/data/news OUT

writes forget.json, retain.json, holdout.json and questions.json for `lm-eval-muse corpus build`.
Each document is a run of paragraphs of one article: (article, first paragraph, behind the last),
paragraphs being what blank lines divide. Passages were chosen so that 300 to 500 tokens of SmolLM2
hold whole paragraphs and, where there are some, the answers to MUSE's questions.
"""

import argparse
import hashlib
import json
from pathlib import Path

# fmt: off
FORGET = [  # of raw/forget
    (38, 6, 18), (73, 3, 14), (164, 1, 17), (197, 12, 19), (205, 1, 16), (221, 21, 31),
    (319, 2, 13), (345, 1, 19), (386, 1, 16), (428, 3, 19), (431, 1, 15), (433, 25, 40),
    (472, 2, 16), (474, 2, 17), (492, 1, 12), (522, 30, 46), (538, 1, 15), (543, 2, 18),
    (631, 1, 19), (635, 2, 16), (671, 1, 16), (681, 7, 19), (705, 11, 27), (868, 1, 16),
]
RETAIN = [  # of privleak/retain
    (9, 10, 21), (22, 30, 45), (29, 3, 20), (30, 1, 14), (32, 2, 15), (43, 42, 59),
    (47, 11, 23), (48, 3, 16), (54, 14, 29), (56, 11, 28), (69, 19, 34), (72, 38, 57),
    (92, 12, 27), (3, 1, 8), (12, 1, 11), (18, 1, 16), (36, 1, 15), (40, 1, 13),
    (51, 1, 15), (60, 1, 12), (64, 1, 19), (77, 1, 14), (86, 1, 13), (95, 1, 15),
]
HOLDOUT = [  # of privleak/holdout
    (2, 1, 20), (6, 1, 20), (10, 1, 15), (14, 1, 17), (18, 1, 11), (22, 1, 18),
    (26, 1, 12), (30, 1, 16), (34, 1, 17), (38, 1, 17), (42, 1, 18), (46, 1, 14),
    (50, 1, 13), (54, 1, 12), (58, 1, 10), (62, 1, 19), (66, 1, 16), (70, 1, 16),
    (74, 1, 15), (78, 1, 16), (82, 1, 11), (86, 1, 20), (90, 1, 13), (94, 1, 15),
]
QUESTIONS = {  # of knowmem: those whose answers stand in the documents
    "forget": [48, 43, 69, 64, 97, 2, 24, 74, 61, 35, 14, 19, 45, 94, 65, 10, 71, 37, 20, 21,
               42, 75, 89, 34, 0, 13],
    "retain": [3, 40, 21, 16, 95, 92, 94, 60, 7, 31, 49, 69, 90, 37, 66],
}
# fmt: on
SHA256 = {
    "forget.json": "fccd759b6529772c440adcb98e95ad922420241b061c61929f1d5540b28f9ac4",
    "retain.json": "90ce5902689488e84c9d7b823b71a58a989408091d17f00163dc662d7c7ee4b0",
    "holdout.json": "5e8ba892a8196a07b8ea5bf924551064e7f819124d6ce70ecac7b9fc3fe9af14",
    "questions.json": "2d758275ab6455b467b227190b408beafdab12b082f4b8bd2eddaabe1831fd89",
}


def main() -> None:
    """Write the four files, each checked against the SHA-256 of the one that was used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder `news` of muse_bench's data")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()

    def read(name: str) -> list:
        return json.loads((arguments.data / f"{name}.json").read_text(encoding="utf-8"))

    def cut(name: str, runs: list[tuple[int, int, int]]) -> list[str]:
        articles = [text.split("\n\n") for text in read(name)]
        return ["\n\n".join(articles[article][start:end]) for article, start, end in runs]

    questions = []
    for split, indices in QUESTIONS.items():
        pairs = read(f"knowmem/{split}_qa")
        questions += [pairs[i] | {"split": split} for i in indices]
        shown = read(f"knowmem/{split}_qa_icl")
        questions += [pair | {"split": split, "icl": True} for pair in shown]
    contents = {
        "forget.json": cut("raw/forget", FORGET),
        "retain.json": cut("privleak/retain", RETAIN),
        "holdout.json": cut("privleak/holdout", HOLDOUT),
        "questions.json": questions,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        data = json.dumps(content, ensure_ascii=False).encode()
        if (found := hashlib.sha256(data).hexdigest()) != SHA256[name]:
            raise SystemExit(f"{name} would have SHA-256 {found}, not {SHA256[name]}: other data?")
        (arguments.out / name).write_bytes(data)


if __name__ == "__main__":
    main()
