/** The stream of one generation, whatever protocol carries its bytes. */

import { type ConnectionOptions, reasonOf } from "./connection.js";
import type { DecodedLatents } from "./decoder.js";
import { CodecError, StreamError, StreamFailed, TruncatedStream } from "./errors.js";
import type { LatentStreamHeader } from "./messages.js";
import type { EventListeners } from "./progress.js";
import type { LatentStreamDecoder } from "./stream-decoder.js";

/** Options of a generation over any protocol. */
export interface StreamOptions extends ConnectionOptions, EventListeners {
  /** Hash of the latent-space map that the client holds, sha256:<hex>. Throws MapMismatch if the server's differs. */
  readonly pinnedMap?: string | undefined;
  /** Maximum size of the stream in bytes. Default: 1 GiB. */
  readonly maxBytes?: number | undefined;
  /** Called with the bytes of the stream, without content coding, events and gRPC-Web, before they are decoded. */
  readonly onBytes?: ((bytes: Uint8Array) => void) | undefined;
}

/**
 * Return the stream in `chunks`, the bytes of its messages, when its header was received.
 *
 * Throws StreamError, what `chunks` throws, or the reason of the signal if it is aborted.
 */
export async function openStream(
  responseHeaders: Headers,
  chunks: AsyncIterable<Uint8Array>,
  decoder: LatentStreamDecoder,
  options: StreamOptions,
): Promise<LatentStream> {
  const frames = receive(chunks, decoder, options);
  const first = await frames.next(); // null, as soon as there is a header
  if (first.done || decoder.header === null) throw new StreamError("the stream has no header");
  return new LatentStream(decoder.header, responseHeaders, frames);
}

/**
 * The latents of one generation, in the order in which the server sends them. It can be iterated once.
 *
 * The connection stays open until the iteration ends or the signal of the request is aborted.
 */
export class LatentStream implements AsyncIterable<DecodedLatents> {
  constructor(
    readonly header: LatentStreamHeader,
    /** The headers of the HTTP response. */
    readonly responseHeaders: Headers,
    private readonly frames: AsyncGenerator<DecodedLatents | null>,
  ) {}

  /** Hash of the latent-space map that describes the latents, sha256:<hex>. */
  get mapHash(): string | null {
    return this.responseHeaders.get("Codec-Latent-Map");
  }

  /** Seed of the noise, also if the server selected it. */
  get seed(): bigint | null {
    const seed = this.responseHeaders.get("Codec-Seed");
    return seed !== null && /^[0-9]+$/.test(seed) ? BigInt(seed) : null;
  }

  /** Name of the model that generates. */
  get model(): string | null {
    return this.responseHeaders.get("Codec-Model");
  }

  /**
   * Iterate over the latents of each frame.
   *
   * Leaving the loop before the last frame cancels the generation on the server. The iterator throws StreamError if the
   * stream is not valid or the connection is lost, or the reason of the signal if it is aborted.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<DecodedLatents, void, undefined> {
    try {
      for await (const latents of this.frames) if (latents !== null) yield latents;
    } finally {
      await this.frames.return(undefined);
    }
  }
}

/** Yield null when the header was received, and then the latents of each frame. Closes the connection at the end. */
async function* receive(
  chunks: AsyncIterable<Uint8Array>,
  decoder: LatentStreamDecoder,
  { signal, onBytes }: StreamOptions,
): AsyncGenerator<DecodedLatents | null, void, undefined> {
  const parts = chunks[Symbol.asyncIterator]();
  try {
    for (let started = false; ; ) {
      const { done, value } = await parts.next();
      if (done) break;
      onBytes?.(value);
      const frames = decoder.feed(value);
      // The iterator parses the header before it decodes the first frame.
      for (let next = frames.next(); ; next = frames.next()) {
        if (!started && decoder.header !== null) {
          started = true;
          yield null;
        }
        if (next.done) break;
        yield next.value;
      }
    }
    decoder.close();
  } catch (error) {
    signal?.throwIfAborted();
    // The event or status after the frame with the error has the reason, which next() then throws.
    // A connection that is lost after that frame does not replace its error.
    if (error instanceof StreamFailed) {
      await parts.next().catch((reason: unknown) => {
        if (reason instanceof CodecError) throw reason;
      });
    }
    if (error instanceof CodecError) throw error;
    throw new TruncatedStream(`the connection was lost during the response: ${reasonOf(error)}`);
  } finally {
    await parts.return?.();
  }
}

/** Yield the chunks of a body. Closes the connection when the iteration ends. */
export async function* chunksOf(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined); // fails if the connection is already lost
  }
}
