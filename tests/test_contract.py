"""The contract: generated code is what the protos generate, everything in them is explained, buf has no complaint."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from tests import ROOT
from tests.service.node.packages import install

PROTOS = ROOT / "protos"
FILES = [path.relative_to(PROTOS) for path in sorted(PROTOS.rglob("*.proto"))]
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
TIMEOUT_S = 120

Path_ = tuple[int, ...]
"""A path in a file's descriptor, as SourceCodeInfo has it: field numbers and indices by turns."""


def run(*command: str | Path, cwd: Path) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def generated(folder: Path) -> dict[Path, bytes]:
    """Return every generated file below a folder with its content."""
    files = (path for pattern in GENERATED for path in folder.rglob(pattern))
    return {path.relative_to(folder): path.read_bytes() for path in files}


# Generated code


@pytest.mark.slow
def test_generated_code_is_what_the_protos_generate(tmp_path: Path) -> None:
    """`make proto`, run on a copy of the protos, writes the checked-in files byte for byte: none more, none less."""
    for file in FILES:
        (tmp_path / "protos" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROTOS / file, tmp_path / "protos" / file)
    shutil.copy(ROOT / "Makefile", tmp_path)
    run("make", "proto", "READY=", f"BIN={Path(sys.executable).parent}", cwd=tmp_path)
    checked_in, fresh = generated(PROTOS), generated(tmp_path / "protos")
    assert sorted(checked_in) == sorted(fresh)
    assert len(fresh) == len(FILES) * len(GENERATED)
    drifted = [str(path) for path in fresh if fresh[path] != checked_in[path]]
    assert drifted == [], "run `make proto` and check the result in"


# Comments


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    """Return the protos' descriptors with their source locations."""
    out = tmp_path_factory.mktemp("contract") / "contract.binpb"
    arguments = ("-I", PROTOS, "--include_source_info", f"--descriptor_set_out={out}")
    run(sys.executable, "-m", "grpc_tools.protoc", *arguments, *FILES, cwd=ROOT)
    return FileDescriptorSet.FromString(out.read_bytes())


def _number(message: type, field: str) -> int:
    return int(message.DESCRIPTOR.fields_by_name[field].number)  # type: ignore[attr-defined]


def _of_message(message: DescriptorProto, at: Path_, name: str) -> Iterator[tuple[Path_, str]]:
    yield at, name
    for i, field in enumerate(message.field):
        yield (*at, _number(DescriptorProto, "field"), i), f"{name}.{field.name}"
    for i, nested in enumerate(message.nested_type):
        yield from _of_message(nested, (*at, _number(DescriptorProto, "nested_type"), i), f"{name}.{nested.name}")
    for i, enum in enumerate(message.enum_type):
        yield from _of_enum(enum, (*at, _number(DescriptorProto, "enum_type"), i), f"{name}.{enum.name}")


def _of_enum(enum: EnumDescriptorProto, at: Path_, name: str) -> Iterator[tuple[Path_, str]]:
    yield at, name
    for i, value in enumerate(enum.value):
        yield (*at, _number(EnumDescriptorProto, "value"), i), f"{name}.{value.name}"


def _of_service(service: ServiceDescriptorProto, at: Path_) -> Iterator[tuple[Path_, str]]:
    yield at, service.name
    for i, method in enumerate(service.method):
        yield (*at, _number(ServiceDescriptorProto, "method"), i), f"{service.name}.{method.name}"


def elements(file: FileDescriptorProto) -> Iterator[tuple[Path_, str]]:
    """Yield path and name of every message, field, enum, enum value, service and rpc of a file."""
    for i, message in enumerate(file.message_type):
        yield from _of_message(message, (_number(FileDescriptorProto, "message_type"), i), message.name)
    for i, enum in enumerate(file.enum_type):
        yield from _of_enum(enum, (_number(FileDescriptorProto, "enum_type"), i), enum.name)
    for i, service in enumerate(file.service):
        yield from _of_service(service, (_number(FileDescriptorProto, "service"), i))


def without_comment(files: Sequence[FileDescriptorProto]) -> list[str]:
    """Return the names of what has neither a leading nor a trailing comment."""
    missing = []
    for file in files:
        places = file.source_code_info.location
        commented = {tuple(at.path) for at in places if (at.leading_comments + at.trailing_comments).strip()}
        missing += [name for path, name in elements(file) if path not in commented]
    return missing


@pytest.mark.slow
def test_everything_in_the_contract_has_a_comment(contract: FileDescriptorSet) -> None:
    """A reader of the protos or of generated documentation finds no message, field, value or rpc unexplained."""
    names = {name for file in contract.file for _, name in elements(file)}
    assert {
        "FillSlotsRequest",
        "Article.id",
        "EmptyReason.EMPTY_REASON_NO_POSITION",
        "ArticleService.GetArticle",
    } < names
    assert without_comment(contract.file) == []


# buf


def buf() -> Path:
    """Return buf from PATH or from the Node.js packages; skips the test where neither has it."""
    if on_path := shutil.which("buf"):
        return Path(on_path)
    for installed in install().glob("@bufbuild/buf-*/bin/buf"):
        return installed
    pytest.skip("buf is neither on PATH nor among the Node.js packages for this platform")


@pytest.mark.slow
def test_the_contract_passes_buf_s_standard_lint() -> None:
    """`buf lint` with buf.yaml, whose rules are exactly STANDARD, reports nothing."""
    config = (ROOT / "buf.yaml").read_text()
    assert config.split("lint:")[1].split("breaking:")[0].split() == ["use:", "-", "STANDARD"]
    run(buf(), "lint", cwd=ROOT)
