/** The ways to turn latents into pixels: in this browser, or on the server. */

import { BrowserDecoder, browserBackend, type DownloadSizes } from "./browser-decoder.js";
import type { Pixels } from "./pixels.js";
import type { Received } from "./received.js";
import { decodeOnServer } from "./server-decoder.js";
import type { ModelInfo } from "./server-info.js";

export interface DecodeOptions {
  readonly signal: AbortSignal;
  readonly apiKey: string | undefined;
  /** Called while a decoder is downloaded, and with the number of the frame that is decoded. */
  readonly report: (text: string) => void;
}

/** Pixels, and what decoded them how fast. */
export interface Decoded {
  readonly pixels: Pixels;
  /** For example "Decoded in this browser (WebAssembly)". */
  readonly description: string;
  readonly milliseconds: number;
  readonly onServer: boolean;
  /** What this browser downloaded to decode; null if the server decoded. */
  readonly downloads: DownloadSizes | null;
}

export type DecoderName = "wasm" | "webgpu" | "server";

/** Names of the decoders that this page and the server have for a model, the preferred one first. */
export async function availableDecoders(model: ModelInfo): Promise<DecoderName[]> {
  const names: DecoderName[] = [];
  const built = (document.documentElement.dataset["decoders"] ?? "").split(" ");
  const isPublished = (model.decoders ?? []).some(({ family }) => family === "onnx");
  if (isPublished && crypto.subtle !== undefined) {
    const preferred = await browserBackend();
    const backends = preferred === "webgpu" ? (["webgpu", "wasm"] as const) : (["wasm", "webgpu"] as const);
    names.push(...backends.filter((name) => built.includes(name) && (name === "wasm" || "gpu" in navigator)));
  }
  return model.decodes ? [...names, "server"] : names;
}

/**
 * Return whether the VAE of a model decodes each frame of a video independently of the others, as this page does.
 *
 * It is false for a gateway, which does not know the class of the VAE.
 */
export function decodesFramesIndependently({ pixel_checks: checks }: ModelInfo): boolean {
  return checks.length > 0 && checks.every(({ vae }) => vae === "AutoencoderKL");
}

/** Label of each decoder. */
export const DECODER_TEXTS: Readonly<Record<DecoderName, string>> = {
  webgpu: "This browser (WebGPU)",
  wasm: "This browser (WebAssembly)",
  server: "The server",
};

const browserDecoders = new Map<string, BrowserDecoder>();

/** Decode the latents that were received. Throws a CodecError, or the reason of the signal. */
export async function decode(name: DecoderName, received: Received, options: DecodeOptions): Promise<Decoded> {
  if (name === "server") {
    options.report("The server decodes the image.");
    const begin = performance.now();
    const pixels = await decodeOnServer(received, options.signal, options.apiKey);
    const milliseconds = performance.now() - begin;
    return { pixels, description: "The server decoded and sent pixels", milliseconds, onServer: true, downloads: null };
  }
  const key = `${name} ${received.header!.latentSpaceId} ${received.mapHash}`;
  const decoder = browserDecoders.get(key) ?? new BrowserDecoder(name);
  browserDecoders.set(key, decoder);
  try {
    const downloads = await decoder.load(received, options);
    const begin = performance.now();
    const pixels = await decoder.decode(received.latents, options);
    const description = `Decoded in this browser (${name === "wasm" ? "WebAssembly" : "WebGPU"})`;
    return { pixels, description, milliseconds: performance.now() - begin, onServer: false, downloads };
  } catch (error) {
    browserDecoders.delete(key);
    decoder.close();
    throw error;
  }
}
