/** The latent-space map. Its keys are those of the document. */

import { InvalidMap } from "./errors.js";

/** A latent-space map: how latents are encoded on the wire, and what decodes them. */
export interface LatentMap {
  readonly id: string;
  readonly version: "1";
  /** Shape of one frame at the model's own size, channels first. */
  readonly shape: readonly number[];
  readonly dtype: "fp16" | "fp32";
  /** Latents are divided by it before they are decoded to pixels. */
  readonly vae_scale_factor: number;
  /** Pipelines of the latent space. Their further keys are those of the published schema. */
  readonly pipelines: readonly MapPipeline[];
  /** Dictionaries for the content coding zstd. */
  readonly zstd_dictionaries?: readonly DictionaryEntry[];
}

/** One pipeline of a map. */
export interface MapPipeline {
  readonly name: string;
  readonly keyframe_interval_frames?: number | null;
  /** What decoded images must reach, compared with the reference image. */
  readonly quality_thresholds?: { readonly ssim_min?: number | null; readonly psnr_min_db?: number | null } | null;
}

/** One dictionary: `format` is a wire format, `hash` that of the file, sha256:<hex>. */
export interface DictionaryEntry {
  readonly format: string;
  readonly pipeline: string;
  readonly url: string;
  readonly hash: string;
}

const DICTIONARY_KEYS = ["format", "pipeline", "url", "hash"] as const;
const CHECKS: Readonly<Record<keyof LatentMap, (value: unknown) => boolean>> = {
  id: (value) => typeof value === "string" && value !== "",
  version: (value) => value === "1",
  shape: (value) => Array.isArray(value) && value.length >= 2 && value.every((size) => Number.isInteger(size) && size > 0),
  dtype: (value) => value === "fp16" || value === "fp32",
  vae_scale_factor: (value) => typeof value === "number" && value > 0,
  pipelines: (value) => Array.isArray(value) && value.every((one) => typeof one?.name === "string"),
  zstd_dictionaries: (value) =>
    value === undefined ||
    (Array.isArray(value) && value.every((one) => DICTIONARY_KEYS.every((key) => typeof one?.[key] === "string"))),
};

/** Return the map in a parsed JSON document, with all of its keys. Throws InvalidMap naming the key that is not valid. */
export function parseLatentMap(document: unknown): LatentMap {
  if (typeof document !== "object" || document === null) throw new InvalidMap("latent-space map: not an object");
  for (const [key, isValid] of Object.entries(CHECKS)) {
    if (!isValid((document as Record<string, unknown>)[key])) throw new InvalidMap(`latent-space map: invalid ${key}`);
  }
  return document as LatentMap;
}
