/** The request of the form as commands and code. */

import type { GenerationRequest } from "codec-latents";

import { byId } from "./elements.js";
import { SERVER } from "./urls.js";

type Language = "curl" | "python" | "grpcurl";

const LANGUAGES: readonly Language[] = ["curl", "python", "grpcurl"];
const COPIED_MS = 2000;

/** Return the request as a command or program that saves or shows the result. */
function sampleOf(language: Language, request: GenerationRequest): string {
  const { image, ...fields } = request;
  const isVideo = request.modality === "video-latents";
  if (language === "curl") {
    const path = isVideo ? "videos" : "images";
    const body = { ...fields, ...(image === undefined ? {} : { image: "BASE64 OF THE START IMAGE" }) };
    const lines = [
      `curl -s ${SERVER}/v1/${path}/generations -o latents.bin`,
      "-H 'Content-Type: application/json' -H 'Accept: application/x-codec-msgpack'",
      `-d ${quoted(JSON.stringify(body, exact))}`,
    ];
    const file = isVideo ? "video.mp4" : "image.png";
    const decode = [`codec-diffusers decode latents.bin -o ${file}`, "# or on the server:", `# curl -s ${SERVER}/v1/latents/decode --data-binary @latents.bin -H 'Content-Type: application/x-msgpack' -o ${file}`];
    return [lines.join(" \\\n  "), ...decode].join("\n");
  }
  const [width, height] = (request.size ?? "").split("x").map(Number);
  const { size: _, modality: __, ...others } = fields;
  if (language === "python") {
    const { prompt, ...options } = others;
    const named = [
      JSON.stringify(prompt),
      ...(width && height ? [`size=(${width}, ${height})`] : []),
      ...Object.entries(options).map(([name, value]) => `${name}=${JSON.stringify(value, exact)}`),
      ...(isVideo ? ['modality="video-latents"'] : []),
      ...(image === undefined ? [] : ['image=open("start.png", "rb").read()']),
    ];
    return [
      ...(isVideo ? ["from pathlib import Path", ""] : []),
      `from codec_client import ${isVideo ? "HttpClient" : "HttpClient, decode_to_images"}`,
      "",
      `with HttpClient(${JSON.stringify(SERVER)}).blocking() as client:`,
      "    result = client.generate(",
      ...named.map((argument) => `        ${argument},`),
      "    )",
      ...(isVideo
        ? ['    Path("video.mp4").write_bytes(client.decode_to_file(result, "mp4"))']
        : [
            "    latent_map = client.latent_map(result.map_hash).latent_map",
            '    decode_to_images(result.latents, latent_map)[0].save("image.png")  # decoded on this machine',
          ]),
    ].join("\n");
  }
  const message = {
    ...others,
    ...(width && height ? { size: { width, height } } : {}),
    ...(isVideo ? { modality: "MODALITY_VIDEO_LATENTS" } : {}),
    ...(image === undefined ? {} : { image: "BASE64 OF THE START IMAGE" }),
  };
  const address = `${new URL(SERVER).hostname}:50051`;
  return [
    `grpcurl -plaintext -d ${quoted(JSON.stringify(message, exact))}`,
    `${address} codec.latents.v1.LatentService/Generate`,
  ].join(" \\\n  ");
}

function exact(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}

/** Return a text as one argument of a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The section with the samples: tabs that the arrow keys select, and a button that copies. */
export class CodeSamples {
  #language: Language = "curl";
  #request: GenerationRequest | null = null;

  constructor() {
    const tabs = byId("tabs", HTMLElement);
    for (const language of LANGUAGES) this.#tab(language).addEventListener("click", () => this.#select(language));
    tabs.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step === undefined) return;
      const index = (LANGUAGES.indexOf(this.#language) + step + LANGUAGES.length) % LANGUAGES.length;
      this.#select(LANGUAGES[index]!);
      this.#tab(this.#language).focus();
    });
    const copy = byId("copy", HTMLButtonElement);
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(byId("sample-text", HTMLElement).textContent ?? "");
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), COPIED_MS);
    });
    if (!isSecureContext) copy.hidden = true; // browsers have no clipboard there
  }

  /** Show the samples of a request. */
  show(request: GenerationRequest): void {
    this.#request = request;
    byId("sample-text", HTMLElement).textContent = sampleOf(this.#language, request);
  }

  #select(language: Language): void {
    this.#language = language;
    for (const one of LANGUAGES) {
      this.#tab(one).setAttribute("aria-selected", String(one === language));
      this.#tab(one).tabIndex = one === language ? 0 : -1;
    }
    byId("sample", HTMLElement).setAttribute("aria-labelledby", `tab-${language}`);
    if (this.#request !== null) this.show(this.#request);
  }

  #tab(language: Language): HTMLButtonElement {
    return byId(`tab-${language}`, HTMLButtonElement);
  }
}
