"""The project's code neither unpickles nor executes data that came from elsewhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for part in ("sdk", "server", "export", "benchmarks", "examples") for path in (ROOT / part).rglob("*.py")
)
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
# Folders of the ends of the pipe between front and worker: an unnamed socket pair that nothing else can reach.
PIPE_FOLDERS = {"scheduling", "worker", "bridge"}
# Passes the messages of that pipe on through a Ray cluster, on which whoever reaches it can run code in any case.
PICKLING_FOLDER = "bridge"


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_uses_safe_loaders_only(path):
    tree = ast.parse(path.read_text())
    for module in imports(tree):
        assert module.split(".")[0] not in UNSAFE_MODULES or (module, path.parent.name) == ("pickle", PICKLING_FOLDER)
        # A Connection pickles its messages; Listener and Client would also let other programs connect.
        if module.startswith("multiprocessing.connection"):
            assert module.endswith(".Connection") and path.parent.name in PIPE_FOLDERS
    for function, call in calls(tree):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if function == "torch.load":
            assert given.get("weights_only") == "True"
        if function in ("np.load", "numpy.load"):
            assert given.get("allow_pickle", "False") == "False"
        assert function not in ("eval", "exec", "torch.jit.load", "os.system")
        assert given.get("shell", "False") == "False"
