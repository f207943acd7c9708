import { describe, expect, it } from "vitest";

import { LatentStreamDecoder } from "../src/index.js";
import { body, Float, FRAME, FRAME_FIELDS, framed, HEADER_FIELDS, pack } from "./bodies.js";
import { chunksOf, concat, decode, thrownBy } from "./streams.js";

const ONE = Uint8Array.of(0, 0x3c);
const MALFORMED = "MalformedMessage";
const [SPACE, SHAPE, DTYPE, PIPELINE] = HEADER_FIELDS;
const [DATA, SEQ, KEYFRAME, DONE, REASON] = FRAME_FIELDS;
const HEADER = framed(...HEADER_FIELDS);

describe("a valid stream", () => {
  it.each([
    ["msgpack", body({}, {})],
    ["msgpack with a finish reason", body({}, { finish_reason: "ok" })],
    ["msgpack with all optional fields", body({ fps: 24, total_frames: 1, vae_scale_factor: new Float(0.18) }, {})],
    ["msgpack with an integer as scale factor", body({ vae_scale_factor: 1 }, {})],
    ["protobuf", concat(HEADER, framed(...FRAME_FIELDS))],
    ["protobuf with an absent seq", concat(HEADER, framed(DATA, KEYFRAME, DONE))],
  ])("%s is accepted", (_, stream) => {
    expect(decode([stream]).map(({ values }) => Array.from(values))).toEqual([[0, 0]]);
  });

  it("has its header as soon as the header is complete", () => {
    const decoder = new LatentStreamDecoder();
    expect([...decoder.feed(body({ fps: 24, total_frames: 2, vae_scale_factor: new Float(0.5) }))]).toEqual([]);
    expect(decoder.header).toMatchObject({
      ...{ latentSpaceId: "a/b", shape: [1, 2], dtype: "fp16", scales: null },
      ...{ fps: 24, totalFrames: 2, vaeScaleFactor: 0.5 },
    });
    expect(decoder.header?.pipeline.name).toBe("raw");
  });

  it("may end early with another reason than ok", () => {
    expect(decode([body({ total_frames: 3 }, { finish_reason: "stop" })])).toHaveLength(1);
  });

  it("returns frames that were not consumed with the next chunk", () => {
    const decoder = new LatentStreamDecoder();
    decoder.feed(body({}, {}));
    expect([...decoder.feed(new Uint8Array(0))]).toHaveLength(1);
    decoder.close();
    expect(decoder.frames).toBe(1);
  });
});

describe("an invalid msgpack message", () => {
  it.each([
    ["an empty latent space", MALFORMED, body({ latent_space_id: "" }, {})],
    ["one dimension", MALFORMED, body({ shape: [4] }, {})],
    ["a dimension of 0", MALFORMED, body({ shape: [4, 0] }, {})],
    ["too many values", MALFORMED, body({ shape: [2 ** 31, 2 ** 31] }, {})],
    ["a boolean dimension", MALFORMED, body({ shape: [true, 2] }, {})],
    ["bf16", MALFORMED, body({ dtype: "bf16" }, {})],
    ["an unknown pipeline", MALFORMED, body({ pipeline: "int2" }, {})],
    ["scales that are not allowed", MALFORMED, body({ scales: ONE }, {})],
    ["missing scales", MALFORMED, body({ pipeline: "int8" }, {})],
    ["too many scales", MALFORMED, body({ pipeline: "int8", scales: concat(ONE, ONE) }, {})],
    ["an infinite scale", MALFORMED, body({ pipeline: "int8", scales: Uint8Array.of(0, 0x7c) }, {})],
    ["a negative scale", MALFORMED, body({ pipeline: "int8", scales: Uint8Array.of(0, 0xbc) }, {})],
    ["fps of 0", MALFORMED, body({ fps: 0 }, {})],
    ["fps as a float", MALFORMED, body({ fps: new Float(24) }, {})],
    ["a negative number of frames", MALFORMED, body({ total_frames: -1 }, {})],
    ["a scale factor of NaN", MALFORMED, body({ vae_scale_factor: new Float(NaN) }, {})],
    ["null", MALFORMED, body({ fps: null }, {})],
    ["an unknown key", MALFORMED, body({ other: 1 }, {})],
    ["another type", MALFORMED, body({ type: "frame" }, {})],
    ["a frame without a header", MALFORMED, pack(FRAME)],
    ["a second header", MALFORMED, concat(body({}), body({}))],
    ["a seq that is a float", MALFORMED, body({}, { seq: new Float(0) })],
    ["a negative seq", MALFORMED, body({}, { seq: -1 })],
    ["data that is a string", MALFORMED, body({}, { data: "1234" })],
    ["an unknown finish reason", MALFORMED, body({}, { finish_reason: "done" })],
    ["a finish reason before the end", MALFORMED, body({}, { done: false, finish_reason: "ok" })],
    ["another length of data", MALFORMED, body({}, { data: new Uint8Array(3) })],
    ["a value that is infinite", MALFORMED, body({}, { data: Uint8Array.of(0, 0, 0, 0x7c) })],
    ["an array", MALFORMED, pack([1])],
    ["the unused marker", MALFORMED, Uint8Array.of(0xc1)],
    ["too many items", MALFORMED, Uint8Array.of(0xdc, 0, 65)],
    ["a huge map", MALFORMED, Uint8Array.of(0xdf, 255, 255, 255, 255)],
    ["a key that is a number", MALFORMED, Uint8Array.of(0x81, 1, 1)],
    ["a repeated key", MALFORMED, Uint8Array.of(0x82, 0xa1, 97, 1, 0xa1, 97, 1)],
    ["a string that is not UTF-8", MALFORMED, Uint8Array.of(0x81, 0xa1, 0xff, 1)],
    ["an extension", MALFORMED, Uint8Array.of(0x81, 0xa1, 97, 0xd4, 1, 1)],
    ["deep nesting", MALFORMED, concat(...Array<Uint8Array>(2000).fill(Uint8Array.of(0x81, 0xa1, 97)))],
    ["a frame out of order", "SequenceError", body({}, { seq: 1 })],
    ["a residual without delta", "SequenceError", body({}, { keyframe: false })],
    ["too many frames", "SequenceError", body({ total_frames: 1 }, { done: false })],
    ["an early end", "SequenceError", body({ total_frames: 2 }, {})],
    ["bytes after the end", "SequenceError", concat(body({}, {}), Uint8Array.of(0))],
    ["an error of the sender", "StreamFailed", body({ total_frames: 2 }, { finish_reason: "error" })],
    ["nothing", "TruncatedStream", new Uint8Array(0)],
    ["only a header", "TruncatedStream", body({})],
    ["no frame with done", "TruncatedStream", body({}, { done: false })],
    ["a header over 64 KiB", "MessageTooLarge", concat(Uint8Array.of(0xc6, 0, 2, 0, 0), new Uint8Array(2 ** 16))],
    ["a frame over its size", "MessageTooLarge", body({}, { data: new Uint8Array(400) })],
  ])("with %s is refused", (_, name, stream) => {
    expect(thrownBy(() => decode([stream]))).toMatchObject({ name });
    expect(thrownBy(() => decode(chunksOf(stream, 1)))).toMatchObject({ name });
  });
});

describe("an invalid protobuf message", () => {
  it.each([
    ["an unknown field", MALFORMED, framed(...HEADER_FIELDS, [0x48, 1])],
    ["fields out of order", MALFORMED, framed(SHAPE, SPACE, DTYPE, PIPELINE)],
    ["a repeated field", MALFORMED, framed(SPACE, SPACE, SHAPE, DTYPE, PIPELINE)],
    ["a field of another type", MALFORMED, framed([0x08, 1], SHAPE, DTYPE, PIPELINE)],
    ["a shape that is not packed", MALFORMED, framed(SPACE, [0x10, 1, 0x10, 2], DTYPE, PIPELINE)],
    ["a long varint", MALFORMED, framed(SPACE, [0x12, 3, 1, 0x82, 0], DTYPE, PIPELINE)],
    ["a number over 32 bits", MALFORMED, framed(SPACE, [0x12, 6, 1, 0xff, 0xff, 0xff, 0xff, 0x1f], DTYPE, PIPELINE)],
    ["an empty packed field", MALFORMED, framed(SPACE, [0x12, 0], DTYPE, PIPELINE)],
    ["no shape", MALFORMED, framed(SPACE, DTYPE, PIPELINE)],
    ["a string that is not UTF-8", MALFORMED, framed([0x0a, 1, 0xff], SHAPE, DTYPE, PIPELINE)],
    ["an end within a field", MALFORMED, framed(SPACE, SHAPE, DTYPE, [0x22, 9, 114])],
    ["a boolean of 2", MALFORMED, concat(HEADER, framed(DATA, SEQ, [0x18, 2], DONE))],
    ["a field after the last one", MALFORMED, concat(HEADER, framed(...FRAME_FIELDS, REASON))],
    ["no data", MALFORMED, concat(HEADER, framed(SEQ, KEYFRAME, DONE))],
    ["no done", "TruncatedStream", concat(HEADER, framed(DATA, SEQ, KEYFRAME))],
    ["a huge length", "MessageTooLarge", Uint8Array.of(0, 1, 0, 1)],
    ["a second frame", "SequenceError", concat(HEADER, framed(...FRAME_FIELDS), framed(...FRAME_FIELDS))],
  ])("with %s is refused", (_, name, stream) => {
    expect(thrownBy(() => decode([stream]))).toMatchObject({ name });
    expect(thrownBy(() => decode(chunksOf(stream, 1)))).toMatchObject({ name });
  });
});

describe("a refused stream", () => {
  it("is refused again by the same error", () => {
    const decoder = new LatentStreamDecoder();
    const error = thrownBy(() => [...decoder.feed(body({}, { seq: 3 }))]);
    expect(error).toMatchObject({ name: "SequenceError", offset: body({}).length, code: "sequence_error" });
    expect(thrownBy(() => [...decoder.feed(pack(FRAME))])).toBe(error);
    expect(thrownBy(() => decoder.close())).toBe(error);
  });

  it("is refused before its frames are received if it is too large", () => {
    const decoder = new LatentStreamDecoder({ maxBytes: 1000 });
    const error = thrownBy(() => [...decoder.feed(body({ shape: [4, 1000], total_frames: 10 }))]);
    expect(error).toMatchObject({ name: "MessageTooLarge", reason: expect.stringContaining("80000 bytes") });
  });

  it("is refused when it exceeds the limit although the header does not announce it", () => {
    const decoder = new LatentStreamDecoder({ maxBytes: 300 });
    const many = body({}, ...Array.from({ length: 9 }, (_, seq) => ({ seq, done: seq === 8 })));
    expect(thrownBy(() => [...decoder.feed(many)])).toMatchObject({ name: "MessageTooLarge" });
  });
});
