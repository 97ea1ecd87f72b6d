"""Runs cells in a real kernel, and records the messages that its outputs and widgets send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient


class Notebook(NotebookClient):
    """A notebook whose cells a test adds and runs one by one.

    Attributes:
        pictures: sizes in bytes of the pictures that the widget received.
        captions: captions that the widget received.
        updates: MIME types of each update of an output.
        opened: ids of the widgets that were opened.
    """

    def __init__(self) -> None:
        super().__init__(nbformat.v4.new_notebook(), timeout=250, kernel_name="python3")
        self.pictures: list[int] = []
        self.captions: list[str] = []
        self.updates: list[set[str]] = []
        self.opened: list[str] = []

    def run(self, code: str) -> list[Any]:
        """Runs a cell; returns its outputs, which later cells may update."""
        cell = nbformat.v4.new_code_cell(code)
        self.nb.cells.append(cell)
        self.execute_cell(cell, len(self.nb.cells) - 1)
        return cell.outputs

    def press_cancel(self) -> None:
        """Sends the message of the widget's button to the kernel."""
        data = {"method": "custom", "content": {"type": "cancel"}}
        message = self.kc.session.msg("comm_msg", {"comm_id": self.opened[-1], "data": data})
        self.kc.shell_channel.send(message)

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Records a message, then processes it."""
        if msg["msg_type"] == "update_display_data":
            self.updates.append(set(msg["content"]["data"]))
        return super().process_message(msg, cell, cell_index)

    def handle_comm_msg(self, outs: Any, msg: Any, cell_index: int) -> None:
        """Records a message of a widget, then processes it."""
        state = msg["content"].get("data", {}).get("state", {})
        if "job" in state:
            self.captions.append(state["job"]["caption"])
            if msg["msg_type"] == "comm_open":
                self.opened.append(msg["content"]["comm_id"])
        self.pictures += [len(buffer) for buffer in msg.get("buffers") or () if len(buffer)]
        super().handle_comm_msg(outs, msg, cell_index)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Notebook]:
    """A notebook with a running kernel, which the tests of a module share."""
    made = Notebook()
    with made.setup_kernel():
        yield made


@pytest.fixture
def notebook(kernel: Notebook) -> Notebook:
    """The notebook without records of earlier tests."""
    for records in (kernel.pictures, kernel.captions, kernel.updates, kernel.opened):
        records.clear()
    return kernel


@pytest.fixture
def submit(server: Any) -> Callable[..., str]:
    """Returns a function that writes the code of a cell: it connects and submits a style reconstruction."""

    def code(package: str = "gramophone", wait: str = "", **options: Any) -> str:
        chosen = {"size": 48, "report_every": 5} | options
        return (
            f"import gramophone, gramophone.aio\nfrom tests.harness import png\n"
            f"client = {package}.Client({server.address!r})\njob = {wait} client.style(png(), **{chosen!r})\n"
        )

    return code
