/** One generation and what was received of it. */

import {
  type DecodedLatents,
  generate,
  type GenerationRequest,
  type LatentStreamHeader,
  type Preview,
  type Progress,
} from "codec-latents";

import { SERVER } from "./urls.js";

/** A latent stream, complete or not. */
export interface Received {
  header: LatentStreamHeader | null;
  mapHash: string | null;
  model: string | null;
  seed: bigint | null;
  readonly latents: DecodedLatents[];
  /** The bytes of the stream, in pieces. */
  readonly parts: Uint8Array<ArrayBuffer>[];
  /** Number of sampling steps that were completed, and of all. */
  progress: Progress | null;
  /** Milliseconds from the request to the first frame, and from there to the last one. */
  generationMs: number;
  sendingMs: number;
}

export interface ReceiveOptions {
  readonly signal: AbortSignal;
  readonly apiKey: string | undefined;
  /** Hash of the latent-space map that the page knows. */
  readonly pinnedMap: string | undefined;
  readonly onProgress?: (progress: Progress) => void;
  readonly onPreview?: (preview: Preview, header: LatentStreamHeader) => void;
  readonly onFrame?: (frames: number, total: number) => void;
}

/** Return an empty stream, which `receive` fills. */
export function nothingReceived(): Received {
  return {
    ...{ header: null, mapHash: null, model: null, seed: null, progress: null, generationMs: 0, sendingMs: 0 },
    ...{ latents: [], parts: [] },
  };
}

/**
 * Send a request and receive its stream into `received`, which contains what has arrived if this throws.
 *
 * Throws what `generate` of codec-latents throws.
 */
export async function receive(received: Received, request: GenerationRequest, options: ReceiveOptions): Promise<void> {
  const { onProgress, onPreview } = options;
  const begin = performance.now();
  let firstFrame = begin;
  const listeners =
    onProgress === undefined
      ? {}
      : {
          onProgress: (progress: Progress) => {
            received.progress = progress;
            onProgress(progress);
          },
          onPreview: (preview: Preview) => received.header !== null && onPreview?.(preview, received.header),
        };
  const stream = await generate(SERVER, request, {
    ...listeners,
    signal: options.signal,
    apiKey: options.apiKey,
    pinnedMap: options.pinnedMap,
    onBytes: (bytes) => received.parts.push(new Uint8Array(bytes)),
  });
  received.header = stream.header;
  received.mapHash = stream.mapHash;
  received.model = stream.model === null ? null : decodeURIComponent(stream.model);
  received.seed = stream.seed;
  for await (const latents of stream) {
    if (received.latents.length === 0) firstFrame = performance.now();
    received.latents.push(latents);
    options.onFrame?.(received.latents.length, stream.header.totalFrames ?? 1);
  }
  received.generationMs = firstFrame - begin;
  received.sendingMs = performance.now() - firstFrame;
}

/** Return the size of a stream in bytes. */
export function sizeOf({ parts }: Received): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}
