// node receive.mjs http://127.0.0.1:8080 '[{"prompt": "a sea", "pipeline": "int8"}]' [msgpack|protobuf]
//
// Prints the header, the verified map, and the floats and colours of the first frame for each request, one JSON object
// per line.

import { fetchLatentRgb, fetchMap, generate, latentToRgb } from "codec-latents";

const [server, requests, wireFormat] = process.argv.slice(2);
const matrix = await fetchLatentRgb(server);
for (const request of JSON.parse(requests)) {
  const stream = await generate(server, request, { wireFormat });
  const { latentMap, hash } = await fetchMap(server, { hash: stream.mapHash });
  const frames = [];
  for await (const latents of stream) frames.push(latents);
  const { shape, pipeline } = stream.header;
  const values = Buffer.from(frames[0].values.buffer).toString("base64");
  const colours = [...latentToRgb(frames[0], matrix).data];
  const found = { shape, pipeline: pipeline.name, map: [latentMap.id, hash], seed: String(stream.seed) };
  console.log(JSON.stringify({ ...found, frames: frames.length, values, colours }));
}
