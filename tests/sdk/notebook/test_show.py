"""job.show() in a real kernel, against a real server."""

import base64
import subprocess
import sys

import pytest

import gramophone
from tests.harness import png

CLIENTS = pytest.mark.parametrize(("package", "wait"), [("gramophone", ""), ("gramophone.aio", "await")])
WITHOUT_ANYWIDGET = "import sys; kept = sys.modules.get('anywidget'); sys.modules['anywidget'] = None\n"
WITH_ANYWIDGET = "del sys.modules['anywidget']; sys.modules.update({'anywidget': kept} if kept else {})"
SHOW_RESULT = "from IPython.display import display\nresult = {} job.result()\ndisplay(result)\n"


@CLIENTS
def test_the_widget_gets_a_picture_after_each_report_and_the_output_keeps_the_last(notebook, submit, package, wait):
    """The result cell runs while the widget is live; the picture replaces the widget before it ends."""
    shown = notebook.run(submit(package, wait, iterations=40) + "job.show()\n" + SHOW_RESULT.format(wait))
    live, result = shown
    assert len(notebook.pictures) >= 4
    assert "running · iteration 40 of 40" in notebook.captions[-1]
    assert set(live.data) == {"text/plain", "text/html", "image/png"}
    assert live.data["image/png"] == result.data["image/png"]
    assert base64.b64decode(live.data["image/png"]).startswith(b"\x89PNG")
    assert "succeeded · iteration 40 of 40" in live.data["text/html"]
    assert result.data["text/plain"].startswith("Result(48x48, loss=")


def test_a_display_follows_its_job_while_later_cells_run(notebook, submit):
    live = notebook.run(submit(iterations=40) + "job.show()")
    assert "application/vnd.jupyter.widget-view+json" in live[0].data
    (table,) = notebook.run("job")
    assert table.data["text/html"].startswith("<table>") and "application" not in str(table.data)
    notebook.run("result = job.result()")
    assert "image/png" in live[0].data and "application/vnd.jupyter.widget-view+json" not in live[0].data


@CLIENTS
def test_without_anywidget_an_output_is_updated_after_each_report(notebook, submit, package, wait):
    code = WITHOUT_ANYWIDGET + submit(package, wait, iterations=40) + f"job.show()\n_ = {wait} job.result()"
    (output,) = notebook.run(code)
    notebook.run(WITH_ANYWIDGET)
    assert sum("image/png" in update for update in notebook.updates) >= 4
    assert notebook.pictures == []
    assert "succeeded" in output.data["text/plain"] and "image/png" in output.data


@CLIENTS
def test_the_button_cancels_the_job(notebook, submit, package, wait):
    (live,) = notebook.run(submit(package, wait, iterations=1_000_000, time_limit=60) + "job.show()")
    notebook.press_cancel()
    (ended,) = notebook.run(
        f"try:\n    {wait} job.result()\nexcept gramophone.JobCancelledError as error:\n    print(error)"
    )
    assert "was canceled" in ended.text
    assert "cancelled" in live.data["text/plain"] and "was canceled" in live.data["text/html"]


def test_a_job_that_has_ended_is_shown_at_once(notebook, submit):
    first, second = notebook.run(submit(iterations=5) + "_ = job.result()\njob.show()\njob.show()\n_ = job.result()")
    assert first.data == second.data
    assert "image/png" in first.data
    assert notebook.opened == []


def test_a_server_that_cannot_be_reached_is_named_in_the_output(notebook, flaky):
    """The job's stream breaks while the display follows it."""
    code = (
        f"import gramophone, time\nclient = gramophone.Client({flaky.address!r}, retry_for=0.2)\n"
        "job = client.job(client.style(b'picture').id)"
    )
    notebook.run(code)
    flaky.leave()
    (output,) = notebook.run("job.show()\nfor view in job._watching: view.join()")
    assert "cannot be reached" in output.data["text/html"]


def test_outside_of_a_notebook_show_says_what_to_use(server):
    with gramophone.Client(server.address) as client:
        job = client.style(png(), size=32, iterations=2)
        with pytest.raises(RuntimeError, match=r"job\.progress\(\)"):
            job.show()
        job.result()


def test_the_sdk_does_not_import_notebook_packages():
    code = "import sys, gramophone, gramophone.aio; print({'IPython', 'anywidget', 'tqdm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr
