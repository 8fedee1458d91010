"""The encoder in another process: workers encode without a model of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence

import grpc
import numpy as np
from related_news.internal.v1 import encoder_service_pb2 as encoder_pb
from related_news.internal.v1 import encoder_service_pb2_grpc as encoder_grpc

from recommender.encoding.embedder import Matrix, ModelInfo
from recommender.errors import DeadlineError, MismatchError, OverloadError, RelatedNewsError, UnavailableError

TEXTS_PER_CALL = 256
"""Most texts of one call; `encode` makes as many calls as it needs."""
UNBOUNDED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
"""gRPC options of both sides: no limit on message sizes, which the service checks where requests come in."""
_RETRIES = (
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [{"service": "related_news.internal.v1.EncoderService"}],
                        "retryPolicy": {
                            "maxAttempts": 5,
                            "initialBackoff": "0.1s",
                            "maxBackoff": "1s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE"],
                        },
                    }
                ]
            }
        ),
    ),
)
"""gRPC options of a worker's channel: a call that was lost with its encoder is retried. Encoding twice does no harm."""
_LOADING_S = 300.0
"""Longest wait for an encoder to listen and load a model."""
_ENCODING_S = 60.0
"""Longest wait for one call that is not urgent. The wait of an urgent one is limited by the deadline of its caller."""


class RemoteEncoder:
    """An Encoder in another process. It waits while that process is being restarted."""

    def __init__(self, channel: grpc.aio.Channel, info: ModelInfo) -> None:
        """Get vectors of the model `info` through `channel`, which `close` closes."""
        self._channel = channel
        self._stub: encoder_grpc.EncoderServiceAsyncStub = encoder_grpc.EncoderServiceStub(channel)
        self._info = info

    @property
    def info(self) -> ModelInfo:
        """Identify the model."""
        return self._info

    async def encode(self, texts: Sequence[str], *, urgent: bool = True) -> Matrix:
        """Return float32 (len(texts), dimension), rows normalised to length 1, in the order of `texts`.

        urgent: before all texts that are not; the caller limits the wait. Raises DeadlineError if a call that is not
        urgent takes a minute, UnavailableError if the encoder broke down meanwhile.
        """
        limit_s = None if urgent else _ENCODING_S
        parts = [np.empty((0, self._info.dimension), np.float32)]
        for start in range(0, len(texts), TEXTS_PER_CALL):
            request = encoder_pb.EncodeRequest(
                model_key=self._info.key, texts=texts[start : start + TEXTS_PER_CALL], urgent=urgent
            )
            try:
                answer = await self._stub.Encode(request, timeout=limit_s, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                raise _own_error(error) from None
            parts.append(np.frombuffer(answer.vectors, "<f4").reshape(-1, self._info.dimension))
        return np.concatenate(parts[1:]) if len(parts) > 2 else parts[-1]

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


async def connect_encoder(address: str, model: str, timeout_s: float = _LOADING_S) -> RemoteEncoder:
    """Return the encoder for `model` in the process at `address`, which loads the model if it has not yet.

    Raises UnavailableError if nobody answers there, MismatchError if there is no such model.
    """
    channel = grpc.aio.insecure_channel(address, options=(*UNBOUNDED, *_RETRIES))
    stub: encoder_grpc.EncoderServiceAsyncStub = encoder_grpc.EncoderServiceStub(channel)
    try:
        answer = await stub.LoadModel(encoder_pb.LoadModelRequest(name=model), timeout=timeout_s, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        await channel.close()
        raise _own_error(error) from None
    return RemoteEncoder(channel, info_from(answer))


def info_from(answer: encoder_pb.LoadModelResponse) -> ModelInfo:
    """Return the model that the encoder's answer describes."""
    return ModelInfo(
        answer.name, answer.weights_sha256, answer.dimension, answer.max_tokens, frozenset(answer.languages)
    )


def _own_error(error: grpc.aio.AioRpcError) -> RelatedNewsError:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError("the text could not be encoded in time", fix="allow more time")
    if error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
        return MismatchError(f"the encoder refuses: {error.details()}")
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return OverloadError(error.details() or "the encoder has too much to do", fix="try again later")
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return UnavailableError("the encoder is being started again", fix="try again in a few seconds")
    return RelatedNewsError(f"the encoder failed: {error.details()}", fix="the service's log has more")
