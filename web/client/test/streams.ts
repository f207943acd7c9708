/** Helpers that feed streams to a decoder. */

import { type DecodedLatents, LatentStreamDecoder, type WireFormat } from "../src/index.js";

/** Decode a complete stream whose bytes arrive in `chunks`. */
export function decode(chunks: Iterable<Uint8Array>, wireFormat?: WireFormat): DecodedLatents[] {
  const decoder = new LatentStreamDecoder({ wireFormat });
  const frames: DecodedLatents[] = [];
  for (const chunk of chunks) frames.push(...decoder.feed(chunk));
  decoder.close();
  return frames;
}

/** Return what `run` throws. */
export function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

/** Yield `body` in chunks of `size` bytes. */
export function* chunksOf(body: Uint8Array, size: number): Iterable<Uint8Array> {
  for (let start = 0; start < body.length; start += size) yield body.subarray(start, start + size);
}

/** Yield `body` in chunks of random sizes, also empty ones, which depend only on `seed`. */
export function* randomChunks(body: Uint8Array, seed: number): Iterable<Uint8Array> {
  let state = seed;
  for (let start = 0; start < body.length; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const size = Math.floor((state / 2 ** 32) ** 3 * 400);
    yield body.subarray(start, start + size);
    start += size;
  }
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Return the bits of floats, so that NaN and the signs of zeros can be compared. */
export function hexOf(values: Float32Array<ArrayBuffer>): string {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function bytesOfHex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}

export function bytesOfBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
