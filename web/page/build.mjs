// node build.mjs [--script-only] [FOLDER]
//
// Writes page.js, which is part of the repository, and the decoder for browsers, which is not, to codec_http/page. With
// --script-only, the decoder is left out.

import { copyFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";

const { values, positionals } = parseArgs({
  options: { "script-only": { type: "boolean", default: false } },
  allowPositionals: true,
});
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const target = positionals[0] ?? here("../../codec_http/page");
const ORT = here("node_modules/onnxruntime-web/dist");
const options = {
  alias: { "codec-latents": here("../client/src/index.ts") },
  bundle: true,
  format: "esm",
  target: "es2022",
  outdir: target,
  charset: "utf8",
  legalComments: "none",
  logLevel: "warning",
};

await build({ ...options, entryPoints: { page: here("src/main.ts") } });
if (!values["script-only"]) {
  const decoders = { "decoder-wasm": here("src/decoder-wasm.ts"), "decoder-webgpu": here("src/decoder-webgpu.ts") };
  await build({ ...options, entryPoints: decoders, minify: true });
  await copyFile(`${ORT}/ort-wasm-simd-threaded.wasm`, `${target}/ort-wasm.wasm`);
  await copyFile(`${ORT}/ort-wasm-simd-threaded.asyncify.wasm`, `${target}/ort-webgpu.wasm`);
}
