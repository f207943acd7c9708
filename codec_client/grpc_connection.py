"""Connection to one gRPC server. Errors of gRPC are raised as CodecErrors."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
from grpc import StatusCode

from codec_client.errors import ServerUnreachable, UnexpectedAnswer
from codec_client.tls import require_pair, tls_context
from codec_wire.errors import Cancelled, CodecError, DeadlineExceeded, InvalidSettings
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.grpc import CHANNEL_OPTIONS, error_from_status

if TYPE_CHECKING:  # the asyncio stub class exists only for the type checker
    from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceAsyncStub


class GrpcConnection:
    """A connection to the server at `address`, HOST:PORT. The connection is opened on first use.

    Without `credentials`, the connection is not encrypted. `timeout_s` is only used in error messages.
    """

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None, timeout_s: float) -> None:
        self._address = address
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._channel: grpc.aio.Channel | None = None

    @property
    def stub(self) -> "LatentServiceAsyncStub":
        """The gRPC stub with the methods of the server."""
        if self._channel is None:
            self._channel = (
                grpc.aio.secure_channel(self._address, self._credentials, CHANNEL_OPTIONS)
                if self._credentials is not None
                else grpc.aio.insecure_channel(self._address, CHANNEL_OPTIONS)
            )
        return LatentServiceStub(self._channel)

    async def messages(self, call: Any, on_metadata: Callable[[Mapping[str, Any]], None]) -> AsyncGenerator[Any, None]:
        """Call `on_metadata` with the initial metadata of a call, then yield the messages of the call.

        The metadata are empty if the server rejected the call. Closing the generator cancels the call.
        """
        try:
            on_metadata(dict(await call.initial_metadata() or ()))
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise self.to_codec_error(error) from None
        except asyncio.CancelledError:
            # grpc.aio raises CancelledError both if this task is cancelled and if the call is (the client was closed).
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Cancelled("the request was cancelled, because the client was closed") from None
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the connection and cancel the calls that are still running."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def to_codec_error(self, error: grpc.aio.AioRpcError) -> CodecError:
        """Return the CodecError that the server reported, or else a CodecError that matches the status of the call."""
        code, details = error.code(), error.details() or ""
        reported = error_from_status(error.trailing_metadata() or (), code.value[0], details)
        if reported is not None:
            return reported
        if code is StatusCode.UNAVAILABLE:
            return self._unavailable(details)
        if code is StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"the request did not finish within {self._timeout_s:g} s")
        if code is StatusCode.CANCELLED:
            return Cancelled("the call was cancelled")
        if code is StatusCode.INTERNAL:
            return CodecError(details)
        return UnexpectedAnswer(f"{self._address} returned the gRPC status {code.name}: {details}")

    def _unavailable(self, details: str) -> CodecError:
        if "Failed parsing HTTP/2" in details:
            return UnexpectedAnswer(f"{self._address} is not a gRPC server; is it the HTTP port?")
        return ServerUnreachable(f"cannot connect to {self._address}: {_last_reason(details)}")


def channel_credentials(
    *,
    tls: bool,
    ca_file: str | os.PathLike[str] | None,
    cert_file: str | os.PathLike[str] | None,
    key_file: str | os.PathLike[str] | None,
) -> grpc.ChannelCredentials | None:
    """Return the credentials for a connection with TLS, or None for a connection without TLS.

    If a PEM file is given, the connection uses TLS even if `tls` is false. Raises InvalidSettings if a PEM file cannot
    be read or is not a PEM file, or if only one of `cert_file` and `key_file` is given.
    """
    require_pair(cert_file, key_file)
    if not tls and ca_file is None and cert_file is None:
        return None
    tls_context(ca_file, cert_file, key_file)  # gRPC reports an invalid PEM file only as a failed connection
    return grpc.ssl_channel_credentials(
        _read_pem("ca_file", ca_file), _read_pem("key_file", key_file), _read_pem("cert_file", cert_file)
    )


def _read_pem(name: str, path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidSettings(f"cannot read {name} {os.fspath(path)}: {error.strerror}") from None


def _last_reason(details: str) -> str:
    """Return the last reason in gRPC's chain of connection errors, for example "Connection refused"."""
    return details.rpartition("; last error: ")[2].rpartition(": ")[2].strip(" )]") or "the connection failed"
