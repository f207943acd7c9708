/** The conformance vectors in codec_golden/vectors. */

import { inject } from "vitest";

import { bytesOfBase64 } from "./streams.js";

const FILES = inject("vectors");

/** One stream of index.json: its metadata and the paths of its files. */
export interface VectorStream {
  readonly latents: string;
  readonly dtype: "fp16" | "fp32";
  readonly shape: number[];
  readonly frames: number;
  readonly pipeline: string;
  readonly static_scales: string | null;
  readonly keyframes: number[];
  readonly msgpack: string;
  readonly protobuf: string;
  readonly reconstruction: string;
}

export interface VectorIndex {
  readonly streams: VectorStream[];
  readonly refused: { readonly msgpack: string; readonly reason: string }[];
}

/** Return the content of a file, in a new buffer. */
export function readVector(path: string): Uint8Array<ArrayBuffer> {
  return bytesOfBase64(FILES[path]!);
}

export const INDEX = JSON.parse(new TextDecoder().decode(readVector("index.json"))) as VectorIndex;
