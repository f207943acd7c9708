/** The form with the fields of a request. */

import { type GenerationRequest, type LatentMap, type Modality } from "codec-latents";

import type { DecoderName } from "./decoders.js";
import { byId, setOptions, setVisible } from "./elements.js";
import { describePipeline, type Maps } from "./fidelity.js";
import type { ModelInfo, ServerInfo } from "./server-info.js";

const FIELDS = ["prompt", "pipeline", "size", "steps", "seed", "frames", "model", "image", "strength"] as const;
const SIDES = [64, 128, 256, 384, 512, 768, 1024];

/** The form. It shows only what the selected model can do. */
export class RequestForm {
  readonly element = byId("form", HTMLFormElement);

  constructor(
    private readonly info: ServerInfo,
    private readonly models: readonly ModelInfo[],
    private readonly maps: Maps,
  ) {
    setOptions(this.#select("model"), models.map(({ model }) => ({ value: model, text: model })));
    setVisible(models.length > 1, "model-field");
    this.#adapt();
    if (info.max_steps) this.#input("steps").max = String(info.max_steps);
    this.element.addEventListener("change", () => this.#adapt());
    byId("new-seed", HTMLButtonElement).addEventListener("click", () => {
      this.#input("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
      this.element.dispatchEvent(new Event("change"));
    });
  }

  get model(): ModelInfo {
    return this.models.find(({ model }) => model === this.#select("model").value) ?? this.models[0]!;
  }

  /** The latent-space map of the selected model. */
  get map(): LatentMap | undefined {
    return this.maps.get(this.model.model);
  }

  get modality(): Modality {
    return new FormData(this.element).get("modality") === "video-latents" ? "video-latents" : "image-latents";
  }

  /** The API key; undefined if the field is empty. */
  get apiKey(): string | undefined {
    return this.#input("key").value.trim() || undefined;
  }

  /** Value of the select "Decode with". */
  get decoder(): DecoderName {
    return this.#select("decoder").value as DecoderName;
  }

  /** Return the request. An input that is empty is not sent, so that the server's default applies. */
  async read(): Promise<GenerationRequest> {
    const text = (name: string) => this.#input(name).value.trim();
    const image = this.#file();
    const common = {
      prompt: byId("prompt", HTMLTextAreaElement).value,
      pipeline: this.#select("pipeline").value,
      size: this.#select("size").value as `${number}x${number}`,
      ...(text("steps") === "" ? {} : { steps: Number(text("steps")) }),
      ...(text("seed") === "" ? {} : { seed: seedOf(text("seed")) }),
      ...(this.models.length > 1 ? { model: this.model.model } : {}),
      ...(image === null
        ? {}
        : { image: new Uint8Array(await image.arrayBuffer()), strength: Number(text("strength")) }),
    };
    if (this.modality === "image-latents") return { modality: "image-latents", ...common };
    return { modality: "video-latents", ...common, ...(text("frames") === "" ? {} : { frames: Number(text("frames")) }) };
  }

  /** Mark the field that the server refused and show the reason. Returns false if the form does not have the field. */
  showProblem(field: string, message: string): boolean {
    if (!(FIELDS as readonly string[]).includes(field)) return false;
    const input = byId(field, HTMLElement);
    const problem = byId(`${field}-problem`, HTMLElement);
    problem.textContent = message;
    problem.hidden = false;
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-errormessage", problem.id);
    input.closest("details")?.setAttribute("open", "");
    input.focus();
    return true;
  }

  /** Remove the marks of showProblem. */
  clearProblems(): void {
    for (const field of FIELDS) {
      byId(field, HTMLElement).removeAttribute("aria-invalid");
      byId(field, HTMLElement).removeAttribute("aria-errormessage");
      setVisible(false, `${field}-problem`);
    }
  }

  #adapt(): void {
    const { model, modality } = this;
    const isVideo = modality === "video-latents";
    setVisible(model.modality_supported.length > 1, "modality-field");
    const names = isVideo ? this.info.video_pipelines : this.info.image_pipelines;
    const available = names.filter((name) => model.pipelines.includes(name));
    setOptions(this.#select("pipeline"), available.map((name) => ({ value: name, text: name })), "int8");
    byId("pipeline-hint", HTMLElement).textContent = describePipeline(this.#select("pipeline").value, this.map);
    setOptions(this.#select("size"), sizesOf(model), model.default_size);
    this.#input("frames").max = String(model.max_frames);
    this.#input("frames").step = String(model.frame_multiple);
    const takesImage = model.forms.some((form) => form.startsWith(modality) && form.includes("and image"));
    setVisible(isVideo, "frames-field");
    setVisible(takesImage, "image-field");
    setVisible(takesImage && this.#file() !== null, "strength-field");
  }

  #file(): File | null {
    const field = this.#input("image");
    return field.closest("[hidden]") === null ? (field.files?.[0] ?? null) : null;
  }

  #input(id: string): HTMLInputElement {
    return byId(id, HTMLInputElement);
  }

  #select(id: string): HTMLSelectElement {
    return byId(id, HTMLSelectElement);
  }
}

/** Return a seed as a number, or as a bigint if a number is not exact. Other text is sent as it is, and refused. */
function seedOf(text: string): number | bigint {
  return /^-?\d+$/.test(text) && !Number.isSafeInteger(Number(text)) ? BigInt(text) : Number(text);
}

function sizesOf(model: ModelInfo): { value: string; text: string }[] {
  const usable = SIDES.filter((side) => side <= model.max_side && side % model.size_multiple === 0);
  const sizes = [model.default_size, ...usable.map((side) => `${side}x${side}`)];
  const areas = new Map([...new Set(sizes)].map((size) => [size, size.split("x").reduce((area, side) => area * Number(side), 1)]));
  return [...areas]
    .sort(([, first], [, second]) => first - second)
    .map(([value]) => ({ value, text: value.replace("x", " × ") }));
}
