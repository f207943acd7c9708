/** A writer of protobuf messages. Fields are written in the order of the calls. */

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;

/** Collects the fields of one message. A field whose value is undefined is left out. */
export class FieldWriter {
  readonly #parts: Uint8Array<ArrayBuffer>[] = [];

  /** Write an unsigned integer of at most 64 bits, an enum or a boolean. */
  uint(field: number, value: number | bigint | boolean | undefined): this {
    if (value === undefined) return this;
    return this.#push(varint(tag(field, VARINT)), varint(BigInt(value)));
  }

  double(field: number, value: number | undefined): this {
    if (value === undefined) return this;
    const encoded = new DataView(new ArrayBuffer(8));
    encoded.setFloat64(0, value, true);
    return this.#push(varint(tag(field, FIXED64)), new Uint8Array(encoded.buffer));
  }

  string(field: number, value: string | undefined): this {
    return this.bytes(field, value === undefined ? undefined : new TextEncoder().encode(value));
  }

  /** Write bytes, or a nested message. */
  bytes(field: number, value: Uint8Array | undefined): this {
    if (value === undefined) return this;
    return this.#push(varint(tag(field, LENGTH_DELIMITED)), varint(BigInt(value.length)), Uint8Array.from(value));
  }

  /** Return the message. */
  finish(): Uint8Array<ArrayBuffer> {
    return concatenate(this.#parts);
  }

  #push(...parts: Uint8Array<ArrayBuffer>[]): this {
    this.#parts.push(...parts);
    return this;
  }
}

/** Return the bytes of all parts, one after the other. */
export function concatenate(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let position = 0;
  for (const part of parts) {
    joined.set(part, position);
    position += part.length;
  }
  return joined;
}

function tag(field: number, wireType: number): bigint {
  return BigInt((field << 3) | wireType);
}

function varint(value: bigint): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  for (; value >= 0x80n; value >>= 7n) bytes.push(Number(value & 0x7fn) | 0x80);
  return Uint8Array.from([...bytes, Number(value)]);
}
