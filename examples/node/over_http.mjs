// node over_http.mjs http://127.0.0.1:8080 '{"prompt": "a sea", "pipeline": "int8", "size": "64x64"}' [msgpack|protobuf]
//
// Prints the header and the values of each frame, one JSON object per line. For a video, set "modality" to
// "video-latents".

import path from "node:path";
import { fileURLToPath } from "node:url";
import { decodeMultiStream } from "@msgpack/msgpack";
import { LatentDecoder } from "./latents.mjs";
import { messageTypes } from "./schema.mjs";

const [server, fields, format = "msgpack"] = process.argv.slice(2);
const body = { modality: "image-latents", ...JSON.parse(fields), stream_format: format };
const kind = body.modality === "video-latents" ? "videos" : "images";
const response = await fetch(`${server}/v1/${kind}/generations`, {
  method: "POST",
  // fetch decompresses br and gzip. zstd would need the dictionary of the latent-space map.
  headers: { "Content-Type": "application/json", "Accept": `application/x-codec-${format}`, "Accept-Encoding": "br, gzip" },
  body: JSON.stringify(body),
});
if (!response.ok) {
  console.error(`${response.status}: ${(await response.json()).error.message}`);
  process.exit(1);
}

/** Yields the messages of a protobuf body. Each is preceded by its length, 4 bytes, big-endian. */
async function* lengthPrefixed(stream) {
  const types = messageTypes(path.dirname(fileURLToPath(import.meta.url)));
  let buffer = Buffer.alloc(0);
  let type = types.header;
  for await (const chunk of stream) {
    buffer = Buffer.concat([buffer, chunk]);
    while (buffer.length >= 4 && buffer.length >= 4 + buffer.readUInt32BE(0)) {
      const end = 4 + buffer.readUInt32BE(0);
      yield type(buffer.subarray(4, end));
      type = types.frame;
      buffer = buffer.subarray(end);
    }
  }
}

let decoder = null;
for await (const message of format === "msgpack" ? decodeMultiStream(response.body) : lengthPrefixed(response.body)) {
  if (decoder === null) {
    decoder = new LatentDecoder(message);
    const { latent_space_id, shape, dtype, pipeline } = message;
    console.log(JSON.stringify({ latent_space_id, shape, dtype, pipeline, map: response.headers.get("codec-latent-map") }));
    continue;
  }
  console.log(JSON.stringify({ seq: message.seq, values: Array.from(decoder.decode(message)) }));
}
decoder.close();
