/** The part below the image that states what was sent, and what it replaced. */

import type { LatentMap } from "codec-latents";

import { setText, setVisible } from "./elements.js";
import type { Decoded } from "./decoders.js";
import { describeResult } from "./fidelity.js";
import { formatBytes, formatCount, formatDuration, formatRatio } from "./format.js";
import { compare, type Pixels } from "./pixels.js";
import { type Received, sizeOf } from "./received.js";
import type { FileSizes } from "./size-table.js";

/** Show the bytes and times of a result. */
export function showSummary(received: Received, decoded: Decoded, files: FileSizes): void {
  const bytes = sizeOf(received);
  const isVideo = decoded.pixels.frames.length > 1;
  const [what, as] = isVideo ? ["video", " files"] : ["image", ""];
  const sizeAs = (format: "png" | "jpeg" | "webp") =>
    `${formatBytes(files[format])} as ${format === "webp" ? "WebP" : format.toUpperCase()}${as} (${formatRatio(files[format], bytes)} as much)`;
  setText("saved-bytes", `${formatBytes(bytes)} of latents`);
  setText(
    "saved-text",
    (decoded.onServer
      ? `are enough for this ${what}. Here the server decoded them, so it sent pixels too. `
      : `arrived, and this browser drew the ${what} from them. `) +
      `The same pixels take ${sizeAs("png")} and, with losses, ${sizeAs("jpeg")} and ${sizeAs("webp")}.`,
  );
  setText("saved-once", describeDownloads(decoded, files, bytes));
  setText("time-generate", formatDuration(received.generationMs));
  setText("time-send", formatDuration(received.sendingMs));
  setText("decoded-by", decoded.description);
  setText("time-decode", formatDuration(decoded.milliseconds));
  setText("check-result", "");
  setVisible(!decoded.onServer, "check");
  setVisible(true, "saved");
}

/** Show how exact a result is. `raw` has the pixels of the same request in the pipeline raw; null if they are not known. */
export function showFidelity({ header }: Received, { pixels }: Decoded, raw: Pixels | null, map: LatentMap | undefined): void {
  setText("saved-fidelity", describeResult(header!.pipeline.name, pixels, raw, map));
}

/** Show how the pixels of this browser differ from those of the server. */
export function showCheck(browser: Decoded, server: Decoded): void {
  const { largest, equal, psnr } = compare(browser.pixels, server.pixels);
  setText(
    "check-result",
    largest === 0
      ? "The server decoded exactly the same pixels."
      : `${(100 * equal).toFixed(2)} % of the pixels are equal to those of the server. The largest difference is ` +
          `${largest} of 255, PSNR ${psnr.toFixed(1)} dB.`,
  );
}

/** Return what the browser downloaded once in order to decode, and after how many such results less was sent in total. */
function describeDownloads({ downloads, pixels }: Decoded, files: FileSizes, bytes: number): string {
  if (downloads === null) return "";
  const { decoder, runtime } = downloads;
  const parts = [`the decoder (${formatBytes(decoder)})`];
  if (runtime !== null) parts.push(`the runtime that runs it (${formatBytes(runtime)})`);
  const what = pixels.frames.length > 1 ? "videos" : "images";
  const after: string[] = [];
  const smaller: string[] = [];
  for (const [format, size] of [["PNG", files.png], ["JPEG", files.jpeg], ["WebP", files.webp]] as const) {
    if (size <= bytes) smaller.push(format);
    else after.push(`with ${format}, after ${formatCount(Math.ceil((decoder + (runtime ?? 0)) / (size - bytes)))} ${what}`);
  }
  const sentences = [`Needed once, and then kept by this browser: ${parts.join(" and ")}.`];
  if (after.length > 0) sentences.push(`Latents like these save as much, compared ${after.join("; ")}.`);
  if (smaller.length > 0) sentences.push(`${smaller.join(" and ")} files are smaller than these latents.`);
  return sentences.join(" ");
}
