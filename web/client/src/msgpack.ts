/**
 * An incremental, strict reader of msgpack values.
 *
 * It is not a general msgpack library: it distinguishes integers from floats and strings from binary data, and refuses
 * repeated keys, because the protocol does.
 */

import type { ByteQueue } from "./byte-queue.js";
import { MalformedMessage } from "./errors.js";

/** Integers are bigint and floats are number. Extension values without data, which no message contains, are symbols. */
export type MsgpackValue =
  | null
  | boolean
  | bigint
  | number
  | string
  | symbol
  | Uint8Array<ArrayBuffer>
  | MsgpackValue[]
  | MsgpackMap;
export type MsgpackMap = Map<string | Uint8Array, MsgpackValue>;

const MAX_ITEMS = 64;
const MAX_STRING_BYTES = 4096;
const MAX_DEPTH = 1024;
const EXTENSION = Symbol("msgpack extension");
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A suspended reader: `next()` continues it, and returns `done: false` if it needs more bytes. */
export type ValueReader = Generator<undefined, MsgpackValue, undefined>;

/** Where a reader takes its bytes from. `has(count)` returns whether `count` bytes can be taken now. */
export interface ByteSource {
  readonly has: (count: number) => boolean;
  readonly queue: ByteQueue;
}

/**
 * Read one value from `source`, and suspend whenever its next part is incomplete.
 *
 * Throws MalformedMessage as soon as the bytes cannot be the beginning of a valid value.
 */
export function* readValue(source: ByteSource, depth = 0): ValueReader {
  const marker = (yield* bytes(source, 1))[0]!;
  if (marker <= 0x7f) return BigInt(marker);
  if (marker >= 0xe0) return BigInt(marker - 0x100);
  if (marker <= 0x8f) return yield* readMap(source, marker & 0x0f, depth);
  if (marker <= 0x9f) return yield* readArray(source, marker & 0x0f, depth);
  if (marker <= 0xbf) return yield* readString(source, marker & 0x1f);
  switch (marker) {
    case 0xc0:
      return null;
    case 0xc2:
      return false;
    case 0xc3:
      return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
      return yield* bytes(source, yield* size(source, 1 << (marker - 0xc4)));
    case 0xc7:
    case 0xc8:
    case 0xc9:
      return yield* readExtension(source, yield* size(source, 1 << (marker - 0xc7)));
    case 0xca:
      return view(yield* bytes(source, 4)).getFloat32(0);
    case 0xcb:
      return view(yield* bytes(source, 8)).getFloat64(0);
    case 0xcc:
    case 0xcd:
    case 0xce:
      return BigInt(yield* size(source, 1 << (marker - 0xcc)));
    case 0xcf:
      return view(yield* bytes(source, 8)).getBigUint64(0);
    case 0xd0:
      return BigInt(view(yield* bytes(source, 1)).getInt8(0));
    case 0xd1:
      return BigInt(view(yield* bytes(source, 2)).getInt16(0));
    case 0xd2:
      return BigInt(view(yield* bytes(source, 4)).getInt32(0));
    case 0xd3:
      return view(yield* bytes(source, 8)).getBigInt64(0);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
      return yield* readExtension(source, 1 << (marker - 0xd4));
    case 0xd9:
    case 0xda:
    case 0xdb:
      return yield* readString(source, yield* size(source, 1 << (marker - 0xd9)));
    case 0xdc:
    case 0xdd:
      return yield* readArray(source, yield* size(source, 2 << (marker - 0xdc)), depth);
    case 0xde:
    case 0xdf:
      return yield* readMap(source, yield* size(source, 2 << (marker - 0xde)), depth);
    default:
      throw new MalformedMessage("not a msgpack map: the byte 0xc1 is not used");
  }
}

function* bytes(source: ByteSource, count: number): Generator<undefined, Uint8Array<ArrayBuffer>, undefined> {
  while (!source.has(count)) yield;
  return source.queue.take(count);
}

/** Read an unsigned big-endian integer of `width` bytes: 1, 2 or 4. */
function* size(source: ByteSource, width: number): Generator<undefined, number, undefined> {
  let value = 0;
  for (const byte of yield* bytes(source, width)) value = value * 256 + byte;
  return value;
}

function* readString(source: ByteSource, length: number): ValueReader {
  const encoded = yield* bytes(source, length);
  if (length > MAX_STRING_BYTES) throw tooMany("bytes of a string", length, MAX_STRING_BYTES);
  try {
    return UTF8.decode(encoded);
  } catch {
    throw new MalformedMessage("not a msgpack map: a string is not UTF-8");
  }
}

function* readExtension(source: ByteSource, length: number): ValueReader {
  yield* bytes(source, length + 1);
  if (length > 0) throw tooMany("bytes of an extension", length, 0);
  return EXTENSION;
}

function* readArray(source: ByteSource, count: number, depth: number): ValueReader {
  checkContainer(count, depth);
  const items: MsgpackValue[] = [];
  while (items.length < count) items.push(yield* readValue(source, depth + 1));
  return items;
}

function* readMap(source: ByteSource, count: number, depth: number): ValueReader {
  checkContainer(count, depth);
  const map: MsgpackMap = new Map();
  for (let index = 0; index < count; index++) {
    const key = yield* readValue(source, depth + 1);
    const value = yield* readValue(source, depth + 1);
    if (typeof key !== "string" && !(key instanceof Uint8Array)) {
      throw new MalformedMessage("not a msgpack map: a key is not a string");
    }
    map.set(key, value);
  }
  if (map.size !== count) throw new MalformedMessage("a key of a msgpack map is repeated");
  return map;
}

function checkContainer(count: number, depth: number): void {
  if (count > MAX_ITEMS) throw tooMany("items", count, MAX_ITEMS);
  if (depth >= MAX_DEPTH) throw new MalformedMessage(`not a msgpack map: nested more than ${MAX_DEPTH} times`);
}

function tooMany(what: string, count: number, maximum: number): MalformedMessage {
  return new MalformedMessage(`not a msgpack map: ${count} ${what}, the maximum is ${maximum}`);
}

function view(data: Uint8Array<ArrayBuffer>): DataView {
  return new DataView(data.buffer);
}
