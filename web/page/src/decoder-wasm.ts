/** Worker that decodes with WebAssembly. */

import * as runtime from "onnxruntime-web/wasm";

import { serve } from "./decoder-worker.js";

serve(runtime, "wasm", "ort-wasm.wasm");
