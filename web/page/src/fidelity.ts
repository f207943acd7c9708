/** How exact the latents of a pipeline are, in words. */

import { fetchMap, type LatentMap, PIPELINES } from "codec-latents";

import { compare, type Pixels } from "./pixels.js";
import type { ModelInfo } from "./server-info.js";
import { SERVER } from "./urls.js";

const SHARES: Readonly<Record<number, string>> = { 2: "half", 4: "a quarter of", 8: "an eighth of" };

/** Latent-space maps by the name of the model. A model without an entry has none that can be downloaded. */
export type Maps = ReadonlyMap<string, LatentMap>;

/** Download the maps of the models. */
export async function fetchMaps(models: readonly ModelInfo[]): Promise<Maps> {
  const found = new Map<string, LatentMap>();
  const download = async ({ model, latent_space_id: latentSpace, latent_map_sha256: hash }: ModelInfo) =>
    found.set(model, (await fetchMap(SERVER, { latentSpace, hash })).latentMap);
  await Promise.allSettled(models.map(download));
  return found;
}

/** Return what a pipeline does to the values of the latents, with the bounds of the map. */
export function describePipeline(name: string, map: LatentMap | undefined): string {
  const pipeline = PIPELINES.get(name);
  if (pipeline === undefined) return "";
  const { bits, delta } = pipeline;
  if (bits === null) {
    const dtype = map?.dtype ?? "fp16";
    return `The model's values in ${dtype} (${bitsOf(dtype)} bits), not rounded further.`;
  }
  const share = SHARES[bitsOf(map?.dtype ?? "fp16") / bits];
  const how = delta
    ? "Most frames hold only what has changed, which compresses well."
    : name.endsWith("-adaptive")
      ? "The rounding steps are chosen for each image."
      : "";
  return [`Values rounded to ${bits} bits, ${share} the size of raw.`, how, describeBounds(name, map)].filter(Boolean).join(" ");
}

/** Return how exact a result is. `raw` has the pixels of the same request in the pipeline raw; null if they are not known. */
export function describeResult(name: string, pixels: Pixels, raw: Pixels | null, map: LatentMap | undefined): string {
  const bits = PIPELINES.get(name)?.bits ?? null;
  if (bits === null) return `raw sends the model's values in ${map?.dtype ?? "fp16"}, not rounded further.`;
  const rounded = `${name} rounds the latents to ${bits} bits, so the result is close to that of raw, but not equal.`;
  if (raw !== null) return `${rounded} ${describeDifference(raw, pixels)}`;
  return `${rounded} ${describeBounds(name, map)}`.trim();
}

/** Return the difference of an image or video from the one of raw. */
export function describeDifference(raw: Pixels, pixels: Pixels): string {
  const { largest, psnr, equal } = compare(raw, pixels);
  if (largest === 0) return "Every pixel is equal to raw.";
  return (
    `It differs from raw by at most ${largest} of 255, PSNR ${psnr.toFixed(1)} dB. ` +
    `${Math.round(100 * equal)} % of the pixels are equal.`
  );
}

function describeBounds(name: string, map: LatentMap | undefined): string {
  const bounds = map?.pipelines.find((one) => one.name === name)?.quality_thresholds;
  const [ssim, psnr] = [bounds?.ssim_min ?? null, bounds?.psnr_min_db ?? null];
  const parts = [...(ssim === null ? [] : [`an SSIM of at least ${ssim} (1 is equal)`]), ...(psnr === null ? [] : [`a PSNR of at least ${psnr} dB`])];
  return parts.length === 0 ? "" : `The tests of this model require ${parts.join(" and ")} to the reference image.`;
}

function bitsOf(dtype: "fp16" | "fp32"): number {
  return dtype === "fp16" ? 16 : 32;
}
