import { expect, it } from "vitest";

import { halfToNumber } from "../src/half.js";
import { addResidual, dequantize, unpack } from "../src/inverse.js";
import { LatentStreamDecoder, latentToRgb, parseLatentRgb } from "../src/index.js";
import { body } from "./bodies.js";
import { hexOf } from "./streams.js";

/** A fp16 number is a fp32 number with a shorter exponent and fraction: compare with its bits. */
it("every finite half-precision number is exact", () => {
  const view = new DataView(new ArrayBuffer(4));
  for (let bits = 0; bits < 0x7c00; bits++) {
    // Multiplying by 2^112 corrects the bias of the exponent, also for subnormal numbers, and is exact.
    view.setUint32(0, bits << 13);
    const expected = view.getFloat32(0) * 2 ** 112;
    if (halfToNumber(bits) !== expected) expect(halfToNumber(bits), bits.toString(16)).toBe(expected);
    if (halfToNumber(bits | 0x8000) !== -expected) expect(halfToNumber(bits | 0x8000)).toBe(-expected);
  }
  expect(halfToNumber(0x8000)).toBe(-0);
  expect([0x7c00, 0xfc00, 0x7c01].map(halfToNumber)).toEqual([Infinity, -Infinity, NaN]);
});

it("negative zeros of raw latents are kept", () => {
  const frames = [...new LatentStreamDecoder().feed(body({}, { data: Uint8Array.of(0, 0x80, 1, 0) }))];
  expect(frames.map(({ values }) => hexOf(values))).toEqual(["00000080" + "00008033"]);
});

it.each([7, 127])("residuals of all pairs of codes are clipped to %d", (maxCode) => {
  const all = Int8Array.from({ length: 2 * maxCode + 1 }, (_, index) => index - maxCode);
  for (const code of all) {
    const sums = Array.from(all, (residual) => Math.min(maxCode, Math.max(-maxCode, code + residual)) + 0);
    expect(Array.from(addResidual(new Int8Array(all.length).fill(code), all, maxCode))).toEqual(sums);
  }
});

it("nibbles are two's complement, the low one first", () => {
  expect(Array.from(unpack(Uint8Array.of(0x91, 0xf7), 4, 4))).toEqual([1, -7, 7, -1]);
  expect(Array.from(unpack(Uint8Array.of(0x91, 0x0f), 4, 3))).toEqual([1, -7, -1]);
});

it("the product is rounded before it is divided", () => {
  // 113 * 0.33325195 is exact, and its quotient by 127 is rounded once.
  const scale = halfToNumber(0x3555);
  const [value] = dequantize(Int8Array.of(113), Float32Array.of(scale), 127);
  expect(value).toBe(Math.fround(Math.fround(113 * scale) / 127));
});

const MATRIX = parseLatentRgb({ latent_space: "x/y", matrix: [[1, 0, 0], [0, 0.5, 0]], bias: [0, 0.5, 1] });

it("latents become one pixel per cell, clamped and rounded", () => {
  const values = Float32Array.of(0, 0.6, Infinity, -5, NaN, -1, 0, 0, 9, -9, -1, 0);
  expect(latentToRgb({ shape: [2, 2, 3], values }, MATRIX)).toEqual({
    width: 3,
    height: 2,
    data: Uint8ClampedArray.of(
      ...[0, 128, 255, 255, 153, 128, 255, 255, 255, 255, 255, 255],
      ...[0, 0, 255, 255, 0, 0, 255, 255, 0, 128, 255, 255],
    ),
  });
});

it("latents with other channels than the matrix are refused", () => {
  expect(() => latentToRgb({ shape: [3, 1, 1], values: new Float32Array(3) }, MATRIX)).toThrow("[2, h, w]");
});

it.each([
  ["latent_space", { latent_space: null }],
  ["matrix", { matrix: [] }],
  ["matrix", { matrix: [[1, 2]] }],
  ["bias", { bias: [0, 0, "x"] }],
])("a matrix document with an invalid %s is refused", (key, changes) => {
  expect(() => parseLatentRgb({ ...MATRIX, ...changes })).toThrow(`invalid ${key}`);
});
