"""Executes the example notebooks in a real kernel against a real server, with small pictures."""

import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

import gramophone
from tests.harness import ServerProcess

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))
SMALL = {
    "figure1": 'size = 32\niterations = 3\ncontent_layers = ["conv1_1", "conv4_2"]',
    "transfer": "size = 32\niterations = 3\nstyle_weights = [1.0, 10.0]",
}
# Each notebook's number of pictures, and the file that it writes.
EXPECTED = {"figure1": (6, "figure1.png"), "transfer": (4, "transfer.png")}


def opened(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def pictures(notebook: Any) -> list[str]:
    """Returns the PNG files in the outputs of a notebook, in base64."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def test_there_are_two_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SMALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_keeps_its_pictures(
    path: Path, server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(EXAMPLES / "gallery", tmp_path / "gallery")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook = opened(path)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    assert {line.split(" =")[0] for line in parameters.source.splitlines()} == {
        line.split(" =")[0] for line in SMALL[path.stem].splitlines()
    }
    parameters.source = SMALL[path.stem]
    monkeypatch.setenv("GRAMOPHONE_SERVER", server.address)
    NotebookClient(
        notebook, timeout=250, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    nbformat.validate(notebook)
    # The server's log and other messages of a program do not belong in a notebook.
    errors = [o for cell in notebook.cells for o in cell.get("outputs", ()) if o.output_type == "error"]
    assert errors == []
    count, file = EXPECTED[path.stem]
    assert len(pictures(notebook)) == count
    with Image.open(folder / file) as written:
        assert min(written.size) > 0
    (shown,) = [cell for cell in notebook.cells if "job.show()" in cell.source and cell.cell_type == "code"]
    assert "image/png" in shown.outputs[0].data and "succeeded" in shown.outputs[0].data["text/plain"]
    again = folder / "executed.ipynb"
    nbformat.write(notebook, again)
    assert pictures(opened(again)) == pictures(notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_has_no_outputs(path: Path) -> None:
    for cell in opened(path).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_the_kernel_is_that_of_this_python() -> None:
    """The other tests would test another installation of the SDK."""
    cell = nbformat.v4.new_code_cell("import gramophone; print(gramophone.__file__)")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert os.path.samefile(notebook.cells[0].outputs[0].text.strip(), str(gramophone.__file__))
