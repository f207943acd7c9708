/** Progress and previews, which the server sends between the messages of the stream. */

import { type DecodedLatents, LatentDecoder } from "./decoder.js";
import type { LatentFrame, LatentStreamHeader } from "./messages.js";
import { PIPELINES } from "./pipelines.js";

/** Pipeline of the frames of previews, whatever the pipeline of the stream is. */
const PREVIEW_PIPELINE = PIPELINES.get("int4-adaptive")!;

/** Number of completed sampling steps. */
export interface Progress {
  readonly step: number;
  readonly totalSteps: number;
}

/** One latent frame of the model's estimate, after a step, of the finished latents. */
export interface Preview extends Progress {
  readonly latents: DecodedLatents;
}

export interface EventListeners {
  /** Called after every sampling step. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Called with every preview; the request needs `preview_every`. */
  readonly onPreview?: ((preview: Preview) => void) | undefined;
}

/** Return the latents of a preview. Its frames do not depend on each other, and the server may leave some out. */
export function decodePreview(frame: LatentFrame, header: LatentStreamHeader): DecodedLatents {
  const decoder = new LatentDecoder({ ...header, pipeline: PREVIEW_PIPELINE, scales: null, totalFrames: null });
  return { ...decoder.decode({ ...frame, seq: 0 }), seq: frame.seq };
}
