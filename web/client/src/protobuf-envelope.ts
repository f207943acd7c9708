/** Messages as protobuf, without the length prefix. The field numbers are those of codec/latents/v1/stream.proto. */

import { createFrame, createHeader, type LatentFrame, type LatentStreamHeader } from "./messages.js";
import { FieldReader } from "./protobuf.js";

/** Return the header in `payload`. Throws MalformedMessage naming the field that is not valid. */
export function parseHeader(payload: Uint8Array<ArrayBuffer>): LatentStreamHeader {
  const reader = new FieldReader(payload, "LatentStreamHeader");
  const fields = {
    latentSpaceId: reader.string(1) ?? "",
    shape: reader.packedUint32(2).map(BigInt),
    dtype: reader.string(3) ?? "",
    pipeline: reader.string(4) ?? "",
    scales: reader.bytes(5),
    fps: toBigInt(reader.uint32(6)),
    totalFrames: toBigInt(reader.uint32(7)),
    vaeScaleFactor: reader.float(8),
  };
  reader.end();
  return createHeader(fields);
}

/** Return the frame in `payload`. An absent field has its default value. Throws MalformedMessage. */
export function parseFrame(payload: Uint8Array<ArrayBuffer>): LatentFrame {
  const reader = new FieldReader(payload, "LatentFrame");
  const fields = {
    data: reader.bytes(1) ?? new Uint8Array(0),
    seq: BigInt(reader.uint32(2) ?? 0),
    keyframe: reader.bool(3) ?? false,
    done: reader.bool(4) ?? false,
    finishReason: reader.string(5),
  };
  reader.end();
  return createFrame(fields);
}

function toBigInt(value: number | null): bigint | null {
  return value === null ? null : BigInt(value);
}
