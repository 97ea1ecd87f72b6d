"""The generated files are up to date, and an option added to the contract needs no other edit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import gramophone
from tests.harness import png

ROOT = Path(__file__).resolve().parents[2]
GENERATED = [
    "docs/reference/options.md",
    "sdk/gramophone/options.py",
    "server/gramophone_server/messages/options.py",
    "web/page/src/contract.ts",
    *(f"sdk/gramophone/v1/{path.name}" for path in (ROOT / "sdk/gramophone/v1").glob("*.py*")),
]
FIELDS = """
  // How much the canvas wobbles. Only tests have it.
  optional double wobble = 900 [(rules) = {
    minimum: 0.25
    maximum: 2
    unit: "pixels"
    default_value: "0.5"
    group: "Canvas"
  }];
  // Which way it wobbles.
  optional WobbleWay wobble_way = 901 [(rules) = {
    default_style: "WOBBLE_WAY_UP_AND_DOWN"
    default_content: "WOBBLE_WAY_SIDEWAYS"
    default_transfer: "WOBBLE_WAY_SIDEWAYS"
    group: "Canvas"
  }];
  // How often it wobbles; 0 means never.
  optional int32 wobbles = 902 [(rules) = {
    minimum: 3
    maximum: 9
    or_zero: true
    default_value: "0"
    group: "Wobbling"
  }];
  // Whether it may stop.
  optional bool stops = 903 [(rules) = {
    default_value: "true"
    group: "Wobbling"
  }];
  // How long it rests.
  google.protobuf.Duration rest = 904 [(rules) = {
    minimum: 0.5
    maximum: 60
    unit: "seconds"
    default_value: "1.5"
    group: "Wobbling"
  }];
  // What it is called.
  optional string wobbler = 905 [(rules) = {
    default_value: "jelly"
    group: "Wobbling"
  }];"""
ENUM = """
// A way to wobble.
enum WobbleWay {
  // The default, see `wobble_way`.
  WOBBLE_WAY_UNSPECIFIED = 0;
  // Up and down.
  WOBBLE_WAY_UP_AND_DOWN = 1;
  // To the sides.
  WOBBLE_WAY_SIDEWAYS = 2;
}
"""
READ_OPTIONS = """
import json, sys
import gramophone
from gramophone.requests import estimate_request
from gramophone_server.models.store import BUILTIN_MODEL
from gramophone_server.rpc.violations import InvalidRequestError
from tests.requests import read_job

picture = open(sys.argv[1], "rb").read()
found = {"file": gramophone.__file__, "annotations": {k: str(v) for k, v in gramophone.Options.__annotations__.items()}}
spec = read_job(estimate_request("style", [picture], size=32), BUILTIN_MODEL)
names = ("wobble", "wobble_way", "wobbles", "stops", "rest", "wobbler")
found["unset"] = [getattr(spec.options, name) for name in names]
given = {"stops": False, "rest": 3, "wobbler": "pudding"}
spec = read_job(estimate_request("style", [picture], size=32, **given), BUILTIN_MODEL)
found["given"] = [spec.options.stops, spec.options.rest, spec.recipe()["wobbler"]]
spec = read_job(estimate_request("style", [picture], size=32, wobble=2, wobble_way="sideways"), BUILTIN_MODEL)
found["set"] = [spec.options.wobble, spec.options.wobble_way, spec.recipe()["wobble"]]
try:
    read_job(estimate_request("style", [picture], size=32, wobble=0.1, wobbles=2, rest=0.25), BUILTIN_MODEL)
except InvalidRequestError as error:
    found["violations"] = error.violations
print(json.dumps(found))
"""


def generate(root: Path) -> None:
    """Writes the files that the project's generator makes into `root`."""
    subprocess.run([sys.executable, ROOT / "proto/generate.py", root], check=True)


def test_the_committed_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    generate(tmp_path)
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert made == set(GENERATED)
    stale = [name for name in GENERATED if (tmp_path / name).read_text() != (ROOT / name).read_text()]
    assert not stale, "run `make proto`"


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with six more options in its contract, generated again and not edited otherwise."""
    root = tmp_path_factory.mktemp("project")
    for name in ("proto", "sdk", "server", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    shutil.copy(ROOT / "pyproject.toml", root)
    contract = root / "proto/gramophone/v1/options.proto"
    text = contract.read_text()
    end = text.index("\n}\n", text.index("message SynthesisOptions {"))
    contract.write_text(text[:end] + FIELDS + text[end:] + ENUM)
    subprocess.run([sys.executable, root / "proto/generate.py"], check=True)
    return root


def environment(root: Path) -> dict[str, str]:
    paths = os.pathsep.join(str(root / name) for name in ("sdk", "server", ""))
    return os.environ | {"PYTHONPATH": paths, "GRAMOPHONE_KEEP": "0"}


def test_an_added_option_is_in_the_sdk_the_checks_and_the_spec(extended: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(png())
    command = [sys.executable, "-c", READ_OPTIONS, str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(extended), cwd=extended)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["file"].startswith(str(extended))
    assert "float" in found["annotations"]["wobble"] and "WobbleWay" in found["annotations"]["wobble_way"]
    assert found["unset"] == [0.5, "up_and_down", 0, True, 1.5, "jelly"]
    assert found["given"] == [False, 3, "pudding"]
    assert found["set"] == [2, "sideways", 2]
    assert found["violations"] == [
        ["options.wobble", "is 0.1, but must be a finite number, 0.25 to 2"],
        ["options.wobbles", "is 2, but must be 0 or 3 to 9"],
        ["options.rest", "is 0.25 s, but must be 0.5 to 60"],
    ]


def test_an_added_option_is_on_the_command_line_and_in_the_recipe(extended: Path, tmp_path: Path) -> None:
    def run(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gramophone", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, env=environment(extended), cwd=tmp_path)

    shown = " ".join(run("style", "--help").stdout.split())
    assert "--wobble PIXELS" in shown or "--wobble X" in shown
    assert "How much the canvas wobbles. [0.25 to 2 pixels; default: 0.5]" in shown
    assert "--wobble-way [up_and_down|sideways]" in shown
    assert "Wobbling: --wobbles N How often it wobbles; 0 means never. [0, or 3 to 9; default: 0]" in shown
    assert "--stops / --no-stops Whether it may stop. [default: true]" in shown
    assert "--rest SECONDS How long it rests. [0.5 to 60 seconds; default: 1.5]" in shown
    (tmp_path / "a.png").write_bytes(png())
    small = ["--size", 32, "--iterations", 2, "-o", "b.png"]
    refused = run("style", "a.png", *small, "--wobble", 3)
    assert refused.returncode == 2 and "--wobble" in refused.stderr and "0.25 to 2" in refused.stderr
    done = run("style", "a.png", *small, "--wobble", 1.5, "--no-stops", "--rest", 2)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "b.png").size == (32, 32)
    recipe = gramophone.read_recipe(tmp_path / "b.png")
    assert (recipe["wobble"], recipe["wobble_way"], recipe["wobbles"]) == (1.5, "up_and_down", 0)
    assert (recipe["stops"], recipe["rest"], recipe["wobbler"]) == (False, 2, "jelly")


def test_an_added_option_is_in_the_reference(extended: Path) -> None:
    page = (extended / "docs/reference/options.md").read_text()
    assert (
        "| `wobble` | `options.wobble` | 0.25 to 2 pixels | 0.5 | How much the canvas wobbles. Only tests have it. |"
        in page
    )
    assert "## Wobbling" in page


def test_an_added_option_is_a_field_of_the_web_page(extended: Path) -> None:
    lines = (extended / "web/page/src/contract.ts").read_text().splitlines()
    rows = [json.loads(line.strip().removesuffix(",")) for line in lines if line.startswith('  {"path"')]
    found = {row["path"]: row for row in rows}
    wobble, way = found["options.wobble"], found["options.wobble_way"]
    assert (wobble["type"], wobble["group"], wobble["default"]) == ("number", "Canvas", "0.5")
    assert (wobble["minimum"], wobble["maximum"], wobble["help"][:8]) == (0.25, 2, "How much")
    assert [(one["word"], one["number"]) for one in way["choices"]] == [("up_and_down", 1), ("sideways", 2)]
    assert found["options.wobbles"]["range"] == "0, or 3 to 9"
