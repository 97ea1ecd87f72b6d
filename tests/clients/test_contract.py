"""The contract generates usable code for other languages: packages, names and number types."""

import re
import shutil
from pathlib import Path

import grpc
import pytest

from gramophone.v1 import field_rules_pb2, job_pb2, job_service_pb2, model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone.v1.job_service_pb2 import DownloadResultRequest
from gramophone.v1.job_service_pb2_grpc import JobServiceStub
from gramophone.v1.style_transfer_service_pb2_grpc import StyleTransferServiceStub
from tests.clients.toolchains import FILES, checked, generate, java_path, need
from tests.harness import ServerProcess, png

# Pixels on a side of a result that takes more than LARGE bytes: it is noise, which does not compress.
SIDE, LARGE = 2048, 6_000_000
MODULES = (field_rules_pb2, job_pb2, job_service_pb2, model_service_pb2, options_pb2, pb)
# Class names of java.awt, JavaFX, System.Drawing, SwiftUI and others, which generated code must not repeat.
TAKEN = {"Options", "Image", "Style", "Color", "Task", "Error", "Result", "Status", "Any", "Object", "String", "List"}
# Keywords of Go, Java, C#, Swift, C++, TypeScript and Python that could be field names.
KEYWORDS = {
    "abstract", "as", "base", "bool", "break", "case", "catch", "char", "class", "const", "continue", "default",
    "delete", "do", "double", "else", "enum", "event_", "explicit", "export", "extends", "extern", "final", "fixed",
    "float", "for", "func", "function", "goto", "if", "import", "in", "int", "interface", "internal", "is", "lock",
    "long", "map", "namespace", "new", "null", "operator", "out", "override", "package", "params", "private",
    "protected", "public", "range", "ref", "return", "select", "self", "short", "static", "string", "struct", "super",
    "switch", "this", "throw", "try", "type", "typeof", "union", "unsafe", "using", "var", "virtual", "void",
    "volatile", "while", "with", "yield",
}  # fmt: skip
# 64-bit fields; all values that the contract documents for them fit a JavaScript number.
LONG = {"peak_memory_bytes", "available_memory_bytes"}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
class TestFile:
    """The package options of each .proto file."""

    @pytest.mark.parametrize(
        "option",
        [
            r'go_package = "[\w./-]+/v1(;\w+)?"',
            r'java_package = "\w+\.\w+\.[\w.]+"',
            r"java_multiple_files = true",
            r'csharp_namespace = "Gramophone\.V1"',
            r'objc_class_prefix = "[A-Z]{3,}"',
            r'php_namespace = "Gramophone\\\\V1"',
            r'ruby_package = "Gramophone::V1"',
        ],
    )
    def test_package_options_are_set(self, file: Path, option: str) -> None:
        assert re.search(rf"^option {option};", file.read_text(), re.MULTILINE)

    def test_java_outer_class_has_no_name_of_a_message(self, file: Path) -> None:
        found = re.search(r'^option java_outer_classname = "(\w+)Proto";', file.read_text(), re.MULTILINE)
        assert found is not None
        assert found[1] == file.stem.title().replace("_", "")


def test_names_are_no_common_class_names_or_keywords() -> None:
    for module in MODULES:
        file = module.DESCRIPTOR
        assert TAKEN.isdisjoint({*file.message_types_by_name, *file.enum_types_by_name}), file.name
        for message in file.message_types_by_name.values():
            assert KEYWORDS.isdisjoint({field.name for field in message.fields}), message.name
            # In C#, a member must not have the name of its class.
            assert message.name not in {field.camelcase_name.title() for field in message.fields}


def test_only_documented_fields_have_64_bit_integers() -> None:
    long = {
        field.name
        for module in MODULES
        for message in module.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
        if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64)
    }
    assert long == LONG


def test_go_code_is_generated(tmp_path: Path) -> None:
    need("protoc", "protoc-gen-go")
    generate(tmp_path, "--go_out=.")
    assert {path.stem.removesuffix(".pb") for path in tmp_path.rglob("*.pb.go")} == {file.stem for file in FILES}


class TestJava:
    @pytest.fixture
    def sources(self, tmp_path: Path) -> list[Path]:
        need("protoc", "grpc_java_plugin")
        plugin = f"--plugin=protoc-gen-grpc-java={shutil.which('grpc_java_plugin')}"
        generate(tmp_path, "--java_out=.", "--grpc-java_out=.", plugin)
        return sorted(tmp_path.rglob("*.java"))

    @pytest.mark.slow
    def test_generated_code_compiles(self, sources: list[Path], tmp_path: Path) -> None:
        need("javac")
        checked("javac", "-proc:none", "-cp", java_path(), "-d", "classes", *sources, cwd=tmp_path)

    def test_messages_are_top_level_classes(self, sources: list[Path]) -> None:
        names = {source.stem for source in sources}
        assert "SynthesisOptions" in names
        assert not {name for name in names if name.endswith("OuterClass")}

    def test_no_class_has_a_common_name(self, sources: list[Path]) -> None:
        """For example, java.awt and javafx.scene.image have an Image, and several libraries have Options."""
        declared = re.compile(r"^ *public (?:static )?(?:final +class|enum|interface) (\w+)", re.MULTILINE)
        names = {name for source in sources for name in declared.findall(source.read_text())}
        assert names and names.isdisjoint(TAKEN)

    def test_the_package_name_has_a_domain(self, sources: list[Path]) -> None:
        assert all(re.search(r"^package \w+\.\w+\.[\w.]+;", s.read_text(), re.MULTILINE) for s in sources)
        assert not any("package gramophone.v1;" in source.read_text() for source in sources)


def test_a_channel_with_defaults_receives_a_large_result(server: ServerProcess) -> None:
    """gRPC limits a received message to 4 MB by default in every language."""
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
