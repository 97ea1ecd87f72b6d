"""Builds the clients in this folder from the .proto files alone; skips the test if a toolchain is not installed."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
PROTO = REPOSITORY / "proto"
FILES = sorted(PROTO.rglob("*.proto"))
_JARS = Path("/usr/share/java")
_GO = Path("/usr/share/gocode")
# JAR files of gRPC for Java and of its dependencies.
_GRPC_JAVA = (
    "protobuf", "grpc-api", "grpc-stub", "grpc-protobuf", "grpc-protobuf-lite", "grpc-core", "grpc-context",
    "grpc-netty",
    "guava", "gson", "perfmark-api", "geronimo-annotation-1.3-spec", "netty-buffer", "netty-codec",
    "netty-codec-http", "netty-codec-http2", "netty-common", "netty-handler", "netty-resolver", "netty-transport",
    "netty-transport-native-unix-common",
)  # fmt: skip
_UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "ETIMEDOUT")


def need(*programs: str) -> None:
    """Skips the test if a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def checked(*command: str | Path, cwd: Path, timeout: float = 280, **environment: str) -> str:
    """Runs a command, which must succeed, and returns its output."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def generate(folder: Path, *options: str) -> None:
    """Runs protoc over all files of the contract."""
    checked("protoc", f"-I{PROTO}", *options, *FILES, cwd=folder, timeout=60)


def npm_install(folder: Path, *options: str) -> None:
    """Installs the packages of a folder's package.json, or skips the test if no registry can be reached."""
    need("node", "npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    if any(word in done.stderr for word in _UNREACHABLE):
        pytest.skip(f"npm cannot reach its registry: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def java_path() -> str:
    """Returns the class path of gRPC for Java."""
    missing = [name for name in _GRPC_JAVA if not (_JARS / f"{name}.jar").exists()]
    if missing:
        pytest.skip(f"{_JARS} has no {', '.join(missing)}")
    return ":".join(str(_JARS / f"{name}.jar") for name in _GRPC_JAVA)


def cpp(folder: Path) -> list[str]:
    """Builds the client in C++ and returns its command line."""
    need("protoc", "grpc_cpp_plugin", "g++", "pkg-config")
    wanted = ["pkg-config", "--cflags", "--libs", "grpc++", "protobuf"]
    flags = subprocess.run(wanted, capture_output=True, text=True)
    if flags.returncode != 0:
        pytest.skip("the libraries of gRPC for C++ are not installed")
    generate(folder, "--cpp_out=.", "--grpc_out=.", f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}")
    made = folder / "gramophone/v1"
    services = [made / f"{name}.grpc.pb.cc" for name in ("job_service", "style_transfer_service")]
    # The client does not use the messages of models, and each file takes seconds to compile.
    messages = [path for path in made.glob("*.pb.cc") if "grpc" not in path.name and "model" not in path.name]
    sources = [HERE / "cpp/client.cc", *messages, *services]
    checked("g++", "-std=c++17", "-O0", "-I.", *sources, *flags.stdout.split(), "-o", "client", cwd=folder)
    return [str(folder / "client")]


def java(folder: Path) -> list[str]:
    """Builds the client in Java and returns its command line."""
    need("protoc", "grpc_java_plugin", "javac", "java")
    path = java_path()
    plugin = f"--plugin=protoc-gen-grpc-java={shutil.which('grpc_java_plugin')}"
    generate(folder, "--java_out=.", "--grpc-java_out=.", plugin)
    sources = [*folder.rglob("*.java"), HERE / "java/Client.java"]
    checked("javac", "-proc:none", "-nowarn", "-cp", path, "-d", "classes", *sources, cwd=folder)
    return ["java", "-cp", f"{path}:{folder / 'classes'}", "Client"]


def go(folder: Path) -> list[str]:
    """Builds the client in Go with Debian's libraries and returns its command line."""
    need("protoc", "protoc-gen-go", "protoc-gen-go-grpc", "go")
    for library in ("google.golang.org/grpc", "google.golang.org/protobuf"):
        if not (_GO / "src" / library).exists():
            pytest.skip(f"the Go library {library} is not installed")
    if not (_GO / "src/github.com/golang/protobuf/ptypes/any/any.pb.go").exists():
        pytest.skip("the Go library github.com/golang/protobuf is not installed")
    source = folder / "src/client"
    source.mkdir(parents=True)
    generate(folder / "src", "--go_out=.", "--go-grpc_out=.")
    shutil.copy(HERE / "go/main.go", source)
    environment: dict[str, Any] = {
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOPATH": f"{folder}:{_GO}",
        "GOCACHE": str(folder / "cache"),
    }
    checked("go", "build", "-o", folder / "client", ".", cwd=source, **environment)
    return [str(folder / "client")]


def node(folder: Path) -> list[str]:
    """Builds the client for Node.js with code from pbjs and returns its command line."""
    shutil.copytree(HERE / "node", folder, dirs_exist_ok=True)
    npm_install(folder)
    pbjs = folder / "node_modules/.bin/pbjs"
    checked(pbjs, "-t", "static-module", "-w", "commonjs", "-p", PROTO, "-o", "generated.cjs", *FILES, cwd=folder)
    return ["node", str(folder / "client.mjs")]


def typescript(folder: Path) -> list[str]:
    """Builds the client in TypeScript with code from protobuf-es and returns its command line."""
    need("protoc")
    shutil.copytree(HERE / "typescript", folder, dirs_exist_ok=True)
    npm_install(folder)
    (folder / "generated").mkdir()
    plugin = f"--plugin=protoc-gen-es={folder / 'node_modules/.bin/protoc-gen-es'}"
    generate(folder, "--es_out=generated", "--es_opt=target=ts,import_extension=js", plugin)
    checked(folder / "node_modules/.bin/tsc", cwd=folder)
    return ["node", str(folder / "built/client.js")]


BUILDERS: dict[str, Callable[[Path], list[str]]] = {
    "go": go, "java": java, "cpp": cpp, "node": node, "typescript": typescript,
}  # fmt: skip
