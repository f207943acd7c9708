/** Inverse of the pipelines: bytes of a frame to codes and values. */

import { MalformedMessage } from "./errors.js";

/**
 * Return the `count` codes in `data`, which must have the exact size.
 *
 * 8-bit codes share the memory of `data`. Throws MalformedMessage if a code is outside of [-Q, Q], or if the padding
 * after an odd number of 4-bit codes is not 0.
 */
export function unpack(data: Uint8Array<ArrayBuffer>, bits: 4 | 8, count: number): Int8Array<ArrayBuffer> {
  const codes = bits === 8 ? new Int8Array(data.buffer, data.byteOffset, count) : unpackNibbles(data, count);
  const forbidden = bits === 8 ? -128 : -8;
  if (codes.includes(forbidden)) {
    throw new MalformedMessage(`codes must be from ${forbidden + 1} to ${-forbidden - 1}, got ${forbidden}`);
  }
  return codes;
}

/** Two codes per byte in two's complement, the first one in the low nibble. */
function unpackNibbles(data: Uint8Array, count: number): Int8Array<ArrayBuffer> {
  if (count % 2 === 1 && data[data.length - 1]! >> 4 !== 0) {
    throw new MalformedMessage("the unused high nibble of the last byte must be 0");
  }
  const codes = new Int8Array(count);
  for (let index = 0; index < count; index++) {
    const byte = data[index >> 1]!;
    // The shift to the left puts the sign of the nibble into the sign bit, the one to the right extends it.
    codes[index] = index % 2 === 0 ? (byte << 28) >> 28 : (byte << 24) >> 28;
  }
  return codes;
}

/** Return clip(key + residual, -Q, Q), the codes of a frame that is not a keyframe. */
export function addResidual(key: Int8Array, residual: Int8Array, maxCode: number): Int8Array<ArrayBuffer> {
  const codes = new Int8Array(key.length);
  for (let index = 0; index < codes.length; index++) {
    codes[index] = Math.max(-maxCode, Math.min(maxCode, key[index]! + residual[index]!));
  }
  return codes;
}

/**
 * Return fp32(fp32(code * scale) / Q) for codes [C, ...] and one scale per channel.
 *
 * JavaScript computes in double precision. Each operation on fp32 numbers that is rounded to fp32 afterwards gives the
 * fp32 result.
 */
export function dequantize(codes: Int8Array, scales: Float32Array, maxCode: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(codes.length);
  const perChannel = codes.length / scales.length;
  for (let channel = 0, index = 0; channel < scales.length; channel++) {
    const scale = scales[channel]!;
    for (const end = index + perChannel; index < end; index++) {
      values[index] = Math.fround(codes[index]! * scale) / maxCode; // the array rounds the quotient
    }
  }
  return values;
}
