/** The generation request as a protobuf message. The field numbers are those of codec/latents/v1/latent_service.proto. */

import { InvalidRequest } from "./errors.js";
import { FieldWriter } from "./protobuf-writer.js";
import type { ExtraParameters, GenerationRequest, Modality, RequestLora } from "./request.js";

const MODALITIES: Readonly<Record<Modality, number>> = { "image-latents": 1, "video-latents": 2 };
const SIZE = /^([0-9]+)x([0-9]+)$/;

/** Return the GenerateRequest of a request; `progress` requests a message after every sampling step. */
export function requestMessage(request: GenerationRequest, progress: boolean): Uint8Array<ArrayBuffer> {
  const video = request.modality === "video-latents" ? request : null;
  const isRandom = request.seed !== undefined && BigInt(request.seed) === -1n;
  const message = new FieldWriter()
    .string(1, request.model)
    .string(2, request.prompt)
    .string(3, request.negative_prompt)
    .uint(4, MODALITIES[request.modality ?? "image-latents"])
    .string(5, request.latent_space)
    .string(6, request.pipeline)
    .bytes(7, request.size === undefined ? undefined : sizeMessage(request.size))
    .uint(8, unsigned("steps", request.steps))
    .uint(9, isRandom ? undefined : unsigned("seed", request.seed))
    .double(10, request.guidance_scale)
    .uint(11, unsigned("fps", video?.fps))
    .uint(12, unsigned("frames", video?.frames))
    .double(13, video?.duration_seconds)
    .uint(14, unsigned("keyframe_interval", video?.keyframe_interval))
    .uint(15, progress || undefined)
    .bytes(16, request.image)
    .bytes(17, request.control_image)
    .double(18, request.strength)
    .uint(19, isRandom || undefined)
    .bytes(20, request.latents)
    .uint(21, unsigned("preview_every", request.preview_every))
    .bytes(22, request.mask)
    .string(23, request.scheduler)
    .string(24, request.prompt_syntax);
  for (const lora of request.loras ?? []) message.bytes(25, loraMessage(lora));
  if (request.extra !== undefined) message.bytes(26, extraMessage(request.extra));
  return message.finish();
}

function loraMessage(lora: RequestLora): Uint8Array<ArrayBuffer> {
  return new FieldWriter().string(1, lora.name).double(2, lora.scale).finish();
}

function sizeMessage(size: string): Uint8Array<ArrayBuffer> {
  const [, width, height] = SIZE.exec(size) ?? [];
  if (width === undefined || height === undefined) {
    throw new InvalidRequest("size", `must be WIDTHxHEIGHT, got ${JSON.stringify(size)}`);
  }
  return new FieldWriter().uint(1, BigInt(width)).uint(2, BigInt(height)).finish();
}

function extraMessage(extra: ExtraParameters): Uint8Array<ArrayBuffer> {
  return new FieldWriter()
    .double(1, extra.true_cfg_scale)
    .double(2, extra.guidance_rescale)
    .uint(3, unsigned("extra.max_sequence_length", extra.max_sequence_length))
    .uint(4, unsigned("extra.clip_skip", extra.clip_skip))
    .finish();
}

/** Return a value that protobuf can represent. The server checks its range. */
function unsigned(field: string, value: number | bigint | undefined): bigint | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new InvalidRequest(field, `must be an integer below 2^53 or a bigint, got ${value}`);
  }
  const integer = BigInt(value);
  if (integer < 0n || integer >= 2n ** 64n) throw new InvalidRequest(field, `must be from 0 to 2^64 - 1, got ${value}`);
  return integer;
}
