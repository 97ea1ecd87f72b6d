"""HTML of jobs: it is well formed, and text from the server cannot become markup."""

import base64
import xml.etree.ElementTree as ElementTree
from xml.etree.ElementTree import Element

from gramophone.notebook.html import card, table
from gramophone.notebook.snapshot import Snapshot
from tests.harness import png

RUNNING = Snapshot("ab" * 15, "running", 4, 300, 12345.678, 0.5, 31.25, "M0 0L1 1")
HOSTILE = "<script>alert('\"&"


def parsed(html: str) -> Element:
    """Parses HTML that is also XML except for its empty elements."""
    return ElementTree.fromstring(html.replace("<br>", "<br/>").replace('=">', '="/>').replace('.png">', '.png"/>'))


def test_a_table_has_a_row_for_each_number():
    rows = {row[0].text: row[1].text for row in parsed(table(RUNNING))}
    assert rows == {
        "job": "ab" * 15, "state": "running", "iteration": "4 of 300", "loss": "12345.7", "time left": "31.2 s",
    }  # fmt: skip
    assert [row[0].text for row in parsed(table(Snapshot("id", "queued")))] == ["job", "state"]


def test_a_card_has_the_picture_the_curve_and_the_caption():
    file = png() + b"0"  # a file whose base64 ends with =
    figure = parsed(card(RUNNING, file))
    assert [child.tag for child in figure] == ["img", "svg", "figcaption"]
    assert base64.b64decode(figure[0].attrib["src"].removeprefix("data:image/png;base64,")) == file
    assert figure[0].attrib["alt"] == f"Picture of job {'ab' * 15} after 4 iterations"
    assert figure[1][0].attrib["d"] == RUNNING.curve
    assert figure[2].text == RUNNING.caption


def test_a_card_without_picture_has_its_error():
    figure = parsed(card(Snapshot("id", "failed"), None, HOSTILE))
    assert [child.tag for child in figure] == ["figcaption"]
    assert figure[0][0].tail == HOSTILE


def test_text_from_the_server_is_escaped():
    assert parsed(table(Snapshot(HOSTILE, HOSTILE)))[0][1].text == HOSTILE
    assert "<script" not in card(Snapshot(HOSTILE, HOSTILE), png(), HOSTILE)
