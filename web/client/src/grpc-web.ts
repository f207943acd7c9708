/** Generation of latents over gRPC-Web, the form of gRPC that browsers can use. A proxy, e.g. Envoy, translates it. */

import { send, urlOf } from "./connection.js";
import { ByteQueue } from "./byte-queue.js";
import { MalformedMessage, MessageTooLarge, TruncatedStream, UnexpectedAnswer } from "./errors.js";
import { requestMessage } from "./grpc-request.js";
import { statusError } from "./grpc-status.js";
import { chunksOf, type LatentStream, openStream, type StreamOptions } from "./latent-stream.js";
import type { LatentStreamHeader } from "./messages.js";
import { decodePreview, type Progress } from "./progress.js";
import { parseFrame } from "./protobuf-envelope.js";
import { bytesOf, type Fields, fieldsOf, numberOf } from "./protobuf-fields.js";
import type { GenerationRequest } from "./request.js";
import { errorOf } from "./server-errors.js";
import { LatentStreamDecoder, MAX_BYTES } from "./stream-decoder.js";

const PATH = "/codec.latents.v1.LatentService/Generate";
const CONTENT_TYPE = "application/grpc-web+proto";
const PREFIX_BYTES = 5;
const TRAILERS = 0x80;
/** Numbers of the fields of GenerateResponse. */
const HEADER = 1;
const FRAME = 2;
const PROGRESS = 3;
const PREVIEW = 5;

/**
 * Send a generation request to a gRPC-Web proxy, and return its stream when the header was received.
 *
 * `proxy` is the URL of the proxy. Otherwise it is used like `generate`: the same requests, results and errors.
 */
export async function generateGrpcWeb(
  proxy: string,
  request: GenerationRequest,
  options: StreamOptions = {},
): Promise<LatentStream> {
  const headers = new Headers({ "Content-Type": CONTENT_TYPE, Accept: CONTENT_TYPE, "X-Grpc-Web": "1" });
  if (options.pinnedMap !== undefined) headers.set("X-Codec-Map", options.pinnedMap);
  const body = framed(requestMessage(request, options.onProgress !== undefined), 1);
  const response = await send(urlOf(proxy, PATH), { method: "POST", headers, body }, options);
  const refused = statusError(response.headers); // a call that ends before its first message may have no trailers
  if (refused === null && !response.ok) throw await errorOf(response);
  const contentType = response.headers.get("Content-Type") ?? "missing";
  if (refused !== null || response.body === null || !contentType.startsWith("application/grpc-web")) {
    await response.body?.cancel();
    throw refused ?? new UnexpectedAnswer(`${proxy} does not speak gRPC-Web: its Content-Type is ${contentType}`);
  }
  const decoder = new LatentStreamDecoder({ wireFormat: "protobuf", maxBytes: options.maxBytes });
  const messages = readMessages(chunksOf(response.body), options.maxBytes ?? MAX_BYTES);
  return openStream(response.headers, readResponses(messages, () => decoder.header, options), decoder, options);
}

/** Yield the messages of the latent stream, as over HTTP, in those of a call, and call the listeners. */
async function* readResponses(
  messages: AsyncIterable<Fields>,
  headerOf: () => LatentStreamHeader | null,
  { onProgress, onPreview }: StreamOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const message of messages) {
    const part = bytesOf(message, HEADER) ?? bytesOf(message, FRAME);
    if (part !== null) yield framed(part, 0);
    const step = bytesOf(message, PROGRESS);
    if (step !== null) onProgress?.(positionIn(fieldsOf(step)));
    const preview = bytesOf(message, PREVIEW);
    const header = headerOf();
    if (preview !== null && header !== null && onPreview !== undefined) {
      const fields = fieldsOf(preview);
      const frame = parseFrame(bytesOf(fields, 3) ?? new Uint8Array(0));
      onPreview({ ...positionIn(fields), latents: decodePreview(frame, header) });
    }
  }
}

function positionIn(fields: Fields): Progress {
  return { step: numberOf(fields, 1), totalSteps: numberOf(fields, 2) };
}

/**
 * Yield the messages of a response body, and read the trailers at its end.
 *
 * Throws the error that the status in the trailers reports, TruncatedStream if there are no trailers, MalformedMessage or
 * MessageTooLarge.
 */
async function* readMessages(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<Fields, void, undefined> {
  const queue = new ByteQueue();
  for await (const chunk of chunks) {
    queue.push(chunk);
    while (queue.length >= PREFIX_BYTES) {
      let size = 0;
      for (let index = 1; index < PREFIX_BYTES; index++) size = size * 256 + queue.peek(index);
      if (size > maxBytes) throw new MessageTooLarge(`the message has ${size} bytes, the maximum is ${maxBytes} (maxBytes)`);
      if (queue.length < PREFIX_BYTES + size) break;
      const [flags] = queue.take(PREFIX_BYTES);
      const payload = queue.take(size);
      if (flags === TRAILERS) {
        const error = statusError(trailersIn(payload));
        if (error !== null) throw error;
        return;
      }
      if (flags !== 0) throw new MalformedMessage(`a gRPC-Web frame has the flags ${flags}, which are not supported`);
      yield fieldsOf(payload);
    }
  }
  throw new TruncatedStream("the response ended without the status of the call");
}

function trailersIn(payload: Uint8Array): Headers {
  const trailers = new Headers();
  for (const line of new TextDecoder().decode(payload).split("\r\n")) {
    const [name] = line.split(":", 1);
    if (name) trailers.append(name, line.slice(name.length + 1));
  }
  return trailers;
}

/** Return `message` after `flagBytes` zero bytes and its length: a gRPC-Web frame, or a message of the HTTP body. */
function framed(message: Uint8Array, flagBytes: 0 | 1): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(flagBytes + 4 + message.length);
  new DataView(frame.buffer).setUint32(flagBytes, message.length);
  frame.set(message, flagBytes + 4);
  return frame;
}
