"""The process that has the model: encodes for all workers of a service, their texts together.

Started by supervisor.py as `python -m recommender.processes.encoder`; see child.py for how the two talk.
"""

from __future__ import annotations

import asyncio
import logging
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
from recommender.rpc.interceptor import Guard

log = logging.getLogger(__name__)

MODELS_MAX = 3
"""Models held at once: the active one, and those of a switch there and back; the one not used longest makes way."""

_LAST_CALLS_S = 1.0
"""Workers that lose their supervisor at the same moment finish the calls that they have begun, and need this one."""

Load = Callable[[str, Settings], Embedder]
Context = grpc.aio.ServicerContext[Any, Any]


class EncoderService(encoder_grpc.EncoderServiceServicer):
    """Loads models and encodes by them."""

    def __init__(self, settings: Settings, load: Load) -> None:
        """load: makes an encoder of a model's name."""
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
        batcher = await self._of_key(request.model_key)
        vectors = await batcher.encode(list(request.texts), urgent=request.urgent)
        return encoder_pb.EncodeResponse(vectors=vectors.astype("<f4", copy=False).tobytes())

    async def batcher(self, name: str) -> Batcher:
        """Return the batcher of a model, which is loaded if it was not; the one not used longest makes way for it."""
        if name not in self._by_name:  # a model that is here does not wait for one that is being loaded
            await self._load_one(name)
        self._by_name.move_to_end(name)
        return self._by_name[name]

    async def _load_one(self, name: str) -> None:
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

    async def _of_key(self, key: str) -> Batcher:
        """Return the batcher of a model by its key. An encoder that was started again may not have it yet."""
        found = await self.batcher(model_of(key))
        if found.info.key != key:
            raise MismatchError(f"the model is {found.info.key} now, not {key}", fix="run `related-news reindex`")
        return found


async def serve_encoder(orders: Orders, load: Load) -> None:
    """Listen where the first order says, with the model that it names; until told to stop."""
    settings = Settings.model_validate(orders.first["settings"])
    service = EncoderService(settings, load)
    info = (await service.batcher(orders.first["model"])).info
    server = grpc.aio.server(interceptors=[Guard()], options=UNBOUNDED)
    encoder_grpc.add_EncoderServiceServicer_to_server(service, server)
    server.add_insecure_port(orders.first["address"])
    await server.start()
    orders.ready({"dimension": info.dimension, "key": info.key})
    async for _ in orders:
        pass
    if orders.orphaned:
        await asyncio.sleep(_LAST_CALLS_S)
    await server.stop(settings.server.drain_s)
    await service.close()


def load_configured(name: str, settings: Settings) -> Embedder:
    """Load a model as the settings say."""
    return load_embedder(name, settings.model.computing)


if __name__ == "__main__":
    run_child(lambda orders: serve_encoder(orders, load_configured))
