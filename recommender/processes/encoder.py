"""The process that has the model: it encodes for all workers of a service, the texts of many calls in one batch.

The supervisor runs it as `python -m recommender.processes.encoder`; see child.py.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import grpc
from related_news.internal.v1 import encoder_service_pb2 as encoder_pb
from related_news.internal.v1 import encoder_service_pb2_grpc as encoder_grpc

from recommender.config import Settings
from recommender.encoding.batcher import Batcher
from recommender.encoding.embedder import Embedder, load_embedder, model_of
from recommender.encoding.remote import UNBOUNDED
from recommender.errors import MismatchError
from recommender.processes.child import Orders, run_child
from recommender.processes.orders import EncoderReady, StartEncoder
from recommender.rpc.interceptor import Guard

MODELS_MAX = 3
"""Most models in memory: the active one, and those of a switch there and back. The least recently used is evicted."""

_LAST_CALLS_S = 1.0
"""How long to go on after the supervisor is gone: workers that lose it at the same moment finish their calls first."""

Load = Callable[[str, Settings], Embedder]
Context = grpc.aio.ServicerContext[Any, Any]


class EncoderService(encoder_grpc.EncoderServiceServicer):
    """Loads models and encodes with them."""

    def __init__(self, settings: Settings, load: Load) -> None:
        """load: returns the embedder of a model's name."""
        self._settings = settings
        self._load = load
        self._loading = asyncio.Lock()
        self._by_name: OrderedDict[str, Batcher] = OrderedDict()

    async def LoadModel(  # noqa: N802 - the contract's name
        self, request: encoder_pb.LoadModelRequest, context: Context
    ) -> encoder_pb.LoadModelResponse:
        """Load a model."""
        del context
        info = (await self.batcher(request.name)).info
        return encoder_pb.LoadModelResponse(
            name=info.name,
            weights_sha256=info.weights_sha256,
            dimension=info.dimension,
            max_tokens=info.max_tokens,
            languages=sorted(info.languages),
        )

    async def Encode(  # noqa: N802 - the contract's name
        self, request: encoder_pb.EncodeRequest, context: Context
    ) -> encoder_pb.EncodeResponse:
        """Encode texts."""
        del context
        batcher = await self._batcher_of_key(request.model_key)
        vectors = await batcher.encode(list(request.texts), urgent=request.urgent)
        return encoder_pb.EncodeResponse(vectors=vectors.astype("<f4", copy=False).tobytes())

    async def batcher(self, name: str) -> Batcher:
        """Return the batcher of a model. Load the model if need be, and evict the least recently used one for it."""
        if name not in self._by_name:  # a loaded model does not wait for one that is being loaded
            await self._load_model(name)
        self._by_name.move_to_end(name)
        return self._by_name[name]

    async def _load_model(self, name: str) -> None:
        async with self._loading:
            if name in self._by_name:
                return
            embedder = await asyncio.to_thread(self._load, name, self._settings)
            if len(self._by_name) == MODELS_MAX:
                _, oldest = self._by_name.popitem(last=False)
                await oldest.close()
            self._by_name[name] = Batcher(embedder)

    async def close(self) -> None:
        """Stop every batcher."""
        for batcher in self._by_name.values():
            await batcher.close()

    async def _batcher_of_key(self, key: str) -> Batcher:
        """Return the batcher of a ModelInfo's key. An encoder that was restarted may have to load the model first."""
        batcher = await self.batcher(model_of(key))
        if batcher.info.key != key:
            raise MismatchError(f"the model is {batcher.info.key} now, not {key}", fix="run `related-news reindex`")
        return batcher


async def serve_encoder(orders: Orders[StartEncoder], load: Load) -> None:
    """Load the model that the order names, and answer calls until told to finish."""
    settings = orders.first.settings
    service = EncoderService(settings, load)
    info = (await service.batcher(orders.first.model)).info
    server = grpc.aio.server(interceptors=[Guard()], options=UNBOUNDED)
    encoder_grpc.add_EncoderServiceServicer_to_server(service, server)
    server.add_insecure_port(orders.first.address)
    await server.start()
    orders.ready(EncoderReady(key=info.key, dimension=info.dimension))
    async for _ in orders:
        pass
    if orders.orphaned:
        await asyncio.sleep(_LAST_CALLS_S)
    await server.stop(settings.server.drain_s)
    await service.close()


def load_configured(name: str, settings: Settings) -> Embedder:
    """Load a model with the precision, device and threads of the settings."""
    return load_embedder(name, settings.model.computing)


if __name__ == "__main__":
    run_child(StartEncoder, lambda orders: serve_encoder(orders, load_configured))
