import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";

import { fetchDictionary, type DictionarySelection, fetchLatentRgb, fetchMap } from "../src/index.js";
import { withServer } from "./http-server.js";

const MAP = { id: "a/b", version: "1", shape: [4, 8, 8], dtype: "fp16", vae_scale_factor: 0.18, pipelines: [{ name: "raw" }] };
const DOCUMENT = JSON.stringify(MAP);
const HASH = hashOf(DOCUMENT);
const RGB = { latent_space: "a/b", matrix: [[1, 0, 0]], bias: [0, 0, 0] };
const PATH = "/.well-known/codec/latents/a/b.json";

function hashOf(document: string): string {
  return `sha256:${createHash("sha256").update(document).digest("hex")}`;
}

/** Run `use` with the address of a server that publishes `entry` in its index, and these files. */
function publishing<T>(entry: object | null, files: Record<string, string>, use: (address: string) => Promise<T>) {
  const index = JSON.stringify({ latents: entry && [{ id: "a/b", url: PATH, hash: HASH, rgb_url: "/rgb.json", ...entry }] });
  const all: Record<string, string> = { "/.well-known/codec/index.json": index, ...files };
  return withServer(({ path }, response) => {
    response.writeHead(path in all ? 200 : 404).end(all[path]);
  }, use);
}

describe("a latent-space map", () => {
  it.each([PATH, `http://elsewhere.example${PATH}`])("is downloaded from %s and its hash is verified", async (url) => {
    const found = await publishing({ url }, { [PATH]: DOCUMENT }, (address) => fetchMap(address, { hash: HASH }));
    expect(found).toEqual({ latentMap: MAP, hash: HASH });
  });

  it.each([
    ["has another hash", {}, { [PATH]: `${DOCUMENT} ` }, "expected sha256:"],
    ["is missing", {}, {}, "HTTP status 404"],
    ["is of another origin", { url: "http://elsewhere.example/map.json" }, {}, "another origin"],
    ["has an invalid URL", { url: "http://[" }, {}, "invalid URL"],
    ["is too large", {}, { [PATH]: " ".repeat(2 ** 20 + 1) }, "is larger than"],
    ["is not JSON", { hash: hashOf("{") }, { [PATH]: "{" }, "is not JSON"],
    ["has an invalid key", { hash: hashOf("{}") }, { [PATH]: "{}" }, "invalid id"],
    ["has a hash of another form", { hash: "sha256:1" }, {}, "64 hex"],
    ["is not in the index", null, {}, "is not an index"],
    ["is of another latent space", { id: "c/d" }, {}, "does not publish"],
  ])("that %s is refused", async (_, entry, files, message) => {
    const found = publishing(entry, files, (address) => fetchMap(address, { latentSpace: "a/b" }));
    await expect(found).rejects.toMatchObject({ name: "InvalidMap", message: expect.stringContaining(message) });
  });

  it("is not downloaded if the signal is aborted", async () => {
    const found = publishing({}, {}, (address) => fetchMap(address, { signal: AbortSignal.abort() }));
    await expect(found).rejects.toMatchObject({ name: "AbortError" });
  });
});

describe("a latent-to-RGB matrix", () => {
  it("is downloaded", async () => {
    const files = { "/rgb.json": JSON.stringify(RGB) };
    expect(await publishing({}, files, (address) => fetchLatentRgb(address))).toEqual(RGB);
  });

  it.each([
    ["is not published", { rgb_url: null }, {}, "NotFound"],
    ["is of another latent space", { id: "c/d" }, {}, "NotFound"],
    ["is not a matrix", {}, { "/rgb.json": "[]" }, "InvalidMap"],
  ])("that %s is an error", async (_, entry, files, name) => {
    const found = publishing(entry, files, (address) => fetchLatentRgb(address, { latentSpace: "a/b" }));
    await expect(found).rejects.toMatchObject({ name });
  });
});

describe("a zstd dictionary", () => {
  const FILE = "dictionary";
  const ENTRY = { format: "protobuf", pipeline: "int8", url: "http://elsewhere.example/.well-known/codec/dicts/1.zstd" };

  function fetched(changes: object, selection: Partial<DictionarySelection> = {}): Promise<unknown> {
    const document = JSON.stringify({ ...MAP, zstd_dictionaries: [{ ...ENTRY, hash: hashOf(FILE), ...changes }] });
    const files = { [PATH]: document, "/.well-known/codec/dicts/1.zstd": FILE };
    const all = { pipeline: "int8", wireFormat: "protobuf", ...selection } as const;
    return publishing({ hash: hashOf(document) }, files, (address) => fetchDictionary(address, all));
  }

  it("is selected by pipeline and wire format, and its hash is verified", async () => {
    expect(await fetched({})).toEqual({ hash: hashOf(FILE), data: new TextEncoder().encode(FILE) });
  });

  it.each([
    ["has another hash", { hash: hashOf("other") }, {}, "InvalidMap"],
    ["is of another origin", { url: "http://elsewhere.example/1.zstd" }, {}, "InvalidMap"],
    ["has no URL", { url: null }, {}, "InvalidMap"],
    ["is for another pipeline", {}, { pipeline: "int4" }, "NotFound"],
    ["is for another wire format", {}, { wireFormat: "msgpack" as const }, "NotFound"],
    ["is of another map", {}, { hash: HASH }, "InvalidMap"],
  ])("that %s is refused", async (_, changes, selection, name) => {
    await expect(fetched(changes, selection)).rejects.toMatchObject({ name });
  });
});
