"""Print the header and the values of each latent frame of one generation, one JSON object per line.

python stream.py http http://127.0.0.1:8080 '{"prompt": "a sea", "pipeline": "int8", "size": [64, 64]}'
python stream.py grpc 127.0.0.1:50051 '{"prompt": "a sea", "pipeline": "int8", "size": [64, 64]}'
"""

import asyncio
import json
import sys

from codec_client import GrpcClient, HttpClient
from codec_wire.errors import CodecError
from codec_wire.latents import Modality


async def main(protocol: str, address: str, fields: str) -> None:
    """Run one generation over `protocol` ("http" or "grpc"). `fields` is the request as JSON."""
    request = json.loads(fields)
    request["size"] = tuple(request["size"])
    request["modality"] = Modality(request.get("modality", Modality.IMAGE))
    client = HttpClient(address) if protocol == "http" else GrpcClient(address)
    async with client, client.stream(**request) as stream:
        header = stream.header
        print(json.dumps({"shape": header.shape, "pipeline": header.pipeline, "map": stream.map_hash}))
        seq = 0
        async for latents in stream:
            print(json.dumps({"seq": seq, "values": latents.ravel().tolist()}))
            seq += 1


try:
    asyncio.run(main(*sys.argv[1:]))
except CodecError as error:
    sys.exit(f"error: {error}")
