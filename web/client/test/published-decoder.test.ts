import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";

import { type DecoderSelection, fetchDecoder } from "../src/index.js";
import { withServer } from "./http-server.js";

const FILE = "weights";
const HASH = `sha256:${createHash("sha256").update(FILE).digest("hex")}`;
const PATH = `/.well-known/codec/decoders/${HASH.slice(7)}.onnx`;
const MODEL = { model: "m", model_aliases: ["alias"], latent_space_id: "a/b", latent_map_sha256: "sha256:1" };

/** Fetch a decoder from a server with one model whose decoder has the attributes `entry`. */
function fetched(entry: object, selection: DecoderSelection = {}, file = FILE): Promise<unknown> {
  const decoders = [{ family: "onnx", url: `http://elsewhere.example${PATH}`, hash: HASH, ...entry }];
  const files: Record<string, string> = {
    "/codec/info": JSON.stringify({ models: [{ ...MODEL, model: "other", decoders: [] }, { ...MODEL, decoders }] }),
    [PATH]: file,
  };
  return withServer(
    ({ path }, response) => response.writeHead(path in files ? 200 : 404).end(files[path]),
    (address) => fetchDecoder(address, selection),
  );
}

describe("a decoder", () => {
  it.each([{}, { latentSpace: "a/b" }, { model: "m" }, { model: "alias", latentSpace: "a/b" }])(
    "is selected by %j and its hash is verified",
    async (selection) => {
      const data = Uint8Array.from(Buffer.from(FILE));
      expect(await fetched({}, selection)).toEqual({ family: "onnx", hash: HASH, mapHash: "sha256:1", data });
    },
  );

  it.each([
    ["has another hash", {}, {}, "other", "InvalidMap"],
    ["is of another origin", { url: "http://elsewhere.example/decoder" }, {}, FILE, "InvalidMap"],
    ["is of another latent space", {}, { latentSpace: "c/d" }, FILE, "NotFound"],
    ["is of another model", {}, { model: "another" }, FILE, "NotFound"],
    ["has another family", { family: "torch" }, {}, FILE, "NotFound"],
  ])("that %s is refused", async (_, entry, selection, file, name) => {
    await expect(fetched(entry, selection, file)).rejects.toMatchObject({ name });
  });
});
