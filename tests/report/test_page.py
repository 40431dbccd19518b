"""The page: drawn from facts alone, without Spark, with every text of the data shown as text."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from made import HOSTILE, made

from mfspark.errors import SetupError
from mfspark.report import Facts, Report, page
from mfspark.report import charts as drawing
from mfspark.report.markup import number, script_json
from mfspark.report.sections import SECTIONS

CHARTS = {
    "loss",
    "validation",
    "seconds",
    "spectrum",
    "map",
    "values",
    "users",
    "items",
    "predicted",
    "by_user",
    "by_item",
}


class Elements(HTMLParser):
    """What a browser would make of the page: its elements, the texts beside scripts and styles, the scripts."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.scripts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        (self.scripts if self.tags and self.lasttag in ("script", "style") else self.texts).append(data)


@pytest.fixture(scope="module")
def whole():
    html = page(made())
    return html, Elements(html)


@pytest.fixture(scope="module")
def bare():
    html = page(Facts("FactorizationModel", 2, 3, 4))
    return html, Elements(html)


def headings(elements):
    return [attrs["id"] for tag, attrs in elements.tags if tag == "section"]


def test_every_section_and_chart_is_there(whole):
    _, elements = whole
    assert headings(elements) == list(SECTIONS)
    assert {attrs["id"] for tag, attrs in elements.tags if tag == "div" and "id" in attrs} == {
        f"chart-{name}" for name in CHARTS
    }
    assert set(json.loads(elements.scripts[1])) == CHARTS
    assert ("p", {"class": "absent"}) not in elements.tags


def test_a_section_without_data_says_so_in_one_line(bare):
    html, elements = bare
    assert headings(elements) == list(SECTIONS)
    assert elements.tags.count(("p", {"class": "absent"})) == len(SECTIONS)
    assert json.loads(elements.scripts[1]) == {}
    assert "Not evaluated yet: mfspark-evaluate" in html


def test_texts_of_the_data_are_texts(whole):
    html, elements = whole
    shown = "".join(elements.texts)
    assert shown.count(HOSTILE) > 8  # title, id, parameter, reason, raw text, store
    assert [tag for tag, _ in elements.tags].count("script") == 3
    assert not [attrs for _, attrs in elements.tags if "onclick" in attrs]
    assert HOSTILE not in html
    assert not re.search(r"[<>&]", elements.scripts[1])
    assert HOSTILE in json.dumps(json.loads(elements.scripts[1]), ensure_ascii=False).replace('\\"', '"')


def test_the_page_holds_all_it_needs(whole):
    _, elements = whole
    assert not [attrs for _, attrs in elements.tags if "src" in attrs]
    assert [attrs["href"] for tag, attrs in elements.tags if tag == "link"] == ["data:,"]
    style = elements.scripts[0]
    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style


def test_no_label_of_a_chart_comes_from_the_data(whole):
    # Bokeh takes $$ in a label or title for a formula, and loads a library from the network.
    labels = re.findall(r'"(?:axis_label|text|label|title)": ("[^"]*")', whole[1].scripts[1])
    assert labels
    assert not [label for label in labels if "$$" in label]


def test_notebooks_show_the_page_in_a_frame_of_its_own():
    report = Report(Facts("FactorizationModel", 2, 3, 4))
    frames = Elements(report._repr_html_()).tags
    assert [tag for tag, _ in frames] == ["iframe"]
    assert frames[0][1]["srcdoc"] == report.html


def test_facts_come_back_from_json():
    facts = made()
    stored = json.dumps(facts.as_json())
    assert json.dumps(Facts.from_json(json.loads(stored)).as_json()) == stored
    assert Facts.from_json(json.loads(stored)).map.points[0].title == HOSTILE


def test_metrics_stand_beside_their_baselines(whole):
    text = re.sub(r"<[^>]+>", " ", whole[0].split('id="metrics"')[1].split("</section>")[0])
    words = text.split()
    assert (
        words[words.index("metric") : words.index("metric") + 7] == "metric model mean only bias only popular".split()
    )
    assert words[words.index("rmse") + 1 : words.index("rmse") + 5] == ["0.9100", "1.1000", "0.9500", "–"]
    assert words[words.index("ndcgAtK") + 1 : words.index("ndcgAtK") + 5] == ["0.1200", "–", "–", "0.0800"]


def test_only_what_changed_since_the_version_before_is_listed(whole):
    text = whole[0].split('id="compared"')[1].split("</section>")[0]
    assert "<td>rank</td><td>6</td><td>8</td>" in text
    assert "regParam" not in text
    assert "<td>rmse</td><td>0.9300</td><td>0.9100</td><td>-0.0200</td>" in text


@pytest.mark.parametrize("size", [0, 1, 2, 2000])
def test_the_size_of_a_page_is_bounded(size):
    facts = made(max(size, 8))
    points = facts.map.points[:size]
    html = page(replace(facts, map=replace(facts.map, points=points) if points else None))
    assert len(html) < 2_000_000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e300, 0.0, None])
def test_numbers_that_are_none_can_be_drawn(value):
    line = {
        "iteration": 1,
        "loss": value,
        "fit": value,
        "regularisation": value,
        "validationRMSE": value,
        "seconds": 0.0,
    }
    html = page(Facts("FactorizationModel", 1, 1, 1, [line, line], metrics={"rmse": value}))
    assert "NaN" not in Elements(html).scripts[1]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (1234567, "1,234,567"), (0.91234567, "0.9123"), (1.5e7, "15,000,000"), (2e-7, "2e-07"),
     (float("nan"), "no number"), (float("-inf"), "infinite"), ("<b>", "<b>"), (True, "True"), (0, "0")],
)  # fmt: skip
def test_numbers_are_short(value, shown):
    assert number(value) == shown


def test_json_in_a_script_ends_nothing():
    assert json.loads(script_json({"a": HOSTILE})) == {"a": HOSTILE}
    assert "<" not in script_json([HOSTILE])


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(drawing, "find_spec", lambda _: None)
    with pytest.raises(SetupError, match=r"pip install mfspark\[report\]"):
        page(Facts("FactorizationModel", 1, 1, 1))


def test_a_page_needs_no_spark_and_facts_no_plotting_library():
    program = "import sys, mfspark.report.document, mfspark.report.structure; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"pyspark", "bokeh", "pandas"}
