"""The encoder of another process: how workers encode without each having the model."""

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
UNBOUNDED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
"""Between our own processes sizes are bounded where requests come in."""
_AGAIN = (
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
"""A call that an encoder took with it when it died is made again, by gRPC: to encode twice does no harm."""
_LOADING_S = 300.0
_ENCODING_S = 60.0


class RemoteEncoder:
    """An Encoder in another process. Waits for one that is being started again."""

    def __init__(self, channel: grpc.aio.Channel, info: ModelInfo) -> None:
        """Ask for vectors of `info` through `channel`, which is closed by `close`."""
        self._channel = channel
        self._stub: encoder_grpc.EncoderServiceAsyncStub = encoder_grpc.EncoderServiceStub(channel)
        self._info = info

    @property
    def info(self) -> ModelInfo:
        """Identify the model."""
        return self._info

    async def encode(self, texts: Sequence[str], *, urgent: bool = True) -> Matrix:
        """Return float32 (len(texts), dimension), rows normalised to length 1, in the order of `texts`.

        urgent: before all texts that are not. Raises DeadlineError if a call takes a minute, UnavailableError if the
        encoder broke down meanwhile.
        """
        parts = [np.empty((0, self._info.dimension), np.float32)]
        for start in range(0, len(texts), TEXTS_PER_CALL):
            request = encoder_pb.EncodeRequest(
                model_key=self._info.key, texts=texts[start : start + TEXTS_PER_CALL], urgent=urgent
            )
            try:
                answer = await self._stub.Encode(request, timeout=_ENCODING_S, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                raise _ours(error) from None
            parts.append(np.frombuffer(answer.vectors, "<f4").reshape(-1, self._info.dimension))
        return np.concatenate(parts[1:]) if len(parts) > 2 else parts[-1]

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


async def connect_encoder(address: str, model: str, timeout_s: float = _LOADING_S) -> RemoteEncoder:
    """Return the encoder for `model` of the process at `address`, which loads it if it has not yet.

    Raises UnavailableError if nobody answers there, MismatchError if there is no such model.
    """
    channel = grpc.aio.insecure_channel(address, options=(*UNBOUNDED, *_AGAIN))
    stub: encoder_grpc.EncoderServiceAsyncStub = encoder_grpc.EncoderServiceStub(channel)
    try:
        answer = await stub.LoadModel(encoder_pb.LoadModelRequest(name=model), timeout=timeout_s, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        await channel.close()
        raise _ours(error) from None
    return RemoteEncoder(channel, info_from(answer))


def info_from(answer: encoder_pb.LoadModelResponse) -> ModelInfo:
    """Return a message's model."""
    return ModelInfo(
        answer.name, answer.weights_sha256, answer.dimension, answer.max_tokens, frozenset(answer.languages)
    )


def _ours(error: grpc.aio.AioRpcError) -> RelatedNewsError:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError("the text could not be encoded in time", fix="allow more time")
    if error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
        return MismatchError(f"the encoder refuses: {error.details()}")
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return OverloadError(error.details() or "the encoder has too much to do", fix="try again later")
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return UnavailableError("the encoder is being started again", fix="try again in a few seconds")
    return RelatedNewsError(f"the encoder failed: {error.details()}", fix="the service's log has more")
