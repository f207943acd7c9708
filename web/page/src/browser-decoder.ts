/** The decoder of this browser, which runs in a worker. */

import { type DecodedLatents, fetchDecoder, InvalidMap, UnexpectedAnswer } from "codec-latents";

import type { DecodeOptions } from "./decoders.js";
import type { Loaded, Work, WorkResult } from "./decoder-worker.js";
import type { Pixels } from "./pixels.js";
import type { Received } from "./received.js";
import { SERVER, urlOf } from "./urls.js";

/** Return the faster way to run a decoder here. A WebGPU that the CPU emulates is slower than WebAssembly. */
export async function browserBackend(): Promise<"webgpu" | "wasm"> {
  const gpu = (navigator as { gpu?: { requestAdapter(): Promise<{ info?: { isFallbackAdapter?: boolean } } | null> } }).gpu;
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return adapter && adapter.info?.isFallbackAdapter !== true ? "webgpu" : "wasm";
}

/** Sizes in bytes of what a browser needs once to decode. */
export interface DownloadSizes {
  readonly decoder: number;
  /** Null if the browser does not report it. */
  readonly runtime: number | null;
}

/** A decoder of one latent space, in its own worker. */
export class BrowserDecoder {
  readonly #worker: Worker;
  /** Rejected if the worker fails, e.g. because its script cannot be loaded. */
  readonly #failed: Promise<never>;
  #loading: Promise<DownloadSizes> | null = null;

  constructor(backend: "webgpu" | "wasm") {
    this.#worker = new Worker(urlOf(`page/decoder-${backend}.js`), { type: "module" });
    this.#failed = new Promise((_, reject) => {
      this.#worker.onerror = (event) => reject(new UnexpectedAnswer(`the decoder cannot be started: ${event.message ?? ""}`));
    });
    this.#failed.catch(() => undefined); // it is reported by #ask
  }

  /** Download the decoder of the latents in `received` and start it; only the first call has an effect. */
  load(received: Received, options: DecodeOptions): Promise<DownloadSizes> {
    this.#loading ??= this.#load(received, options);
    return this.#loading;
  }

  async #load({ header, mapHash }: Received, { signal, report }: DecodeOptions): Promise<DownloadSizes> {
    report("This browser downloads the decoder. It is needed once.");
    const decoder = await fetchDecoder(SERVER, { latentSpace: header!.latentSpaceId, signal });
    if (mapHash !== null && decoder.mapHash !== mapHash) {
      throw new InvalidMap(`the decoder belongs to the map ${decoder.mapHash}, and the latents to ${mapHash}`);
    }
    const decoderBytes = decoder.data.length;
    const loaded = await this.#ask({ model: decoder.data }, signal);
    return { decoder: decoderBytes, runtime: "loaded" in loaded ? loaded.runtimeBytes : null };
  }

  /** Return the pixels of latent frames of the shape [C, h, w]. */
  async decode(latents: readonly DecodedLatents[], { signal, report }: DecodeOptions): Promise<Pixels> {
    const frames: Uint8ClampedArray<ArrayBuffer>[] = [];
    let [width, height] = [0, 0];
    for (const { shape, values } of latents) {
      report(latents.length === 1 ? "This browser decodes the image." : `This browser decodes frame ${frames.length + 1} of ${latents.length}.`);
      const result = await this.#ask({ shape: [1, ...shape], values }, signal);
      if (!("rgba" in result)) throw new UnexpectedAnswer("the decoder returned no pixels");
      ({ width, height } = result);
      frames.push(result.rgba);
    }
    return { width, height, frames };
  }

  /** Stop the worker. */
  close(): void {
    this.#worker.terminate();
  }

  #ask(work: Work, signal: AbortSignal): Promise<Loaded | WorkResult> {
    const answer = new Promise<Loaded | WorkResult>((resolve, reject) => {
      const abort = () => reject(signal.reason);
      if (signal.aborted) return abort();
      signal.addEventListener("abort", abort, { once: true });
      this.#worker.onmessage = ({ data }: MessageEvent<Loaded | WorkResult | { error: string }>) => {
        signal.removeEventListener("abort", abort);
        if ("error" in data) reject(new UnexpectedAnswer(`the decoder failed: ${data.error}`));
        else resolve(data);
      };
      this.#worker.postMessage(work);
    });
    return Promise.race([this.#failed, answer]);
  }
}
