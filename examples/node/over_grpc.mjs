// node over_grpc.mjs 127.0.0.1:50051 '{"prompt": "a sea", "pipeline": "int8", "size": {"width": 64, "height": 64}}'
//
// Prints the header and the values of each frame, one JSON object per line. For a video, set "modality" to
// "MODALITY_VIDEO_LATENTS".

import path from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { LatentDecoder } from "./latents.mjs";
import { serviceClient } from "./schema.mjs";

const [address, fields] = process.argv.slice(2);
const LatentService = serviceClient(path.dirname(fileURLToPath(import.meta.url)));
const client = new LatentService(address, grpc.credentials.createInsecure(), {
  "grpc.max_receive_message_length": 256 * 1024 * 1024, // the client's default is 4 MiB
});

const call = client.Generate(JSON.parse(fields));
let map = null;
call.on("metadata", (metadata) => { [map = null] = metadata.get("codec-latent-map"); });
let decoder = null;
try {
  for await (const message of call) {
    if (message.header) {
      decoder = new LatentDecoder(message.header);
      const { latent_space_id, shape, dtype, pipeline } = message.header;
      console.log(JSON.stringify({ latent_space_id, shape, dtype, pipeline, map }));
    } else if (message.frame) {
      console.log(JSON.stringify({ seq: message.frame.seq, values: Array.from(decoder.decode(message.frame)) }));
    }
  }
  decoder.close();
} catch (error) {
  console.error(error.details ?? error.message);
  process.exitCode = 1;
} finally {
  client.close();
}
