/** Bodies of streams, written without the code under test. */

import { concat } from "./streams.js";

type Value = string | number | boolean | null | Uint8Array | Float | Value[] | { [key: string]: Value };

/** A number that is written as a float64. */
export class Float {
  constructor(readonly value: number) {}
}

/** Return a value as msgpack, with the small sizes that these tests need. Integers are below 2^32. */
export function pack(value: Value): Uint8Array {
  if (value === null) return Uint8Array.of(0xc0);
  if (typeof value === "boolean") return Uint8Array.of(value ? 0xc3 : 0xc2);
  if (typeof value === "number") {
    if (value >= 0 && value < 128) return Uint8Array.of(value);
    if (value < 0) return Uint8Array.of(0xd0, value);
    return Uint8Array.of(0xce, value >>> 24, value >>> 16, value >>> 8, value);
  }
  if (typeof value === "string") {
    const encoded = new TextEncoder().encode(value);
    return concat(Uint8Array.of(0xd9, encoded.length), encoded);
  }
  if (value instanceof Uint8Array) return concat(Uint8Array.of(0xc5, value.length >> 8, value.length), value);
  if (value instanceof Float) {
    const encoded = new DataView(new ArrayBuffer(9));
    encoded.setUint8(0, 0xcb);
    encoded.setFloat64(1, value.value);
    return new Uint8Array(encoded.buffer);
  }
  if (Array.isArray(value)) return concat(Uint8Array.of(0x90 | value.length), ...value.map(pack));
  const pairs = Object.entries(value);
  return concat(Uint8Array.of(0x80 | pairs.length), ...pairs.flatMap(([key, item]) => [pack(key), pack(item)]));
}

export const HEADER = { type: "header", latent_space_id: "a/b", shape: [1, 2], dtype: "fp16", pipeline: "raw" };
export const FRAME = { data: new Uint8Array(4), seq: 0, keyframe: true, done: true };

/** Return a msgpack body with a header and frames, whose fields are replaced by those in the arguments. */
export function body(header: { [key: string]: Value }, ...frames: { [key: string]: Value }[]): Uint8Array {
  return concat(pack({ ...HEADER, ...header }), ...frames.map((frame) => pack({ ...FRAME, ...frame })));
}

/** Return a protobuf message with its length prefix. */
export function framed(...fields: Bytes[]): Uint8Array {
  const payload = fields.flat();
  return Uint8Array.of(0, 0, payload.length >> 8, payload.length, ...payload);
}

const text = (field: number, value: string): Bytes => [(field << 3) | 2, value.length, ...new TextEncoder().encode(value)];

type Bytes = number[];

/** The fields of a protobuf header for frames of the shape [1, 2]. */
export const HEADER_FIELDS: readonly [space: Bytes, shape: Bytes, dtype: Bytes, pipeline: Bytes] = [
  text(1, "a/b"),
  [0x12, 2, 1, 2],
  text(3, "fp16"),
  text(4, "raw"),
];
/** The fields of a protobuf frame. */
export const FRAME_FIELDS: readonly [data: Bytes, seq: Bytes, keyframe: Bytes, done: Bytes, reason: Bytes] = [
  [0x0a, 4, 0, 0, 0, 0],
  [0x10, 0],
  [0x18, 1],
  [0x20, 1],
  text(5, "ok"),
];
