"""The page that a person reads first: in a browser, and for competitions at the edge of what there is."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from goulot import layout, metrics
from goulot.artifacts import read_table, write_json, write_table
from goulot.metrics import METRICS
from goulot.reporting import charts, embedding, page, suspects, uncertainty
from goulot.reporting.page import Table
from goulot.targets import Target, write
from tests import tiny
from tests.tiny import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Page

LEARNERS = {"logistic": {"kind": "logistic"}, "strict": {"kind": "logistic", "C": 1e-5}}
STAGES = ("split", "rank", "learn logistic", "learn strict", "blend", "review", "submit", "report")


@pytest.fixture(scope="module")
def finished(ready_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of two classes, made once."""
    root = tmp_path_factory.mktemp("reported") / "ready"
    shutil.copytree(ready_template, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("GOULOT_STORE", raising=False)
        made = Workspace(root, root / "competition", tiny.params(ready_template / "competition"))
        made.set("learn.learners", LEARNERS)
        made.run(*STAGES)
    return root / layout.REPORT_PAGE


@pytest.fixture(params=["light", "dark"])
def view(finished: Path, chromium: str, request: pytest.FixtureRequest) -> Iterator["Page"]:
    """The page, opened from the disk on a phone that has no connection."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=request.param, has_touch=True)
        said: list[str] = []
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("request", lambda asked: said.append(asked.url) if not asked.url.startswith("data:") else None)
        opened.goto(finished.as_uri())
        yield opened
        browser.close()
    assert said == [finished.as_uri()]


@pytest.mark.browser
def test_the_page_asks_the_network_complains_or_is_wider_than_a_phone(view: "Page") -> None:
    assert view.evaluate("document.documentElement.scrollWidth") <= 390
    assert view.locator("h1").count() == 1
    assert view.locator("h2").all_inner_texts() == [
        "Overview", "Data", "Duplicates", "Labels in doubt", "Features", "Models", "Submission", "Provenance",
    ]  # fmt: skip
    assert view.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth && image.alt)")
    assert view.evaluate("[...document.querySelectorAll('svg')].every((svg) => svg.getBoundingClientRect().width > 99)")
    back, text = (view.evaluate(f"getComputedStyle(document.body).{key}") for key in ("backgroundColor", "color"))
    assert _contrast(back, text) > 12


def _contrast(*colours: str) -> float:
    """As WCAG 2 counts it; 4.5 is the least for text."""
    lights = []
    for colour in colours:
        channels = np.array(re.findall(r"[\d.]+", colour)[:3], dtype=float) / (
            1 if colour.startswith("color(") else 255
        )
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        lights.append(linear @ (0.2126, 0.7152, 0.0722) + 0.05)
    return float(max(lights) / min(lights))


@pytest.mark.browser
def test_who_cannot_see_well_or_at_all_misses_what_the_page_shows(view: "Page") -> None:
    strongest = view.locator(".matrix td[style*='1.000']").first
    back, text = (strongest.evaluate(f"(cell) => getComputedStyle(cell).{key}") for key in ("backgroundColor", "color"))
    assert _contrast(back, text) > 4.5
    assert view.evaluate("[...document.querySelectorAll('th')].every((head) => head.scope && head.innerText.trim())")
    said = view.locator(".chart svg[role=img]").evaluate_all("(all) => all.map((svg) => svg.ariaLabel)")
    assert len(said) == view.locator(".chart").count()
    assert all(re.search(r"\d\.\d|\d%", text) for text in said), said
    named = "[...document.querySelectorAll('li img')].map((image) => image.alt)"
    assert set(view.evaluate(f"{named}.map((alt) => alt.replace(/train\\d+.*/, ''))")) == {
        "cracked: training image ", "good: training image ",
    }  # fmt: skip


@pytest.mark.browser
def test_a_column_of_sizes_or_of_scores_with_errors_is_sorted_as_words(view: "Page") -> None:
    stages = view.locator("table.sortable", has=view.locator("th", has_text="fetch"))
    head = stages.locator("th button", has_text="disk")
    view.evaluate("(cell) => { cell.textContent = '1,000 KiB'; }", stages.locator("td").first.element_handle())
    head.click()
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20}
    shown = [text.replace(",", "").split() for text in stages.locator("tbody td:nth-child(2)").all_inner_texts()]
    sizes = [float(value) * units[unit] for value, unit in shown]
    assert sizes == sorted(sizes, reverse=True)
    assert len({unit for _, unit in shown}) > 1
    board = view.locator("table.sortable", has=view.locator("th button", has_text="weight")).first
    for row, text in enumerate(["9.5 ± 0.1", "10.25 ± nan", "-3.0 ± 1.0"]):
        view.evaluate("([cell, text]) => { cell.textContent = text; }",
                      [board.locator("tbody tr").nth(row).locator("td").first.element_handle(), text])  # fmt: skip
    board.locator("th button").nth(1).click()
    assert [text.split()[0] for text in board.locator("tbody td:nth-child(2)").all_inner_texts()] == [
        "10.25", "9.5", "-3.0",
    ]  # fmt: skip


@pytest.mark.browser
def test_a_finger_on_the_map_shows_nothing_or_only_as_long_as_it_lies_there(view: "Page") -> None:
    place = view.locator(".plane circle").first
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    assert box
    view.touchscreen.tap(box["x"] + box["width"] / 2 + 6, box["y"] + box["height"] / 2)
    assert re.match(r"(train|test)/\w+: ", view.locator(".tip .note").inner_text())
    assert view.locator(".tip").is_visible()


@pytest.mark.browser
def test_the_keyboard_does_not_reach_what_the_pointer_does(view: "Page") -> None:
    head = view.locator("table.sortable th button", has_text="seconds").last
    head.focus()
    view.keyboard.press("Enter")
    column = view.locator("table.sortable", has=view.locator("th[aria-sort=descending]")).locator("tbody td:last-child")
    seconds = [float(text) for text in column.all_inner_texts() if text]
    assert seconds == sorted(seconds, reverse=True)
    view.locator(".plane").focus()
    view.keyboard.press("ArrowRight")
    first = view.locator(".tip .note").inner_text()
    assert re.match(r"(train|test)/\w+: ", first)
    assert view.locator(".said").inner_text() == first
    assert "data:image/jpeg" in view.locator(".thumb").evaluate("(span) => getComputedStyle(span).backgroundImage")
    view.keyboard.press("ArrowRight")
    assert view.locator(".tip .note").inner_text() != first
    view.keyboard.press("Escape")
    assert not view.locator(".tip").is_visible()
    view.locator("select.by").select_option("fold")
    view.locator("select.only").select_option("fold 1")
    faint = view.locator(".plane circle.off").count()
    assert 40 < faint < 80
    place = view.locator(".plane circle:not(.off)").first.bounding_box()
    assert place
    view.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    assert "train/" in view.locator(".tip .note").inner_text()


def test_the_page_needs_another_file_or_grows_large(finished: Path) -> None:
    text = finished.read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)|@import|url\(http", text)
    assert len(text) < 1e6
    said = ("± ", "learn@strict", "Correlation of the members", "by the blend and its best", "goulot send", "SHA-256")
    for words in said:
        assert words in text, words
    assert "Set aside" not in text
    ranked = text[text.index("Columns by probe score") :]
    assert re.search(r"milliseconds</th>.*?<td[^>]*>\d+\.\d+", ranked, re.DOTALL)


def test_settings_as_they_are_by_default_are_listed_among_those_that_differ(finished: Path) -> None:
    text = finished.read_text()
    listed = text[text.index("Settings that differ") :]
    assert "of stages that did not run" not in listed
    for key in ("augment.views", "split.folds", "learn.learners.strict.C", "blend.rounds"):
        assert f"<dt>{key}</dt>" in listed
    assert "augment.policy" not in listed  # given as it is by default
    assert "split.seed" not in listed


def test_many_classes_without_a_test_set_do_not_reach_a_page(ready: Workspace) -> None:
    manifest = read_table(layout.MANIFEST).query("split == 'train'").reset_index(drop=True)
    names = [f"<c{number:02d}>" for number in range(35)]
    write(Target("multiclass", names))
    write_table(layout.MANIFEST, manifest.assign(label=[names[i % 35] for i in range(len(manifest))]))
    sample = read_table(layout.MANIFEST)[["id", "label"]].head(0)
    write_table(layout.SAMPLE_SUBMISSION, sample)
    ready.set("learn.learners", {"logistic": {"kind": "logistic"}})
    ready.run(*(stage for stage in STAGES if stage != "learn strict"))
    text = layout.REPORT_PAGE.read_text()
    for said in (
        "There is no test set", "The classes that are confused most", "Classes, by recall (the 30 worst of 35)",
        "are of the classes &lt;c00&gt; (2)", "and 27 more", "the 5 most frequent of 35 classes", "others",
    ):  # fmt: skip
        assert said in text, said
    assert "<c00>" not in text


def test_an_error_of_a_score_is_not_that_of_the_mean_or_depends_on_how_much_is_drawn() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60_000)
    guesses = np.where(rng.random(len(y)) < 0.9, y, 1 - y)
    expected = (0.9 * 0.1 / len(y)) ** 0.5
    alone = uncertainty.error(METRICS["accuracy"], y, guesses, np.arange(len(y)))
    assert alone == pytest.approx(expected, rel=0.25)
    twins = np.repeat(np.arange(len(y) // 2), 2)  # each image twice: half as much is known
    twice = uncertainty.error(METRICS["accuracy"], y[twins], guesses[twins], twins)
    assert twice == pytest.approx(expected * 2**0.5, rel=0.25)


def test_a_fold_that_differs_is_not_told_or_one_that_does_not_is() -> None:
    rng = np.random.default_rng(0)
    y, fold = rng.integers(0, 2, 2000), np.arange(2000) % 5
    right = rng.random(2000) < np.where(fold == 3, 0.7, 0.9)
    found = uncertainty.strange_folds(
        metrics.find("accuracy"), y, np.where(right, y, 1 - y), fold, np.arange(2000)
    )  # fmt: skip
    assert [f for f, *_ in found] == [3]


def test_the_map_of_the_same_images_moves_or_parts_what_is_alike() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(m, 1, (40, 30)) for m in (0, 8)]).astype(np.float32)
    found = np.array(embedding.place(X))
    assert embedding.place(X) == [tuple(point) for point in found.tolist()]
    assert found.min() >= 0
    assert found.max() <= 100
    middles = found[:40].mean(axis=0), found[40:].mean(axis=0)
    assert np.linalg.norm(middles[0] - middles[1]) > 2 * found[:40].std(axis=0).max()
    assert len(embedding.place(np.ones((12, 4), dtype=np.float32))) == 12


def test_a_point_of_the_depths_does_not_tell_its_value_or_a_name_is_taken_for_markup() -> None:
    columns = {"backbone": ["a", "_b&<"], "column": ["s1.avg", "s2.max"], "score": [0.5, 0.75]}
    ranking = pd.DataFrame({**columns, "multiply_adds": [1000, 2_000_000]})
    svg = charts.depth(ranking, "ROC AUC", "multiply_adds", "multiply-adds an image")
    assert "<title>a s1.avg: ROC AUC 0.5000, 1,000 multiply-adds an image</title>" in svg
    assert "<title>_b&amp;&lt; s2.max: ROC AUC 0.7500, 2,000,000 multiply-adds an image</title>" in svg
    assert svg.count("_b&amp;&lt;") == 3  # in the legend and in what is read aloud as well
    truth = np.arange(20) % 2 == 0
    assert "$x^{$" in charts.roc([("$x^{$", truth, truth.astype(float))])


def test_a_label_called_none_is_an_empty_cell(workspace: Workspace) -> None:
    write_table(layout.PAIRS, pd.DataFrame())
    write_table(layout.LIKENESS, pd.DataFrame({"likeness": [0.9, 0.99], "what": "planted copies", "pairs": [1, 2]}))
    write_json(layout.metrics(layout.AUDIT), {"least_likeness": 0.98})
    pair = {"a": "train/NA", "b": "train/1", "label_a": "None", "label_b": "null", "kind": "exact", "likeness": 1.0}
    write_table(layout.CONFLICTS, pd.DataFrame([pair]))
    write_table(layout.TWINS, pd.DataFrame(columns=["test", "train", "label", "likeness", "kind"]))
    table = suspects.duplicates(5).blocks[0]
    assert isinstance(table, Table)
    assert table.rows[0][:4] == ["train/NA", "train/1", "None", "null"]


def test_a_table_of_words_stands_like_numbers() -> None:
    table = page.Table.of("x", pd.DataFrame({"name": ["a", "b"], "size": [1200, 3], "score": [0.5, float("nan")]}))
    assert table.rows == [["a", "1,200", "0.5000"], ["b", "3", ""]]
    assert table.numeric == [False, True, True]
