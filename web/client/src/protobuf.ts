/**
 * A reader of protobuf messages that accepts only their canonical serialization.
 *
 * The protocol allows neither repeated nor unknown fields, fields out of order, nor numbers that are out of range or
 * longer than necessary. So fields can be read in the order of their numbers.
 */

import { MalformedMessage } from "./errors.js";

const VARINT = 0;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;
const MAX_UINT32 = 2 ** 32 - 1;
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads the fields of one message, in the order of their numbers. All methods throw MalformedMessage. */
export class FieldReader {
  #position = 0;

  constructor(
    private readonly payload: Uint8Array<ArrayBuffer>,
    private readonly message: string,
  ) {}

  /** Return the string in a field with the number `field`; null if the next field is another one. */
  string(field: number): string | null {
    const encoded = this.bytes(field);
    try {
      return encoded === null ? null : UTF8.decode(encoded);
    } catch {
      throw this.#malformed(`field ${field} is not UTF-8`);
    }
  }

  /** Return a copy of the bytes in a field; null if the next field is another one. */
  bytes(field: number): Uint8Array<ArrayBuffer> | null {
    if (!this.#startsWith(field, LENGTH_DELIMITED)) return null;
    return this.#take(this.#varint());
  }

  /** Return the unsigned 32-bit integer in a field; null if the next field is another one. */
  uint32(field: number): number | null {
    return this.#startsWith(field, VARINT) ? this.#varint() : null;
  }

  /** Return the boolean in a field; null if the next field is another one. */
  bool(field: number): boolean | null {
    const value = this.uint32(field);
    if (value !== null && value > 1) throw this.#malformed(`field ${field} is not a boolean`);
    return value === null ? null : value === 1;
  }

  /** Return the 32-bit float in a field; null if the next field is another one. */
  float(field: number): number | null {
    if (!this.#startsWith(field, FIXED32)) return null;
    return new DataView(this.#take(4).buffer).getFloat32(0, true);
  }

  /** Return the packed unsigned 32-bit integers in a field; an empty array if the next field is another one. */
  packedUint32(field: number): number[] {
    const packed = this.bytes(field);
    if (packed === null) return [];
    if (packed.length === 0) throw this.#malformed(`field ${field} is empty`);
    const reader = new FieldReader(packed, this.message);
    const values: number[] = [];
    while (reader.#position < packed.length) values.push(reader.#varint());
    return values;
  }

  /** Check that the message has no other fields. */
  end(): void {
    if (this.#position < this.payload.length) {
      throw this.#malformed("it has an unknown, repeated or misplaced field, or one of the wrong type");
    }
  }

  /** Consume the tag of a field if it is the next one. The tags of all fields below 16 have one byte. */
  #startsWith(field: number, wireType: number): boolean {
    if (this.payload[this.#position] !== ((field << 3) | wireType)) return false;
    this.#position += 1;
    return true;
  }

  #varint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.payload[this.#position++];
      if (byte === undefined) throw this.#malformed("it ends within a field");
      value += (byte & 0x7f) * factor;
      if (value > MAX_UINT32) throw this.#malformed("a number is out of range");
      if (byte >= 0x80) continue;
      if (byte === 0 && factor > 1) throw this.#malformed("a number is longer than necessary");
      return value;
    }
  }

  #take(length: number): Uint8Array<ArrayBuffer> {
    const taken = this.payload.slice(this.#position, this.#position + length);
    if (taken.length < length) throw this.#malformed("it ends within a field");
    this.#position += length;
    return taken;
  }

  #malformed(reason: string): MalformedMessage {
    return new MalformedMessage(`${this.payload.length} bytes cannot be parsed as ${this.message}: ${reason}`);
  }
}
