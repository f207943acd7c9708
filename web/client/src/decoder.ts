/** Decoder of the frames of one stream to latents. */

import { MalformedMessage, SequenceError, StreamFailed, TruncatedStream } from "./errors.js";
import { halvesToFloats } from "./half.js";
import { addResidual, dequantize, unpack } from "./inverse.js";
import { type LatentFrame, type LatentStreamHeader, parseScales } from "./messages.js";
import { frameSize } from "./pipelines.js";

/** The latents of one frame, scaled as in the stream: divide them by the map's vae_scale_factor for a VAE. */
export interface DecodedLatents {
  /** Number of the frame, from 0. */
  readonly seq: number;
  readonly keyframe: boolean;
  /** Channels first, for example [4, 64, 64]. */
  readonly shape: readonly number[];
  /** In C order of the shape. */
  readonly values: Float32Array<ArrayBuffer>;
  /**
   * The quantized values, to which residuals were added, and the scale of each channel; null for `raw`.
   *
   * Do not change them: the residuals of later frames are added to them.
   */
  readonly quantized: { readonly codes: Int8Array<ArrayBuffer>; readonly scales: Float32Array } | null;
}

/** Decodes the frames of one stream, in order. */
export class LatentDecoder {
  #nextSeq = 0;
  #ended = false;
  #keyCodes: Int8Array | null = null;
  #scales: Float32Array | null;

  constructor(private readonly header: LatentStreamHeader) {
    this.#scales = header.scales;
  }

  /**
   * Return the latents of `frame`.
   *
   * Throws SequenceError if the frame is out of order, MalformedMessage if its data has the wrong size or values, and
   * StreamFailed if its finish reason is "error".
   */
  decode(frame: LatentFrame): DecodedLatents {
    this.#checkOrder(frame);
    if (frame.finishReason === "error") {
      this.#ended = true;
      throw new StreamFailed(`the sender reported an error at frame ${frame.seq}`);
    }
    const { pipeline, shape, dtype } = this.header;
    const size = frameSize(pipeline, shape, dtype === "fp16" ? 2 : 4, frame.keyframe);
    if (frame.data.length !== size) {
      throw new MalformedMessage(`data of frame ${frame.seq} must have ${size} bytes, got ${frame.data.length}`);
    }
    const latents = pipeline.bits === null ? this.#decodeRaw(frame) : this.#decodeCodes(frame, pipeline.bits);
    this.#nextSeq += 1;
    this.#ended = frame.done;
    return latents;
  }

  /** Signal the end of the stream. Throws TruncatedStream unless the last frame was decoded. */
  close(): void {
    if (!this.#ended) {
      throw new TruncatedStream(`the stream ended after ${this.#nextSeq} frames, none of which has done`);
    }
  }

  #checkOrder({ seq, keyframe, done, finishReason }: LatentFrame): void {
    const { pipeline, totalFrames } = this.header;
    if (this.#ended) throw new SequenceError(`frame ${seq} follows the last frame`);
    if (seq !== this.#nextSeq) throw new SequenceError(`expected frame ${this.#nextSeq}, got ${seq}`);
    if (!keyframe && (!pipeline.delta || seq === 0)) {
      throw new SequenceError(`frame ${seq} of a ${pipeline.name} stream must be a keyframe`);
    }
    if (totalFrames === null || finishReason === "error") return;
    const complete = seq + 1 === totalFrames;
    if (complete && !done) {
      throw new SequenceError(`frame ${seq} is the last of ${totalFrames} frames, but its \`done\` is false`);
    }
    if (done && !complete && (finishReason === null || finishReason === "ok")) {
      throw new SequenceError(`frame ${seq} has \`done\` set, but the header announces ${totalFrames} frames`);
    }
  }

  #decodeRaw({ data, seq, keyframe }: LatentFrame): DecodedLatents {
    const values = this.header.dtype === "fp16" ? halvesToFloats(data) : littleEndianFloats(data);
    if (!values.every(Number.isFinite)) throw new MalformedMessage(`frame ${seq} contains NaN or Inf`);
    return { seq, keyframe, shape: this.header.shape, values, quantized: null };
  }

  #decodeCodes({ data, seq, keyframe }: LatentFrame, bits: 4 | 8): DecodedLatents {
    const { pipeline, shape } = this.header;
    const channels = shape[0]!;
    let scales = this.#scales;
    let packed = data;
    if (pipeline.scales === "per keyframe" && keyframe) {
      scales = parseScales(data.subarray(0, 2 * channels), channels);
      packed = data.subarray(2 * channels);
    }
    const count = shape.reduce((product, size) => product * size, 1);
    let codes = unpack(packed, bits, count);
    // The order of frames was checked: a keyframe precedes every residual, and frames have scales or the header does.
    if (pipeline.delta && !keyframe) codes = addResidual(this.#keyCodes!, codes, pipeline.maxCode);
    if (keyframe) this.#keyCodes = codes;
    this.#scales = scales;
    const values = dequantize(codes, scales!, pipeline.maxCode);
    return { seq, keyframe, shape, values, quantized: { codes, scales: scales! } };
  }
}

function littleEndianFloats(data: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const values = new Float32Array(data.length / 4);
  for (let index = 0; index < values.length; index++) values[index] = view.getFloat32(4 * index, true);
  return values;
}
