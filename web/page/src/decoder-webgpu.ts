/** Worker that decodes with WebGPU. */

import * as runtime from "onnxruntime-web/webgpu";

import { serve } from "./decoder-worker.js";

serve(runtime, "webgpu", "ort-webgpu.wasm");
