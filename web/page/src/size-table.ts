/** The table that compares the sizes of latents and of image files. */

import { frameSize, type LatentStreamHeader, PIPELINES } from "codec-latents";

import { byId, create, setVisible } from "./elements.js";
import { formatBytes, formatCount, formatFactor } from "./format.js";
import { compare, fileOf, type Pixels } from "./pixels.js";
import { type Received, sizeOf } from "./received.js";
import type { Variants } from "./variants.js";

/** Sizes in bytes of the files of the same pixels; those of a video are the sum over its frames. */
export interface FileSizes {
  readonly png: number;
  readonly webp: number;
  readonly jpeg: number;
}

interface Row {
  readonly name: string;
  readonly bytes: number;
  readonly quality: string;
  readonly kind: "latents" | "pixels";
  readonly current: boolean;
}

/** Return the sizes of the files of all frames. Throws the reason of `signal` if it is aborted. */
export async function fileSizesOf(pixels: Pixels, signal: AbortSignal): Promise<FileSizes> {
  const sizes = { png: 0, webp: 0, jpeg: 0 };
  for (let frame = 0; frame < pixels.frames.length; frame++) {
    signal.throwIfAborted();
    for (const type of ["png", "webp", "jpeg"] as const) sizes[type] += (await fileOf(pixels, `image/${type}`, frame)).size;
  }
  return sizes;
}

/** Show the sizes of a result. `pipelines` are all that the server offers for it. */
export function showSizes(
  received: Received,
  pixels: Pixels,
  files: FileSizes,
  pipelines: readonly string[],
  variants: Variants,
): void {
  const header = received.header!;
  const isVideo = pixels.frames.length > 1;
  const measured = pipelines.every((name) => variants.found.has(name));
  const selected = header.pipeline.name;
  const envelope = sizeOf(received) - calculatedSize(selected, header); // nearly the same for every pipeline
  const rows: Row[] = pipelines.map((name) => {
    const calculated = calculatedSize(name, header) + envelope;
    const bytes = measured ? (variants.found.get(name)!.wireBytes ?? calculated) : calculated;
    return { name: `Latents, ${name}`, bytes, quality: qualityOf(name, header.dtype, variants), kind: "latents", current: name === selected };
  });
  const of = isVideo ? " files of the frames" : "";
  rows.push(
    { name: `JPEG${of}`, bytes: files.jpeg, quality: "lossy, quality 90", kind: "pixels", current: false },
    { name: `WebP${of}`, bytes: files.webp, quality: "lossy, quality 90", kind: "pixels", current: false },
    { name: `PNG${of}`, bytes: files.png, quality: "these pixels, exactly", kind: "pixels", current: false },
  );
  rows.sort((first, second) => first.bytes - second.bytes);
  const largest = Math.max(...rows.map(({ bytes }) => bytes));
  const yours = rows.find(({ current }) => current)!.bytes;
  byId("sizes-rows", HTMLElement).replaceChildren(...rows.map((row) => elementOf(row, largest, yours)));
  const { width, height } = pixels;
  const size = formatBytes(3 * width * height * pixels.frames.length);
  const what = isVideo ? `This video of ${formatCount(pixels.frames.length)} frames` : "This image";
  byId("sizes-text", HTMLElement).textContent =
    `${what} has ${width} × ${height} pixels, ${size} without compression. It was computed from ` +
    `${formatCount(header.shape.reduce((product, side) => product * side, 1) * (header.totalFrames ?? 1))} latent numbers.`;
  byId("sizes-note", HTMLElement).textContent = measured
    ? `Latents were measured: the bytes of each response, compressed for the browser as the server sends them. Without this compression, yours have ${formatBytes(sizeOf(received))}.`
    : `Sizes of latents are calculated, without compression. The button generates the ${isVideo ? "video" : "image"} once in each format and measures the responses.`;
  if (isVideo) byId("sizes-note", HTMLElement).textContent += " Video files (MP4) are not compared. They are lossy, and smaller than separate images.";
  setVisible(true, "sizes-table", "sizes-note");
  setVisible(!measured, "measure");
}

function calculatedSize(name: string, { shape, dtype, totalFrames }: LatentStreamHeader): number {
  const pipeline = PIPELINES.get(name)!;
  const itemBytes = dtype === "fp16" ? 2 : 4;
  const later = frameSize(pipeline, shape, itemBytes, !pipeline.delta);
  return frameSize(pipeline, shape, itemBytes, true) + later * ((totalFrames ?? 1) - 1);
}

/** Return how exact a pipeline is, with its difference from raw if both were decoded. */
function qualityOf(name: string, dtype: string, variants: Variants): string {
  const bits = PIPELINES.get(name)?.bits;
  if (bits === null || bits === undefined) return `values in ${dtype}, not rounded further`;
  const rounded = `values rounded to ${bits} bits`;
  const [raw, own] = ["raw", name].map((one) => variants.found.get(one)?.decoded);
  if (!raw || !own) return rounded;
  const { psnr, largest } = compare(raw.pixels, own.pixels);
  return largest === 0 ? `${rounded}, the same pixels as raw` : `${rounded}, PSNR ${psnr.toFixed(1)} dB to raw`;
}

function elementOf({ name, bytes, quality, kind, current }: Row, largest: number, yours: number): HTMLTableRowElement {
  const bar = create("div");
  bar.className = "bar";
  bar.style.width = `${(100 * bytes) / largest}%`;
  const head = create("th", name);
  head.scope = "row";
  const barCell = create("td", bar);
  barCell.className = "bar-cell";
  const row = create("tr", head, create("td", formatBytes(bytes)), create("td", formatFactor(bytes, yours)), barCell, create("td", quality));
  row.className = current ? `${kind} current` : kind;
  return row;
}
