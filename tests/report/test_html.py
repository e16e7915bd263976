from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from weiml.report import Evaluation, ReportData, render, write_report
from weiml.report.html import SECTIONS

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Checks that elements nest, and keeps what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
                self.references.append(value or "")
            assert not name.startswith("on"), f"{tag} has a handler {name}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def html(data: ReportData) -> str:
    return render(data)


def test_is_well_formed_with_unique_ids(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert [id for id, count in Counter(page.ids).items() if count > 1] == []
    for plot in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(plot)


def test_loads_nothing(html: str) -> None:
    page = Page(html)
    assert page.references
    assert all(reference.startswith("#") for reference in page.references)
    assert set(page.references) <= {f"#{id}" for id in page.ids}
    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == page.tags["iframe"] == 0
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", html))


def test_all_sections_are_there(html: str) -> None:
    page = Page(html)
    assert set(SECTIONS) <= set(page.ids)
    assert "left-out" not in page.ids
    assert page.tags["svg"] == 10  # the flow and nine plots
    for title in ("Training loss", "Validation AUC", "ROC", "Calibration", "Search history"):
        assert title in page.words
    for title in ("Progressive AUC", "Freshness", "Ranked feeds", "importance"):
        assert title in page.words


def test_numbers_are_on_the_page(html: str, data: ReportData) -> None:
    words = Page(html).words
    for evaluation in data.evaluations:
        for key in ("auc", "gauc", "log_loss", "ne", "calibration_ratio", "ndcg_at_10"):
            assert f"{evaluation.metrics[key]:.4f}" in words
    assert f"{data.search['best']['value']:.5f}" in words
    assert "0.7160 0.7000 +0.0160" in words
    assert "log_loss is nan" in words
    assert "100,000" in words
    assert "2 min 11 s" in words
    assert "served against offline 3.0e-08 at most" in words


def test_titles_are_escaped(html: str) -> None:
    assert "<script>" not in html
    assert "A &lt;script&gt;alert(1)&lt;/script&gt; Story" in html
    assert "A <script>alert(1)</script> Story" in Page(html).words
    assert "Alien &amp; Aliens" in html


def test_names_from_outside_are_escaped_in_plots(data: ReportData) -> None:
    sly = '"><script>x</script>$\\frac{'
    learning = (dataclasses.replace(data.learning[0], name=sly),)
    evaluations = (dataclasses.replace(data.evaluations[0], name=sly), data.evaluations[1])
    html = render(dataclasses.replace(data, title=sly, learning=learning, evaluations=evaluations))
    assert "<script>" not in html
    assert Page(html).open == []


def test_the_best_of_each_column_is_marked(data: ReportData) -> None:
    rows = (
        Evaluation(name="a", metrics={"auc": 0.7, "log_loss": 0.6, "calibration_ratio": 1.2}),
        Evaluation(name="b", metrics={"auc": 0.8, "log_loss": 0.5, "calibration_ratio": 0.7}),
        Evaluation(
            name="c",
            kind="baseline",
            metrics={"auc": 0.6, "log_loss": 0.9, "calibration_ratio": 0.9, "gauc": None},
        ),
    )
    html = render(dataclasses.replace(data, evaluations=rows))
    assert re.findall(r'class="best">([\d.]+)<', html) == ["0.8000", "0.5000", "0.9000"]
    assert html.index(">b</td>") < html.index(">c <span")
    assert "<th>calibration ratio" in html
    assert "<th>GAUC by user" not in html  # none has it, as where there are no groups


def test_what_is_missing_is_left_out_with_its_reason(data: ReportData) -> None:
    bare = ReportData(title="bare", missing={"search": "no trials were run"})
    page = Page(render(bare))
    assert page.ids == ["left-out"]
    assert "Search no trials were run" in page.words
    assert "Learning no data was given for it" in page.words
    assert page.tags["svg"] == 0
    sections = {"search": "search", "replay": "online", "feeds": "feeds", "nodes": "flow"}
    sections |= {"evaluations": "metrics", "learning": "learning", "facts": "run"}
    for part, id in sections.items():
        page = Page(render(ReportData(**{part: getattr(data, part)})))
        assert page.open == []
        assert set(page.ids) & set(SECTIONS) == {id}


def test_sparse_data_draws_too(data: ReportData) -> None:
    """One epoch, one trial, one update, no curves: nothing to compare is no error."""
    learning = dataclasses.replace(
        data.learning[0], epochs=({"epoch": 1},), steps=(), best_epoch=None
    )
    trial = data.search["best"]
    page = Page(
        render(
            ReportData(
                learning=(learning,),
                evaluations=(Evaluation(name="a", metrics={"auc": None}),),
                search={**data.search, "trials": [trial], "importance": {}},
                replay={"curve": data.replay["curve"][:1]},
            )
        )
    )
    assert page.open == []
    assert {"learning", "metrics", "search", "online"} <= set(page.ids)


def test_writes_both_files_whole(tmp_path: Path, data: ReportData) -> None:
    path = write_report(tmp_path / "new" / "report.html", data)
    assert sorted(file.name for file in path.parent.iterdir()) == ["numbers.json", "report.html"]
    numbers = json.loads((path.parent / "numbers.json").read_text())
    assert numbers["evaluations"][1]["metrics"]["auc"] == data.evaluations[1].metrics["auc"]
    assert len(path.read_text()) < 1_000_000


def test_same_data_same_page(data: ReportData) -> None:
    fewer = dataclasses.replace(data, search={}, learning=(), replay={})
    assert render(fewer) == render(fewer)


def test_follows_light_dark_and_print(html: str) -> None:
    for rule in ("prefers-color-scheme: dark", "@media print", "color-scheme: light dark"):
        assert rule in html
    plots = "".join(re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL))
    fixed = set(re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r'href="[^"]*"|url\([^)]*\)', "", plots)))
    assert fixed == set(), "every colour of a plot must be one of the page's"
