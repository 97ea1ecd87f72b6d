"""The committed stubs are those that the proto makes."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_stubs_are_fresh(tmp_path):
    spec = importlib.util.spec_from_file_location("generate", ROOT / "proto/generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    generate.generate(tmp_path)
    made = {p.name: p.read_text() for p in (tmp_path / "gramophone/v1").iterdir()}
    committed = {p.name: p.read_text() for p in (ROOT / "sdk/gramophone/v1").iterdir() if p.suffix in (".py", ".pyi")}
    assert made == committed, "run `make proto`"
