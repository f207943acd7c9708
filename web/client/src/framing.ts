/** Framing: splits received bytes into messages and buffers at most one incomplete message. */

import { ByteQueue } from "./byte-queue.js";
import { MalformedMessage, MessageTooLarge } from "./errors.js";
import type { LatentFrame, LatentStreamHeader } from "./messages.js";
import { readValue, type ValueReader } from "./msgpack.js";
import * as msgpack from "./msgpack-envelope.js";
import * as protobuf from "./protobuf-envelope.js";

/** Finds the message boundaries of one wire format, and parses the messages. */
export interface Framer {
  /** Maximum size of a message in bytes. The reader sets it again when the header is known. */
  limit: number;
  /** Position in the stream at which the next message begins, in bytes. */
  readonly offset: number;
  /** Number of received bytes after `offset`. */
  readonly pending: number;
  push(chunk: Uint8Array): void;
  /**
   * Return a parser of the next message and advance `offset`; null if the message is incomplete.
   *
   * Throws MalformedMessage, or MessageTooLarge as soon as the message is known to exceed `limit`.
   */
  next(): ParsableMessage | null;
}

/** One complete message. Both methods throw MalformedMessage. */
export interface ParsableMessage {
  asHeader(): LatentStreamHeader;
  asFrame(): LatentFrame;
}

const PREFIX_BYTES = 4;

/** Framer of protobuf messages, each preceded by its length as a 4-byte big-endian integer. */
export class ProtobufFramer implements Framer {
  offset = 0;
  readonly #queue = new ByteQueue();

  constructor(public limit: number) {}

  get pending(): number {
    return this.#queue.length;
  }

  push(chunk: Uint8Array): void {
    this.#queue.push(chunk);
  }

  next(): ParsableMessage | null {
    if (this.pending < PREFIX_BYTES) return null;
    let length = 0;
    for (let index = 0; index < PREFIX_BYTES; index++) length = length * 256 + this.#queue.peek(index);
    if (length > this.limit) {
      throw new MessageTooLarge(`the message has ${length} bytes, the maximum is ${this.limit}`);
    }
    if (this.pending < PREFIX_BYTES + length) return null;
    this.#queue.take(PREFIX_BYTES);
    const payload = this.#queue.take(length);
    this.offset += PREFIX_BYTES + length;
    return { asHeader: () => protobuf.parseHeader(payload), asFrame: () => protobuf.parseFrame(payload) };
  }
}

/** Framer of concatenated msgpack maps. */
export class MsgpackFramer implements Framer {
  offset = 0;
  readonly #queue = new ByteQueue();
  #received = 0;
  #value: ValueReader | null = null;

  constructor(public limit: number) {}

  get pending(): number {
    return this.#received - this.offset;
  }

  push(chunk: Uint8Array): void {
    this.#queue.push(chunk);
    this.#received += chunk.length;
  }

  next(): ParsableMessage | null {
    this.#value ??= readValue({ has: (count) => this.#has(count), queue: this.#queue });
    const result = this.#value.next();
    if (!result.done) {
      if (this.pending > this.limit) throw new MessageTooLarge(`the message has more than ${this.limit} bytes`);
      return null;
    }
    const map = result.value;
    if (!(map instanceof Map)) throw new MalformedMessage(`expected a msgpack map, got a value of another type`);
    this.#value = null;
    this.offset = this.#received - this.#queue.length;
    return { asHeader: () => msgpack.parseHeader(map), asFrame: () => msgpack.parseFrame(map) };
  }

  /** Bytes over the limit are never read, so that the result does not depend on the sizes of the chunks. */
  #has(count: number): boolean {
    const used = this.#received - this.#queue.length - this.offset;
    return this.#queue.length >= count && used + count <= this.limit;
  }
}
