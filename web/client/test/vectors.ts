/** The conformance vectors in codec_golden/vectors. */

import { readFileSync } from "node:fs";

const FOLDER = new URL("../../../codec_golden/vectors/", import.meta.url);

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

/** Return the content of a file, in a buffer of its own. */
export function readVector(path: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(readFileSync(new URL(path, FOLDER)));
}

export const INDEX = JSON.parse(new TextDecoder().decode(readVector("index.json"))) as VectorIndex;
