/** Incremental reader of the messages of an uncompressed latent stream. */

import { MalformedMessage, MessageTooLarge, SequenceError, StreamError, TruncatedStream } from "./errors.js";
import { type Framer, MsgpackFramer, type ParsableMessage, ProtobufFramer } from "./framing.js";
import type { LatentFrame, LatentStreamHeader } from "./messages.js";
import { frameSize } from "./pipelines.js";

export type WireFormat = "msgpack" | "protobuf";

const MAX_HEADER_BYTES = 64 * 1024;
/** Maximum size of a frame message without its data: keys, lengths and the finish reason. */
const FRAME_OVERHEAD_BYTES = 256;

/** A message of a stream and the position at which it begins, in bytes. */
export type ReceivedMessage = { readonly offset: number } & (
  | { readonly header: LatentStreamHeader; readonly frame: null }
  | { readonly header: null; readonly frame: LatentFrame }
);

/** Return a new framer of a wire format. */
function framerOf(wireFormat: WireFormat, limit: number): Framer {
  return wireFormat === "msgpack" ? new MsgpackFramer(limit) : new ProtobufFramer(limit);
}

/** Return the frame in `data`, exactly one message without a header before it. Throws MalformedMessage. */
export function parseFrameMessage(data: Uint8Array, wireFormat: WireFormat): LatentFrame {
  const framer = framerOf(wireFormat, data.length);
  framer.push(data);
  const message = framer.next();
  if (message === null || framer.pending > 0) throw new MalformedMessage("the data is not exactly one frame message");
  return message.asFrame();
}

/**
 * Parses the header and frames of one stream from chunks of any size.
 *
 * Checks each message, and that no bytes follow the last one. The order and content of frames are checked by
 * LatentDecoder. Every error has the offset of the faulty message; after an error, all further calls throw it again.
 */
export class StreamReader {
  readonly #framer: Framer;
  readonly #maxBytes: number;
  #received = 0;
  #headerReceived = false;
  #done = false;
  #failure: StreamError | null = null;

  /** `maxBytes` limits the size of the whole stream. */
  constructor(wireFormat: WireFormat, maxBytes: number) {
    this.#framer = framerOf(wireFormat, MAX_HEADER_BYTES);
    this.#maxBytes = maxBytes;
  }

  /** Add received bytes. */
  push(chunk: Uint8Array): void {
    if (this.#failure !== null) return;
    this.#received += chunk.length;
    this.#framer.push(chunk);
  }

  /**
   * Return the next message, or null if more bytes are needed.
   *
   * Throws MalformedMessage, MessageTooLarge, or SequenceError if bytes follow the last frame.
   */
  next(): ReceivedMessage | null {
    if (this.#failure !== null) throw this.#failure;
    const offset = this.#framer.offset;
    try {
      if (this.#received > this.#maxBytes) {
        throw new MessageTooLarge(`the stream has more than ${this.#maxBytes} bytes (maxBytes)`);
      }
      if (this.#done) {
        if (this.#framer.pending === 0) return null;
        throw new SequenceError(`${this.#framer.pending} bytes follow the last frame`);
      }
      const message = this.#framer.next();
      return message === null ? null : this.#parse(message, offset);
    } catch (error) {
      this.#failure = error instanceof StreamError ? error.at(offset) : null;
      throw this.#failure ?? error;
    }
  }

  /** Signal the end of the stream. Throws TruncatedStream if the last frame was not received completely. */
  close(): void {
    if (this.#failure !== null) throw this.#failure;
    if (this.#done) return;
    const { offset, pending } = this.#framer;
    const missing = this.#headerReceived ? "a frame with done" : "a header";
    this.#failure = new TruncatedStream(
      pending > 0
        ? `the stream ends within a message, after ${pending} of its bytes`
        : `the stream ends without ${missing}`,
      offset,
    );
    throw this.#failure;
  }

  #parse(message: ParsableMessage, offset: number): ReceivedMessage {
    if (this.#headerReceived) {
      const frame = message.asFrame();
      this.#done = frame.done;
      return { offset, header: null, frame };
    }
    const header = message.asHeader();
    this.#headerReceived = true;
    const itemBytes = header.dtype === "fp16" ? 2 : 4;
    this.#framer.limit = frameSize(header.pipeline, header.shape, itemBytes, true) + FRAME_OVERHEAD_BYTES;
    const totalBytes = frameSize(header.pipeline, header.shape, itemBytes, false) * (header.totalFrames ?? 1);
    if (totalBytes > this.#maxBytes) {
      throw new MessageTooLarge(
        `the header announces ${totalBytes} bytes of frames, the maximum is ${this.#maxBytes} (maxBytes)`,
      );
    }
    return { offset, header, frame: null };
  }
}
