import { describe, expect, it } from "vitest";

import { type DecodedLatents, StreamError } from "../src/index.js";
import { bytesOfHex, chunksOf, decode, hexOf, randomChunks, thrownBy } from "./streams.js";
import { INDEX, readVector, type VectorStream } from "./vectors.js";

/** Python's names of the errors: tests/test_web_client.py compares them. */
const REFUSED: Readonly<Record<string, string>> = {
  "refused/no-done.msgpack": "TruncatedStream",
  "refused/gap.msgpack": "SequenceError",
  "refused/repeated.msgpack": "SequenceError",
  "refused/after-done.msgpack": "SequenceError",
  "refused/no-keyframe.msgpack": "SequenceError",
  "refused/early.msgpack": "SequenceError",
  "refused/short.msgpack": "MalformedMessage",
  "refused/code-minus-128.msgpack": "MalformedMessage",
  "refused/tail.msgpack": "MalformedMessage",
  "refused/scale-nan.msgpack": "MalformedMessage",
  "refused/value-nan.msgpack": "MalformedMessage",
};

function expectReconstruction(frames: DecodedLatents[], stream: VectorStream): void {
  const expected = new Float32Array(readVector(stream.reconstruction).buffer);
  expect(frames.map(({ seq }) => seq)).toEqual([...Array(stream.frames).keys()]);
  expect(frames.filter(({ keyframe }) => keyframe).map(({ seq }) => seq)).toEqual(stream.keyframes);
  const size = expected.length / stream.frames;
  for (const { seq, shape, values } of frames) {
    expect(shape).toEqual(stream.shape);
    expect(hexOf(values)).toBe(hexOf(expected.slice(seq * size, (seq + 1) * size)));
  }
}

/** Return the codes of each frame, computed from the latents with the formulas of the vectors' README. */
function expectedCodes(stream: VectorStream): number[][] {
  const maxCode = stream.pipeline.includes("int4") ? 7 : 127;
  const latents = latentsOf(stream);
  const [channels] = stream.shape as [number];
  const size = latents.length / stream.frames;
  const perChannel = size / channels;
  const clip = (code: number) => Math.max(-maxCode, Math.min(maxCode, code));
  let scales = stream.static_scales === null ? [] : halves(bytesOfHex(stream.static_scales));
  let key: number[] = [];
  return [...Array(stream.frames).keys()].map((seq) => {
    const frame = latents.slice(seq * size, (seq + 1) * size);
    const keyframe = stream.keyframes.includes(seq);
    if (stream.static_scales === null && keyframe) {
      scales = [...Array(channels).keys()].map((channel) => {
        const values = frame.slice(channel * perChannel, (channel + 1) * perChannel);
        return toHalf(Math.max(...values.map(Math.abs)));
      });
    }
    const codes = frame.map((value, index) => {
      const scale = scales[Math.floor(index / perChannel)]!;
      return scale === 0 ? 0 : clip(roundHalfEven(Math.fround(Math.fround(value / scale) * maxCode)));
    });
    if (keyframe || !stream.pipeline.startsWith("delta")) return (key = codes);
    return codes.map((code, index) => clip(key[index]! + clip(code - key[index]!)));
  });
}

function latentsOf(stream: VectorStream): number[] {
  const data = readVector(stream.latents);
  return stream.dtype === "fp16" ? halves(data) : [...new Float32Array(data.buffer)];
}

function halves(data: Uint8Array<ArrayBuffer>): number[] {
  return [...new Uint16Array(data.buffer)].map((bits) => {
    const exponent = (bits >> 10) & 31;
    const magnitude = exponent === 0 ? (bits & 1023) / 2 ** 24 : (1 + (bits & 1023) / 1024) * 2 ** (exponent - 15);
    return bits >> 15 ? -magnitude : magnitude;
  });
}

/** Round a positive number to fp16: its 11 significant bits, or the multiples of 2^-24 if it is subnormal. */
function toHalf(value: number): number {
  const unit = 2 ** Math.max(-24, Math.floor(Math.log2(value || 1)) - 10);
  return roundHalfEven(value / unit) * unit;
}

function roundHalfEven(value: number): number {
  const nearest = Math.round(value);
  return Math.abs(value % 1) === 0.5 && nearest % 2 !== 0 ? nearest - 1 : nearest;
}

describe.each(INDEX.streams)("$msgpack", (stream) => {
  for (const wireFormat of ["msgpack", "protobuf"] as const) {
    const body = readVector(stream[wireFormat]);

    it(`is decoded to the same floats from ${wireFormat}, in chunks of any size`, () => {
      expectReconstruction(decode([body], wireFormat), stream);
      expectReconstruction(decode(chunksOf(body, 1)), stream);
      for (let seed = 0; seed < 8; seed++) expectReconstruction(decode(randomChunks(body, seed)), stream);
    });

    it(`has the codes of the latents in ${wireFormat}`, () => {
      const codes = decode([body]).map(({ quantized }) => quantized && Array.from(quantized.codes));
      const expected = stream.pipeline === "raw" ? Array(stream.frames).fill(null) : expectedCodes(stream);
      expect(codes).toEqual(expected.map((frame) => frame && frame.map((code: number) => code + 0))); // -0 is 0
    });

    it(`is refused as truncated wherever ${wireFormat} ends early`, () => {
      const ends = [...body.keys()].filter((end) => end < 300 || end % 13 === 0 || end > body.length - 60);
      const errors = ends.map((end) => thrownBy(() => decode([body.subarray(0, end)])) as Error);
      expect(new Set(errors.map(({ name }) => name))).toEqual(new Set(["TruncatedStream"]));
    });
  }
});

describe.each(INDEX.refused)("$msgpack: $reason", ({ msgpack }) => {
  it("is refused by the name of the error, in chunks of any size", () => {
    const body = readVector(msgpack);
    const error = thrownBy(() => decode([body])) as StreamError;
    expect(error).toBeInstanceOf(StreamError);
    const expected = { name: REFUSED[msgpack], offset: error.offset };
    expect(error).toMatchObject(expected);
    expect(thrownBy(() => decode(chunksOf(body, 1)))).toMatchObject(expected);
    for (let seed = 0; seed < 8; seed++) {
      expect(thrownBy(() => decode(randomChunks(body, seed)))).toMatchObject(expected);
    }
  });
});

it("every pipeline and every refused stream is covered", () => {
  expect(new Set(INDEX.streams.map(({ pipeline }) => pipeline)).size).toBe(7);
  expect(INDEX.refused.map(({ msgpack }) => msgpack).sort()).toEqual(Object.keys(REFUSED).sort());
});
