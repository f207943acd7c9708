/** Incremental decoder from the bytes of a response body to latents. */

import { type DecodedLatents, LatentDecoder } from "./decoder.js";
import { StreamError, TruncatedStream } from "./errors.js";
import type { LatentStreamHeader } from "./messages.js";
import { StreamReader, type WireFormat } from "./reader.js";

/** Default limit of the size of a stream, in bytes. */
export const MAX_BYTES = 2 ** 30;

export interface DecoderOptions {
  /** Default: detected from the first byte. */
  readonly wireFormat?: WireFormat | undefined;
  /** Maximum size of the stream in bytes. Default: 1 GiB. */
  readonly maxBytes?: number | undefined;
}

/**
 * Decodes one latent stream, received in chunks of any size.
 *
 *     const decoder = new LatentStreamDecoder();
 *     for await (const chunk of response.body) {
 *       for (const latents of decoder.feed(chunk)) draw(latents.values);
 *     }
 *     decoder.close();
 *
 * The chunks are without a content coding: fetch has already removed it. Any violation of the protocol throws a
 * StreamError with the position of the invalid message. After an error every further call throws the same error. Memory
 * use does not grow with the number of frames.
 */
export class LatentStreamDecoder {
  readonly #maxBytes: number;
  #reader: StreamReader | null;
  #decoder: LatentDecoder | null = null;
  #failure: StreamError | null = null;
  #header: LatentStreamHeader | null = null;
  #frames = 0;

  constructor({ wireFormat, maxBytes = MAX_BYTES }: DecoderOptions = {}) {
    this.#maxBytes = maxBytes;
    this.#reader = wireFormat === undefined ? null : new StreamReader(wireFormat, maxBytes);
  }

  /** The header of the stream; null before it was received. */
  get header(): LatentStreamHeader | null {
    return this.#header;
  }

  /** Number of decoded frames. */
  get frames(): number {
    return this.#frames;
  }

  /**
   * Add `chunk`, which must not change afterwards, and return an iterator over the frames that are now complete.
   *
   * Frames are decoded while the iterator is consumed. Frames that are not consumed are returned first by the iterator
   * of the next call. The iterator throws StreamError if the stream is not valid.
   */
  feed(chunk: Uint8Array): IterableIterator<DecodedLatents> {
    if (chunk.length > 0) {
      // A header is smaller than 16 MiB, so its protobuf length begins with a zero byte. No msgpack map does.
      this.#reader ??= new StreamReader(chunk[0] === 0 ? "protobuf" : "msgpack", this.#maxBytes);
      this.#reader.push(chunk);
    }
    return this.#decode();
  }

  /**
   * Signal the end of the stream.
   *
   * Throws TruncatedStream if the last frame is incomplete or missing, or another StreamError if a frame that was not
   * consumed is not valid.
   */
  close(): void {
    for (const _ of this.#decode()); // decode the frames that were received but not consumed
    try {
      if (this.#reader === null) throw new TruncatedStream("the stream is empty", 0);
      this.#reader.close();
      this.#decoder?.close();
    } catch (error) {
      if (error instanceof StreamError) this.#failure = error;
      throw error;
    }
  }

  *#decode(): IterableIterator<DecodedLatents> {
    if (this.#failure !== null) throw this.#failure;
    for (let message; (message = this.#reader?.next() ?? null) !== null; ) {
      if (message.frame === null) {
        this.#header = message.header;
        this.#decoder = new LatentDecoder(message.header);
        continue;
      }
      let latents: DecodedLatents;
      try {
        latents = this.#decoder!.decode(message.frame); // the first message is the header
      } catch (error) {
        if (error instanceof StreamError) this.#failure = error = error.at(message.offset);
        throw error;
      }
      this.#frames += 1;
      yield latents;
    }
  }
}
