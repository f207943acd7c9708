// Loads the .proto files from proto/ in the repository, or from PROTO_DIR.

import path from "node:path";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const OPTIONS = { keepCase: true, longs: Number, enums: String, defaults: false };

function load(here) {
  const root = process.env.PROTO_DIR ?? path.join(here, "../../proto");
  return protoLoader.loadSync("codec/latents/v1/latent_service.proto", { ...OPTIONS, includeDirs: [root] });
}

/** Returns the client class of LatentService. */
export function serviceClient(here) {
  return grpc.loadPackageDefinition(load(here)).codec.latents.v1.LatentService;
}

/**
 * Returns functions that parse the two messages of a stream from their bytes.
 *
 * proto-loader provides parsers for methods only, so this uses the one for the response of Generate.
 */
export function messageTypes(here) {
  const generate = load(here)["codec.latents.v1.LatentService"].Generate;
  // The message is field 1 (header) or 2 (frame) of GenerateResponse: prepend its tag and length.
  const parserFor = (field, name) => (bytes) =>
    generate.responseDeserialize(Buffer.concat([Buffer.from([(field << 3) | 2, ...varint(bytes.length)]), bytes]))[name];
  return { header: parserFor(1, "header"), frame: parserFor(2, "frame") };
}

function varint(number) {
  const bytes = [];
  for (; number > 127; number >>>= 7) bytes.push((number & 127) | 128);
  return [...bytes, number];
}
