"""A method of LatentService: checks, reception of the request, conversion of exceptions to statuses, and telemetry."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, closing
from typing import Any

from grpc import StatusCode
from grpc.aio import AbortError, InternalError

from codec_grpc.call import peer_address, trailing_metadata
from codec_grpc.errors import set_status, status_code
from codec_grpc.received_messages import MessageReader, discard, receive_message, receive_messages
from codec_grpc.receptions import MAX_REQUEST_BYTES, SMALL_BYTES, Receptions, end_reception
from codec_wire.codings import IDENTITY
from codec_wire.errors import CodecError
from codec_wire.grpc import REQUEST_ID_KEY
from codec_wire.trace_context import TRACEPARENT_HEADER
from core.api_keys import ApiKeys
from core.engine import client_disconnected, deadline_exceeded
from core.request_record import RequestRecord
from core.service import LatentService

log = logging.getLogger(__name__)

PUBLIC_METHODS = ("GetServerInfo", "GetLatentMap")
"""Names of the discovery methods, which require no API key.

Neither the gRPC server nor the HTTP server requires an API key for discovery.
"""

Handler = Callable[[Any, Any], Awaitable[Any]]


class ServiceMethod:
    """A method of LatentService.

    `behaviour` is the implementation, which is called with the parsed request and the context of the call. `parse`
    parses a request message. If `streams` is true, the client sends a stream of messages. `receptions` limits the
    messages that are received at the same time, and `refused_receptions` limits those of refused calls. `api_keys` are
    the accepted keys, or None if no key is required.
    """

    def __init__(
        self,
        name: str,
        behaviour: Handler,
        parse: Callable[[bytes], Any],
        *,
        streams: bool,
        service: LatentService,
        api_keys: ApiKeys | None,
        receptions: Receptions,
        refused_receptions: Receptions,
    ) -> None:
        self._name = name
        self._operation = None if name in PUBLIC_METHODS else name.lower()
        self._behaviour = behaviour
        self._parse = parse
        self._streams = streams
        self._service = service
        self._api_keys = None if name in PUBLIC_METHODS else api_keys
        self._receptions = receptions
        self._refused_receptions = refused_receptions
        self._max_bytes = SMALL_BYTES if name in PUBLIC_METHODS else MAX_REQUEST_BYTES

    async def call(self, _: Any, context: Any) -> Any:
        """Handle a call. Errors end the call with a status, and the call is reported to the telemetry."""
        metadata = dict(context.invocation_metadata() or ())
        record = self._service.telemetry.begin(
            "grpc",
            self._name,
            self._operation,
            request_id=_text(metadata.get(REQUEST_ID_KEY)),
            traceparent=_text(metadata.get(TRACEPARENT_HEADER)),
        )
        record.coding = IDENTITY
        record.peer = peer_address(context.peer())
        record.status = StatusCode.OK.name
        try:
            response = await self._respond(metadata, record, context)
            if response is not None:
                record.bytes_out += response.ByteSize()
            context.set_trailing_metadata(trailing_metadata(record))
        except (asyncio.CancelledError, InternalError):
            # InternalError: a message could not be sent. grpc.aio raises it instead of CancelledError if the client
            # disconnects while the message waits for the client to read.
            remaining = context.time_remaining()
            is_late = remaining is not None and remaining <= 0
            error: CodecError = deadline_exceeded() if is_late else client_disconnected()
            record.status = status_code(error).name
            record.fail(error)
            raise asyncio.CancelledError from None  # grpc.aio would log the traceback of an InternalError
        except AbortError:
            raise
        except Exception as error:
            record.fail(error)
            if not isinstance(error, CodecError):  # the log line contains the message of a CodecError
                log.exception("%s failed", self._name)
            record.status = set_status(context, error, trailing_metadata(record)).name
            return None
        else:
            return response
        finally:
            end_reception()
            self._service.telemetry.end(record)

    async def _respond(self, metadata: dict[str, Any], record: RequestRecord, context: Any) -> Any:
        """Receive the request and return what the implementation of the method returns."""
        if self._streams:
            return await self._respond_to_stream(metadata, record, context)
        await self._check(metadata, record)
        # The request is not stored in a variable here, so that its memory is free after the implementation deletes it.
        return await self._behaviour(
            await receive_message(context, self._receptions, record.client, self._parse, max_bytes=self._max_bytes),
            context,
        )

    async def _respond_to_stream(self, metadata: dict[str, Any], record: RequestRecord, context: Any) -> Any:
        with closing(MessageReader(context)) as reader:
            try:
                await self._check(metadata, record)
                async with aclosing(self._messages(reader, self._receptions, record.client)) as messages:
                    return await self._behaviour(messages, context)
            except CodecError:
                async with aclosing(self._messages(reader, self._refused_receptions, record.client)) as messages:
                    await discard(messages)
                raise

    async def _check(self, metadata: dict[str, Any], record: RequestRecord) -> None:
        """Check the API key and admission before a message is received."""
        if self._api_keys is not None:
            record.key_name = self._api_keys.authenticate(metadata.get("authorization"))
        if self._operation is not None:
            await self._service.require_place(record.client)

    def _messages(self, reader: MessageReader, receptions: Receptions, client: str) -> AsyncGenerator[Any, None]:
        return receive_messages(reader, receptions, client, self._parse, max_bytes=self._max_bytes)


def _text(value: str | bytes | None) -> str | None:
    return value if isinstance(value, str) else None
