"""The page as text, and in headless Chromium from ``file://``."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from leaderboard.records.samples import Sample
from leaderboard.records.schema import Record
from leaderboard.records.store import RunFolder, read_record
from leaderboard.report.files import outputs, write
from leaderboard.standings.published import read_published
from leaderboard.standings.table import build_table

MakeRecord = Callable[..., Record]
MoveRecord = Callable[[str, Record], Record]

SCRIPT = "</script><script>window.hacked = 1</script>"
IMAGE = "<img src=x onerror='window.hacked = 2'>"
NAME = f"{IMAGE}{SCRIPT}\u202egpj\u2028"
SHOWN = f"{IMAGE}{SCRIPT}\\u202egpj"

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


def answers(reference: str) -> list[Sample]:
    """Eight answers, scored 0 to 70; the best is the reference but for one word."""
    return [
        Sample(
            task="verbmem",
            example=n,
            prompt=f"prompt {n}",
            response=f"so {reference}" if n == 7 else f"answer {n} {SCRIPT}",
            reference=reference,
            score=10.0 * n,
        )
        for n in range(8)
    ]


@pytest.fixture(scope="module")
def page(make: MakeRecord, on: MoveRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora, three precisions, four methods with full finetuning and LoRA.

    The first has a hostile name; `keeps` did not forget; `fails` has no numbers.
    """
    values = {
        "target": (100.0, 80.0, -100.0, 80.0),
        "retrain": (20.0, 30.0, 0.0, 80.0),
        NAME: (20.0, 31.0, 5.0, 70.0),
        "npo": (40.0, 35.0, -50.0, 60.0),
        "keeps": (90.0, 79.0, -100.0, 79.0),
    }
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run", "a-run")
    records = []
    for corpus in ("books", "news"):
        for precision in ("none", "rtn-int8", "rtn-int4"):
            for method, numbers in values.items():
                styles = ("full",) if method in ("target", "retrain") else ("full", "lora")
                records += [
                    on(corpus, make(method, precision, numbers, style, settings={"epochs": 3}))
                    for style in styles
                ]
            reason = f"loss is NaN {SCRIPT}"
            failed = make("fails", precision, (None,) * 4, status="diverged", reason=reason)
            records.append(on(corpus, failed))
    written = [
        # not through a folder of records: a hostile name has a slash in it
        read_record(folder.write_record(record, answers(f"{corpus} {SCRIPT} text")))
        for record in records
        for corpus in [record.cell.training.corpus.name]
    ]
    reported = read_published({"books", "news"})
    texts = outputs(folder.path, "a-run", written, build_table(written), reported)
    write(folder.path, texts)
    return folder.path / "index.html"


# --- the file


def test_nothing_is_loaded(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert (
        re.findall(r"<(?:link|script|img|iframe)[^>]*\b(?:src|href)=", text.split("<body>")[0])
        == []
    )
    assert re.findall(r"https?://[^\s\"'<&]+", text) == []
    assert "url(" not in text
    assert "@import" not in text


def test_policy_allows_its_own_style_and_script_alone(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.split(" ", 1) for rule in unescape(policy).split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"<[^>]+ style=", text)


def test_data_cannot_leave_its_element(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert "<" not in data
    assert data.isascii()
    shown = {row["method"] for row in json.loads(data)["rows"]}
    assert SHOWN in shown
    assert "\u202e" not in text


# --- in a browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("chromium and chromedriver are not both on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


class Board:
    """The page in a browser."""

    def __init__(self, browser: Any, page: Path, state: str = "", width: int = 1280) -> None:
        self.browser = browser
        self.emulate(
            "setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        self.emulate("setEmulatedMedia", features=[])
        browser.get("about:blank")
        browser.get(f"{page.as_uri()}{state}")

    def emulate(self, command: str, **parameters: Any) -> None:
        self.browser.execute_cdp_cmd(f"Emulation.{command}", parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        self.browser.find_element("css selector", selector).click()

    def keys(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def rows(self, kind: str = "measured") -> list[list[str]]:
        """Method, finetuning, precision and the numbers of the rows that can be seen."""
        return self.run(
            "return [...document.querySelectorAll('tbody.' + arguments[0] + ' .row')]"
            ".filter(row => row.checkVisibility()).map(row => [...row.cells].slice(1)"
            ".map(cell => (cell.querySelector('.open') ?? cell).firstChild.textContent))",
            kind,
        )

    def column(self, number: int, kind: str = "measured") -> list[str]:
        return [row[number] for row in self.rows(kind)]

    @property
    def state(self) -> str:
        return str(self.run("return decodeURIComponent(location.hash)"))


def test_first_sight(chromium: Any, page: Path) -> None:
    """The first corpus, best method first, failed method last; no script from a record ran."""
    board = Board(chromium, page)
    methods = list(dict.fromkeys(board.column(0)))
    assert methods == [SHOWN, "npo", "keeps", "fails"]
    assert list(dict.fromkeys(board.column(0, "reference"))) == ["target", "retrain"]
    assert board.rows("reported") == []
    assert board.run("return window.hacked") is None
    assert board.run("return document.images.length") == 0
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
    assert board.run("return document.querySelector('.status').textContent") == "27 of 27 rows"


def test_sorting_by_every_column(chromium: Any, page: Path) -> None:
    """Best first, then reversed, then the original order; missing numbers come last."""
    board = Board(chromium, page)
    before = board.rows()
    for number, key in enumerate(("method", "finetuning", "precision")):
        board.click(f"[data-sort={key}]")
        found = board.column(number)
        order = ["float32", "rtn-int8", "rtn-int4"] if key == "precision" else sorted(set(found))
        assert list(dict.fromkeys(found)) == order
    for number, (key, best) in enumerate(
        (("verbmem", "20.0"), ("knowmem", "31.0"), ("privleak", "5.0"), ("utility", "79.0")), 3
    ):
        board.click(f"[data-sort={key}]")
        assert board.column(number)[0] == best
        assert board.column(number)[-1] == "—"
        way = "descending" if key == "utility" else "ascending"
        assert board.run(
            "return [...document.querySelectorAll('[aria-sort]')].map(c => c.ariaSort)"
        ) == [way]
        board.click(f"[data-sort={key}]")
        assert board.column(number)[-1] == "—"
        assert board.column(number)[-4] == best
        board.click(f"[data-sort={key}]")
        assert board.rows() == before


def test_the_gate_holds_when_sorted_by_score(chromium: Any, page: Path) -> None:
    board = Board(chromium, page, "#sort=score.descending")
    assert list(dict.fromkeys(board.column(0))) == [SHOWN, "npo", "keeps", "fails"]


def test_filters_and_the_address(chromium: Any, page: Path) -> None:
    board = Board(chromium, page)
    board.click("[data-board=news]")
    board.click("[data-filter=finetuning][value=lora]")
    board.click("[data-filter=precision][value=rtn-int4]")
    board.click("[name=q]")
    board.keys("NP")
    expected = [["npo", "lora", "rtn-int4"]]
    assert [row[:3] for row in board.rows()] == expected
    state = board.state
    assert set(state.removeprefix("#").split("&")) == {
        *("corpus=news", "finetuning=lora", "precision=rtn-int4", "q=NP")
    }
    again = Board(chromium, page, state)
    assert [row[:3] for row in again.rows()] == expected
    assert again.run("return document.querySelector('[name=q]').value") == "NP"
    again.click(".reset")
    assert len(again.rows()) == 21
    again.click("[data-board='']")
    assert len(again.rows()) == 42


def test_unknown_values_in_the_address(chromium: Any, page: Path) -> None:
    hash_ = "#corpus=nowhere&precision=none&sort=__proto__.descending&open=none&q=%3Cimg%3E"
    board = Board(chromium, page, hash_)
    assert board.rows() == []
    board.click(".reset")
    assert len(board.rows()) == 21


def test_a_row_opens_by_keyboard(chromium: Any, page: Path) -> None:
    """Enter opens a row; its answers are text, with marks on the words of the reference."""
    from selenium.webdriver.common.keys import Keys

    board = Board(chromium, page)
    board.run("document.querySelector('.measured .open').focus()")
    assert board.run("return document.activeElement.matches(':focus-visible')")
    board.keys(Keys.ENTER)
    opened = "document.querySelector('.details:not([hidden])')"
    assert board.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
    assert "open=" in board.state
    titles = board.run(f"return [...{opened}.querySelectorAll('h3')].map(h => h.textContent)")
    assert {"Scores", "Method", "Finetuning", "Training", "Quantizer", "Corpus", "Runs"} <= {
        *titles
    }
    board.keys(Keys.TAB, Keys.ENTER)
    best = f"{opened}.querySelector('.answers details[open] .answer')"
    assert (
        board.run(f"return {best}.querySelectorAll('dd')[2].textContent")
        == f"so books {SCRIPT} text"
    )
    shared = "books script script window hacked 1 script text".split()
    marks = f"[...{best}.querySelectorAll('dd')[2].querySelectorAll('mark')]"
    assert board.run(f"return {marks}.map(mark => mark.textContent)") == shared
    scores = board.run(
        f"return [...{opened}.querySelectorAll('summary span')].map(s => s.textContent)"
    )
    assert scores == [" 70.0, 60.0, 50.0", " 0.0, 10.0, 20.0"]
    assert board.run("return window.hacked") is None
    board.run("document.querySelector('.measured .open').focus()")
    board.keys(Keys.SPACE)
    assert board.run(f"return {opened}") is None


def test_a_row_that_did_not_forget_says_so(chromium: Any, page: Path) -> None:
    board = Board(chromium, page, "#q=keeps")
    marks = board.run(
        "return [...document.querySelectorAll('.row:not([hidden]) abbr')].map(a => a.title)"
    )
    assert len(marks) == 6
    assert all("did not forget" in mark for mark in marks)
    board.click(".row:not([hidden]) .open")
    assert "did not forget" in board.run("return document.querySelector('.remarks').textContent")


def test_reported_rows_stay_below_the_others(chromium: Any, page: Path) -> None:
    board = Board(chromium, page)
    board.click("[data-switch=reported]")
    board.click("[data-sort=verbmem]")
    reported = board.rows("reported")
    assert len(reported) > 100
    assert len(board.rows()) == 21
    kinds = board.run(
        "return [...document.querySelectorAll('.row')].filter(row => row.checkVisibility())"
        ".map(row => row.closest('tbody').className)"
    )
    assert kinds == sorted(kinds, key=["reference", "measured", "reported"].index)
    shown = "[...document.querySelectorAll('.row:not([hidden]) .source')]"
    sources = board.run(f"return {shown}.map(source => source.textContent)")
    assert len(sources) == len(reported)
    assert all(source.startswith("reported: ") for source in sources)


@pytest.mark.parametrize("width", [390, 600, 800, 900, 1024, 1130])
def test_nothing_is_wider_than_the_page(chromium: Any, page: Path, width: int) -> None:
    """A phone, tablets, a small window: with every corpus and reported rows, and a row open."""
    board = Board(chromium, page, "#corpus=&reported", width=width)
    fits = f"return innerWidth === {width} && document.documentElement.scrollWidth <= {width}"
    assert board.run(fits)
    board.click(".measured .open")
    for summary in chromium.find_elements("css selector", ".details summary"):
        summary.click()
    assert board.run(fits)
    outside = board.run(
        "return [...document.querySelectorAll('main *')].filter(e => e.checkVisibility() &&"
        " !e.closest('.scroll, .unseen') && e.getBoundingClientRect().right > innerWidth + 0.5)"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


def test_dark_mode(chromium: Any, page: Path) -> None:
    board = Board(chromium, page)
    colours = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
    light = board.run(colours)
    board.emulate("setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    dark = board.run(colours)

    def brightness(colour: str) -> int:
        return sum(map(int, re.findall(r"\d+", colour)))

    assert brightness(light[0]) > 700 > 200 > brightness(light[1])
    assert brightness(dark[0]) < 200 < 600 < brightness(dark[1])
