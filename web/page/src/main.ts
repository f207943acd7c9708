/** The page: waits for the server, and connects the form with what it shows. */

import { DECODER_TEXTS, availableDecoders } from "./decoders.js";
import { byId, setOptions, setText, setVisible } from "./elements.js";
import { fetchMaps } from "./fidelity.js";
import { formatBytes } from "./format.js";
import { RequestForm } from "./request-form.js";
import { type ModelInfo, waitUntilLoaded } from "./server-info.js";
import { Studio } from "./studio.js";

const STATES: Readonly<Record<string, string>> = {
  loading: "The server is loading its model.",
  warming: "The server is preparing its model.",
  draining: "The server is shutting down.",
  failed: "The server has failed. Its log states the reason.",
};
const SETUP =
  "This copy of the page lets the server decode. To decode in the browser, install npm, run “make web” in the " +
  "repository of the server, and reload the page.";

const NO_DECODER =
  "The latents of this model cannot be decoded here: its server sends only latents, and this copy of the page has no " +
  "decoder for it.";

/** Return what the select of decoders offers, or why this browser cannot decode. */
function hintFor({ decoders }: ModelInfo, names: readonly string[]): string {
  const [decoder] = decoders ?? [];
  if (names.some((name) => name !== "server") && decoder !== undefined) {
    return `The decoder has ${formatBytes(decoder.size_bytes)} and its runtime 14 MB, with WebGPU 27 MB. The browser keeps both.`;
  }
  if (decoder === undefined) return "The server publishes no decoder of this model for browsers.";
  if (!isSecureContext) return "Browsers decode only on https:// and localhost pages.";
  return "This copy of the page has no decoder for browsers.";
}

async function start(): Promise<void> {
  const generate = byId("generate", HTMLButtonElement);
  generate.disabled = true;
  const info = await waitUntilLoaded((state) => setText("status", STATES[state] ?? "The server does not respond."));
  setText("status", "");
  const form = new RequestForm(info, info.models, await fetchMaps(info.models));
  const showDecoders = async () => {
    const decoders = await availableDecoders(form.model);
    setOptions(
      byId("decoder", HTMLSelectElement),
      decoders.map((name) => ({ value: name, text: DECODER_TEXTS[name] })),
      decoders[0],
    );
    setText("decoder-hint", hintFor(form.model, decoders));
    setText("status", decoders.length > 0 ? "" : NO_DECODER);
    generate.disabled = decoders.length === 0;
  };
  byId("model", HTMLSelectElement).addEventListener("change", () => void showDecoders());
  setVisible(!document.documentElement.dataset["decoders"], "setup");
  setText("setup", SETUP);
  setText("about", `codec-diffusers ${info.server_version}, ${form.model.model} on ${info.device ?? "another server"}.`);
  new Studio(info, form);
  await showDecoders();
}

void start();
