/** Generation of latents on a server, over HTTP. */

import { type ConnectionOptions, reasonOf, send, urlOf } from "./connection.js";
import type { DecodedLatents } from "./decoder.js";
import { CodecError, StreamError, StreamFailed, TruncatedStream, UnexpectedAnswer } from "./errors.js";
import { type EventListeners, readEvents } from "./event-stream.js";
import type { LatentStreamHeader } from "./messages.js";
import type { WireFormat } from "./reader.js";
import { GENERATION_PATHS, type GenerationRequest, requestBody } from "./request.js";
import { errorOf } from "./server-errors.js";
import { LatentStreamDecoder } from "./stream-decoder.js";

/** With a listener of EventListeners, the stream is requested as Server-Sent Events. */
export interface GenerateOptions extends ConnectionOptions, EventListeners {
  /** Default: msgpack. */
  readonly wireFormat?: WireFormat | undefined;
  /** Hash of the latent-space map that the client holds, sha256:<hex>. Throws MapMismatch if the server's differs. */
  readonly pinnedMap?: string | undefined;
  /** Maximum size of the stream in bytes. Default: 1 GiB. */
  readonly maxBytes?: number | undefined;
  /** Called with the bytes of the stream, without content coding and events, before they are decoded. */
  readonly onBytes?: ((bytes: Uint8Array) => void) | undefined;
}

const EVENT_STREAM = "text/event-stream";

/**
 * Send a generation request and return its stream when the header was received, that is when the generation has begun.
 *
 *     const stream = await generate("http://127.0.0.1:8080", { prompt: "a sea at dawn", pipeline: "int8" });
 *     for await (const latents of stream) draw(latents.values);
 *
 * Throws the error that the server reports, for example InvalidRequest with the name of the field or Overloaded with the
 * time to wait; ServerUnreachable, UnexpectedAnswer or StreamError; or the reason of the signal if it is aborted.
 */
export async function generate(
  server: string,
  request: GenerationRequest,
  options: GenerateOptions = {},
): Promise<LatentStream> {
  const wireFormat = options.wireFormat ?? "msgpack";
  const sendsEvents = options.onProgress !== undefined || options.onPreview !== undefined;
  const headers = new Headers({
    Accept: sendsEvents ? EVENT_STREAM : `application/x-codec-${wireFormat}`,
    "Content-Type": "application/json",
  });
  if (options.pinnedMap !== undefined) headers.set("X-Codec-Map", options.pinnedMap);
  const url = urlOf(server, GENERATION_PATHS[request.modality ?? "image-latents"]);
  const response = await send(url, { method: "POST", headers, body: requestBody(request, wireFormat) }, options);
  if (!response.ok) throw await errorOf(response);
  if (response.body === null) throw new UnexpectedAnswer(`the response of ${url} has no body`);
  let decoder: LatentStreamDecoder;
  let chunks: AsyncIterable<Uint8Array> = chunksOf(response.body);
  try {
    if (sendsEvents) {
      requireEvents(response.headers);
      decoder = new LatentStreamDecoder({ wireFormat, maxBytes: options.maxBytes });
      chunks = readEvents(chunks, wireFormat, () => decoder.header, options);
    } else {
      decoder = new LatentStreamDecoder({ wireFormat: streamFormat(response.headers), maxBytes: options.maxBytes });
    }
  } catch (error) {
    await response.body.cancel();
    throw error;
  }
  const frames = receive(chunks, decoder, options);
  const first = await frames.next(); // null, as soon as there is a header
  if (first.done || decoder.header === null) throw new StreamError("the stream has no header");
  return new LatentStream(decoder.header, response.headers, frames);
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
  { signal, onBytes }: GenerateOptions,
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
    // In an event stream, the event after the frame with the error has the reason, which next() then throws.
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
async function* chunksOf(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<Uint8Array, void, undefined> {
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

/** Throw StreamError if a response is not an event stream. */
function requireEvents(headers: Headers): void {
  const contentType = contentTypeOf(headers);
  if (contentType !== EVENT_STREAM) {
    throw new StreamError(`the response is not an event stream: its Content-Type is ${contentType || "missing"}`);
  }
}

function contentTypeOf(headers: Headers): string {
  return (headers.get("Content-Type") ?? "").split(";")[0]!.trim().toLowerCase();
}

/** Return the wire format of a response. Throws StreamError if it is not a stream that can be decoded here. */
function streamFormat(headers: Headers): WireFormat {
  const contentType = contentTypeOf(headers);
  const found = (["msgpack", "protobuf"] as const).find((format) => contentType.endsWith(format));
  if (found === undefined) {
    throw new StreamError(`the response is not a latent stream: its Content-Type is ${contentType || "missing"}`);
  }
  if (headers.has("Codec-Zstd-Dict")) {
    throw new StreamError("the response is compressed with a zstd dictionary, which this client does not support");
  }
  return found;
}
