/** The ways to turn latents into pixels. */

import type { Pixels } from "./pixels.js";
import type { Received } from "./received.js";
import { decodeOnServer } from "./server-decoder.js";
import type { ModelInfo } from "./server-info.js";

export interface DecodeOptions {
  readonly signal: AbortSignal;
  readonly apiKey: string | undefined;
  /** Called with a text while the decoder works. */
  readonly report: (text: string) => void;
}

/** Pixels, and what decoded them how fast. */
export interface Decoded {
  readonly pixels: Pixels;
  /** For example "The server decoded and sent pixels". */
  readonly description: string;
  readonly milliseconds: number;
  readonly onServer: boolean;
}

export type DecoderName = "server";

/** Names of the decoders that this page and the server have for a model, the preferred one first. */
export async function availableDecoders(model: ModelInfo): Promise<DecoderName[]> {
  return model.decodes ? ["server"] : [];
}

/** Label of each decoder. */
export const DECODER_TEXTS: Readonly<Record<DecoderName, string>> = { server: "The server" };

/** Decode the latents that were received. Throws a CodecError, or the reason of the signal. */
export async function decode(_name: DecoderName, received: Received, options: DecodeOptions): Promise<Decoded> {
  options.report("The server decodes the latents.");
  const begin = performance.now();
  const pixels = await decodeOnServer(received, options.signal, options.apiKey);
  const milliseconds = performance.now() - begin;
  return { pixels, description: "The server decoded and sent pixels", milliseconds, onServer: true };
}
