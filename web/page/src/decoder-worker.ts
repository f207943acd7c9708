/** The part of a worker that is the same for every runtime: it receives latents and sends pixels. */

import type { InferenceSession, Tensor } from "onnxruntime-common";

/** A request to a worker: to load a decoder, or to decode one frame. */
export type Work =
  | { readonly model: Uint8Array<ArrayBuffer> }
  | { readonly shape: readonly number[]; readonly values: Float32Array };

/** The decoder is loaded. */
export interface Loaded {
  readonly loaded: true;
  /** Size of the runtime's files as they were sent; null if the browser does not report it. */
  readonly runtimeBytes: number | null;
}

/** One decoded frame. */
export interface WorkResult {
  readonly rgba: Uint8ClampedArray<ArrayBuffer>;
  readonly width: number;
  readonly height: number;
}

/** The parts of onnxruntime-web that are used; all of its builds have them. */
interface Runtime {
  readonly env: { readonly wasm: { numThreads?: number; wasmPaths?: string | { wasm?: string | URL } } };
  readonly InferenceSession: {
    create(model: Uint8Array, options: InferenceSession.SessionOptions): Promise<InferenceSession>;
  };
  readonly Tensor: new (type: "float32", data: Float32Array, dims: readonly number[]) => Tensor;
}

/** Warnings would be written to the console as errors. */
const ERROR_SEVERITY = 3 as const;

/** Answer the messages of the page with a runtime whose WebAssembly file is `wasmFile`. */
export function serve(runtime: Runtime, executionProvider: "wasm" | "webgpu", wasmFile: string): void {
  let session: InferenceSession | null = null;
  // Threads would need a page that is isolated from other origins.
  runtime.env.wasm.numThreads = 1;
  runtime.env.wasm.wasmPaths = { wasm: new URL(wasmFile, self.location.href).href };

  async function work(request: Work): Promise<Loaded | WorkResult> {
    if ("model" in request) {
      const options = { executionProviders: [executionProvider], logSeverityLevel: ERROR_SEVERITY };
      session = await runtime.InferenceSession.create(request.model, options);
      return { loaded: true, runtimeBytes: downloadedBytes() };
    }
    const latents = new runtime.Tensor("float32", request.values, request.shape);
    const { pixels } = await session!.run({ latents });
    return toRgba((await pixels!.getData()) as Float32Array, pixels!.dims);
  }

  self.onmessage = async ({ data }: MessageEvent<Work>) => {
    try {
      self.postMessage(await work(data));
    } catch (error) {
      self.postMessage({ error: error instanceof Error ? error.message : String(error) });
    }
  };
}

/** Return the size of the files that this worker has requested, cached or not; null if the browser does not report it. */
function downloadedBytes(): number | null {
  const entries = performance.getEntriesByType("resource") as PerformanceResourceTiming[];
  return entries.reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0) || null;
}

/** Return the pixels in `values` [1, 3, height, width], which are from 0 to 1, as 8-bit numbers. */
function toRgba(values: Float32Array, dims: readonly number[]): WorkResult {
  const [height, width] = [dims[2]!, dims[3]!];
  const pixels = width * height;
  const rgba = new Uint8ClampedArray(4 * pixels).fill(255);
  for (let channel = 0; channel < 3; channel++) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      // The array rounds halves to even, as the server does. The product is rounded to float32 first, also as there.
      rgba[4 * pixel + channel] = Math.fround(values[channel * pixels + pixel]! * 255);
    }
  }
  return { rgba, width, height };
}
