/** The same prompt and seed in every pipeline, generated when they are needed. */

import type { GenerationRequest } from "codec-latents";

import { decode, type Decoded, type DecoderName } from "./decoders.js";
import { nothingReceived, receive, type Received } from "./received.js";

/** One pipeline: its stream, and the bytes of its response as the browser counted them. */
export interface Variant {
  readonly received: Received;
  /** Size of the response body on the wire, compressed; null if the browser does not report it. */
  readonly wireBytes: number | null;
  /** Filled by `decoded`. */
  decoded: Decoded | null;
}

export interface VariantOptions {
  readonly apiKey: string | undefined;
  readonly decoder: DecoderName;
  readonly pinnedMap: string;
}

/** Waits for the entry of a response in the resource timings, which follows the end of its body. */
const TIMING_ATTEMPTS = 50;
const TIMING_INTERVAL_MS = 10;

/** The pipelines of one request. */
export class Variants {
  readonly #found = new Map<string, Variant>();

  /** `request` has the seed of the noise, so that all pipelines encode the same latents. */
  constructor(
    readonly request: GenerationRequest,
    private readonly options: VariantOptions,
  ) {}

  /** The pipelines that were generated. */
  get found(): ReadonlyMap<string, Variant> {
    return this.#found;
  }

  /** Return the stream of a pipeline; it is generated on the first call. Throws what `receive` throws. */
  async get(pipeline: string, signal: AbortSignal): Promise<Variant> {
    const known = this.#found.get(pipeline);
    if (known !== undefined) return known;
    const received = nothingReceived();
    performance.clearResourceTimings();
    await receive(received, { ...this.request, pipeline }, { ...this.options, signal });
    const variant = { received, wireBytes: await encodedSize(), decoded: null };
    this.#found.set(pipeline, variant);
    return variant;
  }

  /** Return the pixels of a pipeline. Throws what `get` and `decode` throw. */
  async decoded(pipeline: string, signal: AbortSignal): Promise<Decoded> {
    const variant = await this.get(pipeline, signal);
    const { apiKey, decoder } = this.options;
    variant.decoded ??= await decode(decoder, variant.received, { signal, apiKey, report: () => undefined });
    return variant.decoded;
  }
}

/** Return the size of the only response since the timings were cleared. */
async function encodedSize(): Promise<number | null> {
  for (let attempt = 0; attempt < TIMING_ATTEMPTS; attempt++) {
    const entries = performance.getEntriesByType("resource") as PerformanceResourceTiming[];
    const entry = entries.find(({ name }) => /\/v1\/(images|videos)\/generations$/.test(name));
    if (entry !== undefined) return entry.encodedBodySize || null;
    await new Promise((resolve) => setTimeout(resolve, TIMING_INTERVAL_MS));
  }
  return null;
}
