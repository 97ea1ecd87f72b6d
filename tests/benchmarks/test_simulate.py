"""The tables of docs/scaling.md."""

import pytest

from benchmarks.simulate import running_time, step_seconds, table, write


def test_a_table_replaces_only_its_own_part_of_the_page():
    page = "a\n<!-- x -->\n<!-- end -->\nb\n<!-- y -->\nold\n<!-- end -->\n"
    page = write(page, "x", "new x")
    assert page == "a\n<!-- x -->\nnew x\n<!-- end -->\nb\n<!-- y -->\nold\n<!-- end -->\n"
    assert write(page, "y", "new y").endswith("new x\n<!-- end -->\nb\n<!-- y -->\nnew y\n<!-- end -->\n")
    with pytest.raises(ValueError, match="<!-- z -->"):
        write(page, "z", "")


def test_rows_become_a_markdown_table():
    assert table([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]) == "| a | b |\n| --- | --- |\n| 1 | x |\n| 2 | y |"


def test_the_running_time_follows_from_the_measured_steps():
    steps = step_seconds()
    mean, _ = running_time(speed=2)
    assert mean == pytest.approx((0.6 * steps[224] + 0.3 * steps[512] + 0.1 * steps[1024]) * 200 / 2)
