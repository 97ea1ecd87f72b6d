"""job.progress(): a tqdm bar that counts iterations."""

import io

import gramophone
from tests.harness import png


def test_the_bar_counts_iterations_and_the_frames_come_through(server, connect):
    client, shown = connect(server.address), io.StringIO()
    job = client.style(png(), size=32, iterations=40, report_every=10)
    frames = list(job.progress(file=shown, desc="texture", ascii=True, mininterval=0))
    assert frames[-1].iteration == 40
    last = shown.getvalue().split("\r")[-1]
    assert last.startswith("texture: 100%") and "40/40" in last and "loss=" in last


def test_leaving_the_loop_leaves_the_bar_where_it_is(server):
    with gramophone.Client(server.address) as client:
        shown = io.StringIO()
        job = client.style(png(), size=32, iterations=100_000, report_every=2, time_limit=30)
        frames = job.progress(file=shown)
        frame = next(frames)
        frames.close()  # type: ignore[attr-defined]
        job.cancel()
        assert f"{frame.iteration}/100000" in shown.getvalue()
