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
  const same = isVideo ? "the same frames as PNG files" : "the same image as a PNG file";
  setText("saved-bytes", decoded.onServer ? `${formatBytes(bytes)} of latents` : `${formatBytes(bytes)} received`);
  const comparison = `instead of ${formatBytes(files.png)} for ${same}: ${formatRatio(files.png, bytes)} less data.`;
  setText(
    "saved-text",
    decoded.onServer
      ? `are enough for this ${isVideo ? "video" : "image"}, ${comparison} Here the server decoded them, so it sent pixels too.`
      : comparison,
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
