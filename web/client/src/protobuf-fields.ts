/** Reader of protobuf messages that newer servers may extend: unknown fields are allowed. */

import { MalformedMessage } from "./errors.js";

/** The values of each field by its number: integers, or the bytes of strings, nested messages and fixed-size numbers. */
export type Fields = ReadonlyMap<number, readonly (bigint | Uint8Array<ArrayBuffer>)[]>;

/** Return the fields of a message. Throws MalformedMessage. */
export function fieldsOf(payload: Uint8Array): Fields {
  const found = new Map<number, (bigint | Uint8Array<ArrayBuffer>)[]>();
  let position = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = payload[position++];
      if (byte === undefined) break;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new MalformedMessage(`${payload.length} bytes cannot be parsed as a protobuf message`);
  };
  const take = (length: number): Uint8Array<ArrayBuffer> => {
    if (position + length > payload.length) {
      throw new MalformedMessage(`${payload.length} bytes cannot be parsed as a protobuf message`);
    }
    return Uint8Array.from(payload.subarray(position, (position += length)));
  };
  while (position < payload.length) {
    const tag = Number(varint());
    const field = Math.floor(tag / 8);
    const value = readValue(tag % 8);
    found.set(field, [...(found.get(field) ?? []), value]);
  }
  return found;

  function readValue(wireType: number): bigint | Uint8Array<ArrayBuffer> {
    switch (wireType) {
      case 0:
        return varint();
      case 1:
        return take(8);
      case 2:
        return take(Number(varint()));
      case 5:
        return take(4);
      default:
        throw new MalformedMessage(`wire type ${wireType} is not allowed in a protobuf message`);
    }
  }
}

/** Return the nested message, or the bytes, in a field; null if it is missing or has another type. */
export function bytesOf(fields: Fields, field: number): Uint8Array<ArrayBuffer> | null {
  const value = fields.get(field)?.at(-1);
  return value instanceof Uint8Array ? value : null;
}

/** Return the integer in a field, at most 2^53; 0 if it is missing or has another type. */
export function numberOf(fields: Fields, field: number): number {
  const value = fields.get(field)?.at(-1);
  return typeof value === "bigint" ? Number(value) : 0;
}

/** Return the string in a field; the empty string if it is missing or has another type. */
export function stringOf(fields: Fields, field: number): string {
  return new TextDecoder().decode(bytesOf(fields, field) ?? new Uint8Array(0));
}
