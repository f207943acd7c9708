// node over_http.mjs http://127.0.0.1:8080 '{"prompt": "a sea", "pipeline": "int8", "size": "64x64"}' [msgpack|protobuf]
//
// Prints the header and each frame's values as one line of JSON. "modality": "video-latents" asks for a video.

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
  // fetch undoes br and gzip by itself; zstd needs the latent-space map's dictionary, which this program does not hold.
  headers: { "Content-Type": "application/json", "Accept": `application/x-codec-${format}`, "Accept-Encoding": "br, gzip" },
  body: JSON.stringify(body),
});
if (!response.ok) {
  console.error(`${response.status}: ${(await response.json()).error.message}`);
  process.exit(1);
}

/** The messages of a protobuf body: each has its length before it, 4 bytes, big-endian. */
async function* prefixed(stream) {
  const types = messageTypes(path.dirname(fileURLToPath(import.meta.url)));
  let held = Buffer.alloc(0);
  let type = types.header;
  for await (const chunk of stream) {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
      const end = 4 + held.readUInt32BE(0);
      yield type(held.subarray(4, end));
      type = types.frame;
      held = held.subarray(end);
    }
  }
}

let decoder = null;
for await (const message of format === "msgpack" ? decodeMultiStream(response.body) : prefixed(response.body)) {
  if (decoder === null) {
    decoder = new LatentDecoder(message);
    const { latent_space_id, shape, dtype, pipeline } = message;
    console.log(JSON.stringify({ latent_space_id, shape, dtype, pipeline, map: response.headers.get("codec-latent-map") }));
    continue;
  }
  console.log(JSON.stringify({ seq: message.seq, values: Array.from(decoder.decode(message)) }));
}
decoder.close();
