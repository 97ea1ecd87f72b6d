"""The table of settings: one field defines a flag, a variable, a key and a row of the reference, without conflicts."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gramophone
import gramophone_server
from gramophone.runtime import MACHINE
from gramophone_server.cli.serve import serve_command
from gramophone_server.settings import Limits, Settings, build, entries, setting
from gramophone_server.settings.reference import reference
from gramophone_server.settings.sizes import parse_size, size_text
from gramophone_server.settings.table import group

ROOT = Path(__file__).resolve().parents[2]
NEW: list[tuple[str, Any, Any, str, str, Any]] = [
    # (name, type, field, value as text, value in TOML, value)
    ("shade", int, setting(3, "A number.", minimum=1, maximum=9), "7", "7", 7),
    ("depth", float, setting(0.5, "A number.", minimum=0, exclusive=True), "2.5", "2.5", 2.5),
    ("room", int, setting(1 << 20, "A size.", unit="bytes"), "3MB", '"3MB"', 3_000_000),
    ("bound", int | None, setting(None, "A bound.", minimum=1, default_text="no bound"), "4", "4", 4),
    ("kind", Literal["a", "b"], setting("a", "One of two."), "b", '"b"', "b"),
    ("label", str | None, setting(None, "A text."), "x y", '"x y"', "x y"),
    ("names", tuple[str, ...], setting((), "Several.", flag="--name"), "x", '["x"]', ("x",)),
    ("folder", Path | None, setting(None, "A folder.", path="folder"), "/nowhere", '"/nowhere"', Path("/nowhere")),
]


def with_setting(name: str, kind: Any, made: Any) -> type[Settings]:
    """Returns a class of settings with one more setting."""
    limits = make_dataclass("MoreLimits", [(name, kind, made)], bases=(Limits,), frozen=True)
    return make_dataclass("MoreSettings", [("limits", limits, group(limits, "Limits"))], bases=(Settings,), frozen=True)


def parsed(settings: type[Settings], *args: str) -> Any:
    """Returns the settings that result from command line arguments."""
    return build(settings, serve_command(settings).make_context("serve", list(args)).params)


@pytest.mark.parametrize(("name", "kind", "made", "text", "toml", "value"), NEW, ids=[row[0] for row in NEW])
def test_a_new_setting_has_a_flag_a_variable_a_key_and_documentation(
    name: str, kind: Any, made: Any, text: str, toml: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_setting(name, kind, made)
    entry = next(entry for entry in entries(settings) if entry.name == name)
    (file := tmp_path / "server.toml").write_text(f"{name} = {toml}\n")
    assert getattr(parsed(settings).limits, name) == made.default
    assert getattr(parsed(settings, entry.flag, text).limits, name) == value
    assert getattr(parsed(settings, "--config", str(file)).limits, name) == value
    monkeypatch.setenv(str(entry.variable), text)
    assert getattr(parsed(settings).limits, name) == value
    row = next(line for line in reference(settings).splitlines() if f"`{entry.flag}`" in line)
    assert f"`{entry.variable}` | `{name}`" in row and entry.properties.description in row
    assert f"`{entry.flag}`" not in reference()


def test_a_new_switch_can_be_set_and_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_setting("bright", bool, setting(False, "Whether it is bright."))
    (file := tmp_path / "server.toml").write_text("bright = true\n")
    assert not parsed(settings).limits.bright
    assert parsed(settings, "--bright").limits.bright
    assert parsed(settings, "--config", str(file)).limits.bright
    assert not parsed(settings, "--config", str(file), "--no-bright").limits.bright
    for text, value in (("true", True), ("1", True), ("no", False), ("0", False)):
        monkeypatch.setenv("GRAMOPHONE_BRIGHT", text)
        assert parsed(settings).limits.bright is value


@pytest.mark.service
def test_one_new_line_in_the_source_adds_a_setting(tmp_path: Path) -> None:
    source = Path(gramophone_server.__file__).parent
    shutil.copytree(source, copy := tmp_path / "gramophone_server", ignore=shutil.ignore_patterns("*.onnx", "*.pyc"))
    groups = copy / "settings/groups.py"
    line = '    max_queued: int = setting(64, "Maximum number of jobs in the queue.", minimum=1)\n'
    before = groups.read_text()
    assert line in before
    new = '    max_shades: int = setting(3, "Shades of a picture.", minimum=2, maximum=9)\n'
    groups.write_text(before.replace(line, new + line))
    paths = os.pathsep.join((str(tmp_path), str(Path(gramophone.__file__).parents[1])))

    def run(*args: str, **variables: str) -> str:
        command = [sys.executable, "-m", *args]
        environment = os.environ | {"PYTHONPATH": paths} | variables
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
        return done.stdout + done.stderr

    assert re.search(
        r"--max-shades INTEGER +Shades of a picture.\s+\[default: 3;\s+2<=x<=9\]", run("gramophone_server", "--help")
    )
    assert "'--max-shades': 1 is not in the range 2<=x<=9" in run("gramophone_server", "--max-shades", "1")
    assert "$GRAMOPHONE_MAX_SHADES: 10 is not in the range" in run("gramophone_server", GRAMOPHONE_MAX_SHADES="10")
    (tmp_path / "a.toml").write_text("max_shades = 1\n")
    assert "'max_shades' in a.toml: 1 is not in the range" in run("gramophone_server", "--config", "a.toml")
    run("gramophone_server.settings", "page.md")
    assert (
        "| `--max-shades` | `GRAMOPHONE_MAX_SHADES` | `max_shades` | `3` | 2 to 9 |"
        in (tmp_path / "page.md").read_text()
    )


def test_the_reference_is_up_to_date() -> None:
    assert (ROOT / "docs/reference/settings.md").read_text() == reference(), "run `make reference`"


def test_the_command_has_the_defaults_of_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in entries(Settings):
        monkeypatch.delenv(str(entry.variable), raising=False)
    assert parsed(Settings) == Settings()


def test_server_variables_differ_from_client_variables() -> None:
    """For example, $GRAMOPHONE_KEEP of the commands must not change the server's limit --keep."""
    sources = [*(ROOT / "sdk").rglob("*.py"), *(ROOT / "export").rglob("*.py")]
    of_clients = {name for path in sources for name in re.findall(r"GRAMOPHONE_[A-Z_]+[A-Z]", path.read_text())}
    assert {"GRAMOPHONE_KEEP", "GRAMOPHONE_TOKEN", "GRAMOPHONE_SERVER"} <= of_clients
    assert {entry.variable for entry in entries(Settings)} & of_clients == set(MACHINE)


@dataclass(frozen=True)
class _Plain:
    value: int = 3


@dataclass(frozen=True)
class _Twice:
    max_queued: int = setting(3, "The same name.")


@dataclass(frozen=True)
class _Strange:
    value: complex = setting(0, "A type that no flag can have.")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (_Plain, r"_Plain\.value is not made by setting\(\)"),
        (_Twice, "several settings have the name max_queued"),
        (_Strange, "value has a type that settings do not support"),
    ],
)
def test_invalid_fields_of_a_group_are_errors(members: type, words: str) -> None:
    kind = make_dataclass("More", [("more", members, group(members, "More"))], bases=(Settings,), frozen=True)
    with pytest.raises(TypeError, match=words):
        entries(kind)


def test_a_group_without_a_title_is_an_error() -> None:
    kind = make_dataclass("More", [("more", Limits, field(default_factory=Limits))], bases=(Settings,), frozen=True)
    with pytest.raises(TypeError, match=r"More\.more is not made by group\(\)"):
        entries(kind)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_a_size_is_parsed_as_written(count: int) -> None:
    assert parse_size(size_text(count)) == count


@pytest.mark.parametrize(("count", "text"), [(20 << 30, "20GiB"), (10**6, "1MB"), (10**5, "100kB"), (0, "0"), (7, "7")])
def test_sizes_use_the_largest_exact_unit(count: int, text: str) -> None:
    assert size_text(count) == text
