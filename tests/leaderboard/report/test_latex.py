"""``table.tex``."""

import re
from collections.abc import Callable

from leaderboard.records.schema import Record
from leaderboard.report.latex import latex
from leaderboard.standings.published import read_published
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]
HOSTILE = "=cmd|'/C calc'!A0 \\input{x} & <b>\u202e"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]


def test_latex_is_laid_out_like_table_ii(records: list[Record]) -> None:
    """A line per method, finetuning and precision; four numbers of Books, then four of News."""
    lines = latex(build_table(records)).splitlines()
    assert lines[1] == r"\begin{table*}" and lines[-1] == r"\end{table*}"
    assert r"\begin{tabular}{lllrrrrrrrr}" in lines
    assert r" &  &  & \multicolumn{4}{c}{books} & \multicolumn{4}{c}{news} \\" in lines
    body = [line for line in lines if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(cells(line)) for line in body} == {11}
    labels = [cells(line)[:3] for line in body]
    assert labels[0][0] == "Method"
    assert labels[1:5] == [
        ["target", "---", "float32"],
        ["", "", "rtn-int4"],
        ["retrain", "---", "float32"],
        ["", "", "rtn-int4"],
    ]
    assert ["ga", "full", "float32"] in labels
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in lines


def test_latex_bold_is_the_best_that_forgot(records: list[Record]) -> None:
    """VerbMem 20 against 30, KnowMem 40 against 35, |PrivLeak| 50 against 40, Utility 60 twice.

    `ga`, with the best utility, went 1/8 of the way in VerbMem: it did not forget.
    """
    text = latex(build_table(records))
    npo, simnpo, ga = (
        next(cells(line)[3:7] for line in text.splitlines() if line.startswith(f"{method} "))
        for method in ("npo", "simnpo", "ga")
    )
    error = r"{\tiny\,$\pm$\,1.5}"
    assert npo == [
        rf"\textbf{{20.0}}{error}",
        f"40.0{error}",
        f"$-$50.0{error}",
        rf"\textbf{{60.0}}{error}",
    ]
    assert simnpo == [
        f"30.0{error}",
        *(rf"\textbf{{{number}}}{error}" for number in ("35.0", "40.0", "60.0")),
    ]
    assert ga == [
        rf"90.0{error}\rlap{{*}}",
        f"31.0{error}",
        f"$-$10.0{error}",
        f"79.0{error}",
    ]


def test_latex_of_a_hostile_method(make: MakeRecord) -> None:
    text = latex(build_table([make(HOSTILE)]))
    assert text.isascii()
    assert r"\input" not in text
    assert r"\textbackslash{}input\{x\} \& \textless{}b" in text


def test_latex_shows_reported_rows_below(records: list[Record]) -> None:
    text = latex(build_table(records), read_published(["books", "news"]))
    measured, reported = text.split(r"\emph{Reported: arXiv:2602.13151 Table II}")
    assert r"npo\_klr & full & bf16 & 51.4 & 31.2 & $-$55.8 & 60.2 & 24.0" in reported
    assert r"\textbf" in measured
    assert r"\textbf" not in reported
