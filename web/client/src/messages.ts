/** The two messages of a latent stream, header and frame, independent of the wire format. */

import { MalformedMessage } from "./errors.js";
import { HALF_INFINITY, halvesToFloats } from "./half.js";
import { PIPELINES, type Pipeline } from "./pipelines.js";

/** Number format to which the sender casts latents before it encodes them. bf16 is not supported by the protocol. */
export type LatentDtype = "fp16" | "fp32";
/** Reason why a stream ended. */
export type FinishReason = "ok" | "length" | "stop" | "error";

const FINISH_REASONS: readonly string[] = ["ok", "length", "stop", "error"];
const MAX_UINT32 = 2 ** 32 - 1;
/** Maximum number of values in a frame. Far above any real latent; it bounds the memory that a header can request. */
const MAX_VALUES = 2 ** 28;

/** First message of a stream. */
export interface LatentStreamHeader {
  readonly latentSpaceId: string;
  /** Shape of one frame, channels first and without a batch axis. */
  readonly shape: readonly number[];
  readonly dtype: LatentDtype;
  readonly pipeline: Pipeline;
  /** The static scales, one per channel; null for pipelines that do not have them. */
  readonly scales: Float32Array | null;
  /** Frames per second; null for images. */
  readonly fps: number | null;
  /** Number of latent frames. */
  readonly totalFrames: number | null;
  readonly vaeScaleFactor: number | null;
}

/** One encoded frame. */
export interface LatentFrame {
  /** The bytes produced by the pipeline, in a buffer of their own. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** Number of the frame, from 0. */
  readonly seq: number;
  readonly keyframe: boolean;
  /** Marks the last frame, the only one that may have a finish reason. */
  readonly done: boolean;
  readonly finishReason: FinishReason | null;
}

/** The fields of a header as they were received. Integers of either envelope may be out of range. */
export interface HeaderFields {
  latentSpaceId: string;
  shape: readonly bigint[];
  dtype: string;
  pipeline: string;
  scales: Uint8Array | null;
  fps: bigint | null;
  totalFrames: bigint | null;
  vaeScaleFactor: number | null;
}

/** Return the header with these fields. Throws MalformedMessage naming the field that is not valid. */
export function createHeader(fields: HeaderFields): LatentStreamHeader {
  const { latentSpaceId, dtype, vaeScaleFactor } = fields;
  if (latentSpaceId === "") throw new MalformedMessage("latent_space_id is empty");
  if (dtype !== "fp16" && dtype !== "fp32") {
    throw new MalformedMessage(`dtype must be one of fp16, fp32, got ${shown(dtype)}`);
  }
  const shape = createShape(fields.shape);
  const pipeline = PIPELINES.get(fields.pipeline);
  if (pipeline === undefined) {
    throw new MalformedMessage(
      `pipeline must be one of ${[...PIPELINES.keys()].join(", ")}, got ${shown(fields.pipeline)}`,
    );
  }
  if ((fields.scales !== null) !== (pipeline.scales === "static")) {
    const rule = fields.scales === null ? "are required" : "are not allowed";
    throw new MalformedMessage(`scales ${rule} in the header for pipeline ${pipeline.name}`);
  }
  const scales = fields.scales === null ? null : parseScales(fields.scales, shape[0]!);
  const fps = createCount("fps", fields.fps);
  const totalFrames = createCount("total_frames", fields.totalFrames);
  if (vaeScaleFactor !== null && !(vaeScaleFactor > 0 && vaeScaleFactor < Infinity)) {
    throw new MalformedMessage(`vae_scale_factor must be positive and finite, got ${vaeScaleFactor}`);
  }
  return { latentSpaceId, shape, dtype, pipeline, scales, fps, totalFrames, vaeScaleFactor };
}

function createShape(sizes: readonly bigint[]): number[] {
  const shape = sizes.map(Number);
  if (shape.length < 2 || !shape.every((size) => size >= 1 && size <= MAX_UINT32)) {
    throw new MalformedMessage(`shape must have two or more dimensions of at least 1, got [${sizes.join(", ")}]`);
  }
  if (shape.reduce((product, size) => product * size, 1) > MAX_VALUES) {
    throw new MalformedMessage(`shape must have at most ${MAX_VALUES} values, got [${sizes.join(", ")}]`);
  }
  return shape;
}

function createCount(name: string, value: bigint | null): number | null {
  if (value !== null && !(value >= 1n && value <= MAX_UINT32)) {
    throw new MalformedMessage(`${name} must be from 1 to ${MAX_UINT32}, got ${value}`);
  }
  return value === null ? null : Number(value);
}

/** The fields of a frame as they were received. */
export interface FrameFields {
  data: Uint8Array<ArrayBuffer>;
  seq: bigint;
  keyframe: boolean;
  done: boolean;
  finishReason: string | null;
}

/** Return the frame with these fields. Throws MalformedMessage naming the field that is not valid. */
export function createFrame({ data, seq, keyframe, done, finishReason }: FrameFields): LatentFrame {
  if (finishReason !== null && !FINISH_REASONS.includes(finishReason)) {
    throw new MalformedMessage(`finish_reason must be one of ${FINISH_REASONS.join(", ")}, got ${shown(finishReason)}`);
  }
  if (!(seq >= 0n && seq <= MAX_UINT32)) throw new MalformedMessage(`seq must be from 0 to ${MAX_UINT32}, got ${seq}`);
  if (finishReason !== null && !done) {
    throw new MalformedMessage(`finish_reason must be absent unless done is true, got ${finishReason}`);
  }
  return { data, seq: Number(seq), keyframe, done, finishReason: finishReason as FinishReason | null };
}

/**
 * Return the scales in `data`, little-endian fp16, one per channel.
 *
 * Throws MalformedMessage if `data` has the wrong size or a scale is negative, NaN or infinite.
 */
export function parseScales(data: Uint8Array, channels: number): Float32Array<ArrayBuffer> {
  if (data.length !== 2 * channels) {
    throw new MalformedMessage(`scales must have ${2 * channels} bytes for ${channels} channels, got ${data.length}`);
  }
  for (let index = 0; index < data.length; index += 2) {
    // Also true for NaN and for numbers with the sign bit.
    if ((data[index]! | (data[index + 1]! << 8)) >= HALF_INFINITY) {
      throw new MalformedMessage("scales must be finite and not negative");
    }
  }
  return halvesToFloats(data);
}

/** Return a received string for an error message, quoted and cut to 80 characters. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 79)}…` : text);
}
