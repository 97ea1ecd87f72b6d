"""What the contract asks of clients in Go, Java and C++, generated and used with nothing but defaults."""

import re
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from gramophone.v1 import options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone.v1.job_service_pb2 import DownloadResultRequest
from gramophone.v1.job_service_pb2_grpc import JobServiceStub
from gramophone.v1.style_transfer_service_pb2_grpc import StyleTransferServiceStub
from tests.harness import ServerProcess, png

HERE = Path(__file__).parent
PROTO = HERE.parents[1] / "proto"
FILES = sorted(PROTO.rglob("*.proto"))
# Pixels on a side of a result that takes more than LARGE bytes: it is noise, which does not compress.
SIDE, LARGE = 2048, 6_000_000


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def generate(folder: Path, *options: str, files: list[Path] = FILES) -> subprocess.CompletedProcess[str]:
    command = ["protoc", f"-I{PROTO}", *options, *map(str, files)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    return path


class TestGo:
    @pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
    def test_every_file_names_its_package(self, file: Path) -> None:
        assert re.search(r"^option go_package = \"[\w./-]+/v1(;\w+)?\";", file.read_text(), re.MULTILINE)

    def test_code_is_generated(self, tmp_path: Path) -> None:
        need("protoc", "protoc-gen-go")
        done = generate(tmp_path, "--go_out=.")
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.rglob("*.pb.go"))


class TestJava:
    @pytest.fixture
    def sources(self, tmp_path: Path) -> list[Path]:
        need("protoc", "grpc_java_plugin", "javac")
        plugin = f"--plugin=protoc-gen-grpc-java={shutil.which('grpc_java_plugin')}"
        done = generate(tmp_path, "--java_out=.", "--grpc-java_out=.", plugin)
        assert done.returncode == 0, done.stderr
        return sorted(tmp_path.rglob("*.java"))

    @pytest.mark.slow
    def test_generated_code_compiles(self, sources: list[Path], tmp_path: Path) -> None:
        jars = Path("/usr/share/java")
        names = ("protobuf", "grpc-api", "grpc-stub", "grpc-protobuf", "guava", "geronimo-annotation-1.3-spec")
        missing = [name for name in names if not (jars / f"{name}.jar").exists()]
        if missing:
            pytest.skip(f"{jars} has no {', '.join(missing)}")
        path = ":".join(str(jars / f"{name}.jar") for name in names)
        command = ["javac", "-proc:none", "-cp", path, "-d", str(tmp_path / "classes"), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr

    def test_messages_are_classes_of_their_own(self, sources: list[Path]) -> None:
        names = {source.stem for source in sources}
        assert "SynthesisOptions" in names
        assert not {name for name in names if name.endswith("OuterClass")}

    def test_no_class_has_a_name_that_everybody_uses(self, sources: list[Path]) -> None:
        """Options is that of command lines in several libraries, Image of java.awt and of javafx.scene.image."""
        declared = re.compile(r"^ *public (?:static )?final +class (\w+)", re.MULTILINE)
        names = {name for source in sources for name in declared.findall(source.read_text())}
        assert names and names.isdisjoint({"Options", "Image", "Style", "Color"})

    def test_the_package_is_of_a_domain(self, sources: list[Path]) -> None:
        assert all(re.search(r"^package \w+\.\w+\.[\w.]+;", s.read_text(), re.MULTILINE) for s in sources)
        assert not any("package gramophone.v1;" in source.read_text() for source in sources)


@pytest.mark.slow
class TestCpp:
    @pytest.fixture(scope="class")
    def client(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The client, compiled."""
        need("protoc", "grpc_cpp_plugin", "g++", "pkg-config")
        wanted = ["pkg-config", "--cflags", "--libs", "grpc++", "protobuf"]
        flags = subprocess.run(wanted, capture_output=True, text=True)
        if flags.returncode != 0:
            pytest.skip("the libraries of gRPC for C++ are not installed")
        folder = tmp_path_factory.mktemp("cpp")
        plugin = f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}"
        done = generate(folder, "--cpp_out=.", "--grpc_out=.", plugin)
        assert done.returncode == 0, done.stderr
        used = ("field_rules", "job", "job_service", "options", "style_transfer_service")
        services = ("job_service", "style_transfer_service")
        names = [*(f"{name}.pb.cc" for name in used), *(f"{name}.grpc.pb.cc" for name in services)]
        sources = [str(folder / "gramophone/v1" / name) for name in names]
        command = ["g++", "-std=c++17", "-O0", f"-I{folder}", str(HERE / "cpp/client.cc"), *sources]
        built = [*command, *flags.stdout.split(), "-o", str(folder / "client")]
        done = subprocess.run(built, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        return folder / "client"

    def run(self, client: Path, server: ServerProcess, picture: Path, size: int) -> subprocess.CompletedProcess[str]:
        command = [str(client), server.address, str(picture), str(size)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def test_a_client_with_defaults(self, client: Path, server: ServerProcess, picture: Path) -> None:
        done = self.run(client, server, picture, 64)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 0

    def test_and_a_large_result(self, client: Path, server: ServerProcess, picture: Path) -> None:
        done = self.run(client, server, picture, SIDE)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > LARGE


def test_a_channel_with_defaults_receives_a_large_result(server: ServerProcess) -> None:
    """As any client's of a language whose gRPC takes 4 MB at most, which is all of them."""
    request = pb.ReconstructStyleRequest(
        styles=[options_pb2.StyleSource(image=options_pb2.InputImage(data=png()))],
        style_layers=[options_pb2.LayerWeight(layer="conv1_1")],
        options=options_pb2.SynthesisOptions(size=SIDE, iterations=1),
    )
    with grpc.insecure_channel(server.address) as channel:
        *_, last = StyleTransferServiceStub(channel).ReconstructStyle(request, timeout=120)
        pieces = JobServiceStub(channel).DownloadResult(DownloadResultRequest(job_id=last.event.job_id), timeout=60)
        data = b"".join(piece.data for piece in pieces)
    assert len(data) == last.event.result.image.size > LARGE
