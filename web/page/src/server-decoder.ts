/** Decoding on the server. */

import { errorOf, send, UnexpectedAnswer } from "codec-latents";

import type { Pixels } from "./pixels.js";
import type { Received } from "./received.js";
import { urlOf } from "./urls.js";

/**
 * Send a received stream back to the server, and return the pixels that the server decodes.
 *
 * They are requested as an array, so that no image format changes them. Throws the error that the server reports, and ServerUnreachable.
 */
export async function decodeOnServer(received: Received, signal: AbortSignal, apiKey: string | undefined): Promise<Pixels> {
  const headers = new Headers({ Accept: "application/x-npy", "Content-Type": "application/x-msgpack" });
  if (received.mapHash !== null) headers.set("X-Codec-Map", received.mapHash);
  const url = new URL(urlOf("v1/latents/decode"));
  if (received.model !== null) url.searchParams.set("model", received.model);
  const init = { method: "POST", headers, body: new Blob(received.parts) };
  const response = await send(url.href, init, { apiKey, signal });
  if (!response.ok) throw await errorOf(response);
  return parseNpy(new Uint8Array(await response.arrayBuffer()));
}

/** Return the pixels in a .npy file of uint8 [frames, height, width, 3]. */
export function parseNpy(file: Uint8Array<ArrayBuffer>): Pixels {
  const length = file[8]! | (file[9]! << 8);
  const head = new TextDecoder("latin1").decode(file.subarray(10, 10 + length));
  const shape = /'shape': \((\d+), (\d+), (\d+), 3\)/.exec(head);
  if (shape === null || !head.includes("'|u1'")) throw new UnexpectedAnswer(`unexpected array of pixels: ${head}`);
  const [count, height, width] = shape.slice(1).map(Number) as [number, number, number];
  const pixels = width * height;
  const data = file.subarray(10 + length);
  if (data.length !== 3 * pixels * count) throw new UnexpectedAnswer("the array of pixels is incomplete");
  const frames = Array.from({ length: count }, (_, frame) => {
    const rgba = new Uint8ClampedArray(4 * pixels).fill(255);
    for (let pixel = 0, from = 3 * pixels * frame; pixel < pixels; pixel++, from += 3) {
      rgba[4 * pixel] = data[from]!;
      rgba[4 * pixel + 1] = data[from + 1]!;
      rgba[4 * pixel + 2] = data[from + 2]!;
    }
    return rgba;
  });
  return { width, height, frames };
}
