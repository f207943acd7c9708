/** The part below the image that states what was sent, and what it replaced. */

import { byId, setText, setVisible } from "./elements.js";
import type { Decoded } from "./decoders.js";
import { formatBytes, formatDuration, formatRatio } from "./format.js";
import { compare } from "./pixels.js";
import { type Received, sizeOf } from "./received.js";
import type { FileSizes } from "./size-table.js";

/** Show the bytes and times of a result. */
export function showSummary(received: Received, decoded: Decoded, files: FileSizes): void {
  const bytes = sizeOf(received);
  const isVideo = decoded.pixels.frames.length > 1;
  const [what, file, same] = isVideo ? ["video", "PNG files", "The same frames take"] : ["image", "a PNG file", "The same image takes"];
  setText("saved-bytes", `${formatBytes(bytes)} of latents`);
  setText(
    "saved-text",
    (decoded.onServer
      ? `are enough for this ${what}. Here the server decoded them, so it sent pixels too. `
      : `arrived, and this browser drew the ${what} from them. `) +
      `${same} ${formatBytes(files.png)} as ${file} (${formatRatio(files.png, bytes)} as much), ` +
      `${formatBytes(files.jpeg)} as JPEG and ${formatBytes(files.webp)} as WebP, which are lossy.`,
  );
  setText("time-generate", formatDuration(received.generationMs));
  setText("time-send", formatDuration(received.sendingMs));
  setText("decoded-by", decoded.description);
  setText("time-decode", formatDuration(decoded.milliseconds));
  setText("check-result", "");
  setVisible(!decoded.onServer, "check");
  setVisible(true, "saved");
}

/** Show how the pixels of this browser differ from those of the server. */
export function showCheck(browser: Decoded, server: Decoded): void {
  const { largest, equal, psnr } = compare(browser.pixels, server.pixels);
  byId("check-result", HTMLElement).textContent =
    largest === 0
      ? "The server decoded exactly the same pixels."
      : `${(100 * equal).toFixed(2)} % of the pixels are equal to those of the server. The largest difference is ` +
        `${largest} of 255, PSNR ${psnr.toFixed(1)} dB.`;
}
