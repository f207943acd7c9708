/** Generation of latents on a server, over HTTP. */

import { send, urlOf } from "./connection.js";
import { StreamError, UnexpectedAnswer } from "./errors.js";
import { readEvents } from "./event-stream.js";
import { chunksOf, type LatentStream, openStream, type StreamOptions } from "./latent-stream.js";
import type { WireFormat } from "./reader.js";
import { GENERATION_PATHS, type GenerationRequest, requestBody } from "./request.js";
import { errorOf } from "./server-errors.js";
import { LatentStreamDecoder } from "./stream-decoder.js";

/** With a listener of EventListeners, the stream is requested as Server-Sent Events. */
export interface GenerateOptions extends StreamOptions {
  /** Default: msgpack. */
  readonly wireFormat?: WireFormat | undefined;
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
  return openStream(response.headers, chunks, decoder, options);
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
    throw new StreamError(
      "the response is compressed with a zstd dictionary, which fetch cannot decompress: request the content codings br, gzip",
    );
  }
  return found;
}
