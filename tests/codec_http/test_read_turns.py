"""Turns of clients that send large bodies, and the pieces in which bodies are stored."""

import asyncio
import base64
import io
import json
from dataclasses import dataclass, replace

import pytest

from codec_http.body_receiver import Body
from codec_http.connection import Connection
from codec_http.read_turns import LARGE_PIECE_BYTES, MAX_PIECE_BYTES, ReadTurns
from codec_wire.latents import Modality
from core.model import GenerationMode
from core.probe import sample_image
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, JSON, LATENTS, request_head
from tests.support.serving import MODEL, run_servers

IMAGE_MODEL = replace(MODEL, modes=(GenerationMode(Modality.IMAGE), GenerationMode(Modality.IMAGE, image=True)))
UPLOADS, UPLOAD_BYTES = 10, 2 * 1024 * 1024
IMAGE = base64.b64encode(sample_image(0) + bytes(UPLOAD_BYTES)).decode()  # decoders ignore bytes after its end
BODY = json.dumps(LATENTS | {"image": IMAGE}).encode()


@dataclass
class Loop:
    """The number of the current iteration of the event loop."""

    iteration: int = 0


class CountedReader:
    """A reader that records the iteration of the event loop in which its turn comes, and waits for another turn."""

    def __init__(self, turns: ReadTurns, loop: Loop, num_turns: int) -> None:
        self._turns = turns
        self._loop = loop
        self._num_turns = num_turns
        self.iterations: list[int] = []

    def resume_turn(self) -> None:
        self.iterations.append(self._loop.iteration)
        self._num_turns -= 1
        if self._num_turns:
            self._turns.wait(self)


async def test_one_connection_has_its_turn_in_each_iteration_of_the_event_loop() -> None:
    turns, loop = ReadTurns(asyncio.get_running_loop()), Loop()
    readers = [CountedReader(turns, loop, num_turns=3) for _ in range(3)]
    for reader in readers:
        turns.wait(reader)
    for _ in range(20):
        loop.iteration += 1
        await asyncio.sleep(0)
    first = readers[0].iterations[0]
    for index, reader in enumerate(readers):
        assert reader.iterations == [first + index + 3 * turn for turn in range(3)]


async def test_clients_that_send_large_bodies_do_not_hold_up_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    received = Connection.data_received

    def data_received(self: Connection, data: bytes) -> None:
        received(self, data)
        sizes.append(len(data))
        if len(data) >= LARGE_PIECE_BYTES:
            assert self.transport is not None
            assert not self.transport.is_reading()

    monkeypatch.setattr(Connection, "data_received", data_received)
    async with run_servers(FakeEngine(free_running=True), IMAGE_MODEL) as servers:

        async def upload() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", servers.http_port)
            writer.write(request_head(IMAGES, len(BODY)) + BODY)
            status = await reader.readline()
            writer.close()
            return status

        async with asyncio.timeout(60):
            uploads = asyncio.gather(*(upload() for _ in range(UPLOADS)))
            while not uploads.done():
                assert (await servers.http.get("/livez")).status == 200
        assert await uploads == [b"HTTP/1.1 200 OK\r\n"] * UPLOADS
    assert LARGE_PIECE_BYTES <= max(sizes) <= MAX_PIECE_BYTES
    assert sum(sizes) > UPLOADS * UPLOAD_BYTES


async def test_client_that_pauses_does_not_hold_up_others_and_may_continue() -> None:
    async with run_servers(FakeEngine(free_running=True), IMAGE_MODEL) as servers, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", servers.http_port)
        writer.write(request_head(IMAGES, len(BODY)) + BODY[:-1])
        await writer.drain()
        response = await servers.http.post(IMAGES, data=io.BytesIO(BODY), headers=JSON)
        assert response.status == 200
        writer.write(BODY[-1:])
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()


@pytest.mark.parametrize("piece", [1, 1000, MAX_PIECE_BYTES, 3 * MAX_PIECE_BYTES])
def test_body_is_stored_in_few_pieces_and_returned_whole(piece: int) -> None:
    data = bytes(range(256)) * 1024
    body = Body()
    for start in range(0, len(data), piece):
        body.append(data[start : start + piece])
    assert body.size == len(data)
    assert len(body._pieces) <= 2 * len(data) // MAX_PIECE_BYTES
    assert body.take() == data
    assert not body._pieces
