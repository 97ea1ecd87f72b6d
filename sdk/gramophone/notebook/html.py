"""HTML of a job for notebooks: a table, and a card with the picture and the loss curve."""

from __future__ import annotations

import base64
from html import escape

from .snapshot import HEIGHT, WIDTH, Snapshot

_CARD = "margin:0;display:inline-block;max-width:100%;font:13px system-ui,sans-serif"
_PICTURE = "display:block;max-width:100%;height:auto"
_CURVE = "display:block;width:100%;height:40px;margin-top:6px"


def table(snapshot: Snapshot) -> str:
    """Returns a table with the state of a job."""
    rows = [("job", snapshot.job_id), ("state", snapshot.state)]
    if snapshot.iterations:
        rows.append(("iteration", f"{snapshot.iteration} of {snapshot.iterations}"))
    if snapshot.loss is not None:
        rows.append(("loss", f"{snapshot.loss:.6g}"))
    if snapshot.iterations:
        name, seconds = ("ran for", snapshot.elapsed) if snapshot.ended else ("time left", snapshot.remaining)
        rows.append((name, f"{seconds:.1f} s"))
    cells = "".join(f'<tr><th style="text-align:left">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in rows)
    return f"<table>{cells}</table>"


def card(snapshot: Snapshot, png: bytes | None, error: str = "") -> str:
    """Returns a figure with the picture, the loss curve and the state of a job.

    Args:
        png: the picture as a PNG; None for no picture.
        error: message of an error; empty for none.
    """
    parts = [f'<figure style="{_CARD}">']
    if png:
        alt = escape(f"Picture of job {snapshot.job_id} after {snapshot.iteration} iterations")
        parts.append(f'<img style="{_PICTURE}" alt="{alt}" src="data:image/png;base64,{base64_text(png)}">')
    if snapshot.curve:
        parts.append(
            f'<svg style="{_CURVE}" viewBox="-2 -2 {WIDTH + 4} {HEIGHT + 4}" preserveAspectRatio="none" role="img" '
            f'aria-label="loss curve"><path d="{snapshot.curve}" fill="none" stroke="currentColor" '
            'vector-effect="non-scaling-stroke"/></svg>'
        )
    parts.append(f"<figcaption>{escape(snapshot.caption)}{f'<br>{escape(error)}' if error else ''}</figcaption>")
    return "".join([*parts, "</figure>"])


def base64_text(data: bytes) -> str:
    """Returns bytes in base64."""
    return base64.b64encode(data).decode()
