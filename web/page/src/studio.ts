/** What the buttons do: generate, cancel, compare, measure and save. */

import { type GenerationRequest, type LatentMap, type LatentRgb, fetchLatentRgb, InvalidRequest, NotReady } from "codec-latents";

import { Alert } from "./alert.js";
import { CodeSamples } from "./code-samples.js";
import { Comparison } from "./comparison.js";
import { decode, type Decoded, type DecoderName, decodesFramesIndependently } from "./decoders.js";
import { byId, setText, setVisible } from "./elements.js";
import { formatBytes } from "./format.js";
import { fileOf } from "./pixels.js";
import { describeProblem, describeReceived } from "./problems.js";
import { nothingReceived, receive, type ReceiveOptions, type Received, sizeOf } from "./received.js";
import type { RequestForm } from "./request-form.js";
import { fetchInfo, type ModelInfo, type ServerInfo } from "./server-info.js";
import { type FileSizes, fileSizesOf, showSizes } from "./size-table.js";
import { Stage } from "./stage.js";
import { showCheck, showFidelity, showSummary } from "./summary.js";
import { SERVER } from "./urls.js";
import { Variants } from "./variants.js";

const PREVIEWS = 10;
/** Time within which the server must report its state, so that an error can be described. */
const STATE_TIMEOUT_MS = 5000;

type ActionOptions = Pick<ReceiveOptions, "signal" | "apiKey"> & { pinnedMap: string };

/** A finished generation and what was computed from it. */
interface Result {
  readonly received: Received;
  readonly decoded: Decoded;
  readonly files: FileSizes;
  readonly pipelines: readonly string[];
  readonly variants: Variants;
  readonly map: LatentMap | undefined;
}

/** Connects the form, the stage and the sections below. Only one thing runs at a time. */
export class Studio {
  readonly #stage = new Stage();
  readonly #alert = new Alert();
  readonly #samples = new CodeSamples();
  readonly #comparison = new Comparison();
  readonly #matrices = new Map<string, Promise<LatentRgb | null>>();
  #result: Result | null = null;
  #running: AbortController | null = null;
  /** What the last generation received, unless it is complete. */
  #incomplete: Received | null = null;

  constructor(
    private readonly info: ServerInfo,
    private readonly form: RequestForm,
  ) {
    const on = (id: string, action: () => void) => byId(id, HTMLButtonElement).addEventListener("click", action);
    form.element.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#run((signal) => this.#generate(signal));
    });
    for (const event of ["input", "change"]) form.element.addEventListener(event, () => void this.#showSamples());
    on("cancel", () => this.#running?.abort());
    on("compare-cancel", () => this.#running?.abort());
    on("check", () => void this.#run((signal) => this.#check(signal)));
    on("measure", () => void this.#run((signal) => this.#measure(signal)));
    on("compare-run", () => void this.#run((signal) => this.#compare(signal)));
    on("save", () => void this.#save());
    void this.#showSamples();
  }

  /** Run an action that the buttons "Cancel" stop. Errors are shown, with a button that runs it again. */
  async #run(action: (signal: AbortSignal) => Promise<void>): Promise<void> {
    if (this.#running !== null) return;
    const { signal } = (this.#running = new AbortController());
    this.#setRunning(true);
    this.#alert.hide();
    this.form.clearProblems();
    try {
      await action(signal);
    } catch (error) {
      this.#stage.report(signal.aborted ? "Cancelled." : "");
      setText("compare-status", "");
      setText("check-result", "");
      if (!signal.aborted) await this.#showProblem(error, action);
    } finally {
      this.#running = null;
      this.#setRunning(false);
    }
  }

  async #showProblem(error: unknown, action: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const info = error instanceof NotReady ? await fetchInfo(AbortSignal.timeout(STATE_TIMEOUT_MS)) : null;
    const problem = describeProblem(error, info?.state ?? null);
    if (problem.field === "key") {
      byId("more", HTMLDetailsElement).open = true;
      byId("key", HTMLInputElement).focus();
    } else if (problem.field !== null && this.form.showProblem(problem.field, problem.text)) return;
    const known = this.#incomplete === null ? "" : describeReceived(this.#incomplete);
    this.#alert.show(problem, known, () => void this.#run(action));
  }

  #setRunning(running: boolean): void {
    setVisible(running, "cancel", "compare-cancel");
    for (const id of ["generate", "check", "measure", "compare-run"]) byId(id, HTMLButtonElement).disabled = running;
  }

  async #showSamples(): Promise<void> {
    this.#samples.show(await this.form.read());
  }

  /** Return the options of all requests of one action. Call it before the user can select another model. */
  #options(signal: AbortSignal): ActionOptions {
    return { signal, apiKey: this.form.apiKey, pinnedMap: this.form.model.latent_map_sha256 };
  }

  /** Generate what the form describes, and show it. */
  async #generate(signal: AbortSignal): Promise<void> {
    const request = await this.form.read();
    const [options, decoder, { model, map }] = [this.#options(signal), this.#decoderFor(request), this.form];
    this.#result = this.#incomplete = null;
    this.#comparison.clear();
    setText("compare-status", "");
    setVisible(false, "saved", "measure", "sizes-table", "sizes-note");
    this.#stage.report("The request is sent. It may have to wait for others.", 0);
    byId("frame", HTMLElement).scrollIntoView({ block: "nearest" }); // below the form on narrow screens
    const received = await this.#receive(request, model, options);
    const report = (text: string) => this.#stage.report(text, 1);
    const decoded = await decode(decoder, received, { ...options, report });
    const isVideo = request.modality === "video-latents";
    this.#stage.show(decoded.pixels, `${isVideo ? "Video" : "Image"} of: ${request.prompt}`, received.header!.fps);
    this.#stage.report(`Finished with seed ${received.seed ?? request.seed}.`);
    const files = await fileSizesOf(decoded.pixels, signal);
    const all = isVideo ? this.info.video_pipelines : this.info.image_pipelines;
    const pipelines = all.filter((name) => model.pipelines.includes(name));
    const variants = new Variants(withSeed(request, received.seed), { ...options, decoder });
    this.#result = { received, decoded, files, pipelines, variants, map };
    showSummary(received, decoded, files);
    showFidelity(received, decoded, null, map);
    this.#showSizes();
  }

  /**
   * Return the selected decoder, or the server's for a video whose frames cannot be decoded here.
   *
   * Throws InvalidRequest if neither can decode the video.
   */
  #decoderFor({ modality }: GenerationRequest): DecoderName {
    const { model, decoder } = this.form;
    if (modality !== "video-latents" || decodesFramesIndependently(model)) return decoder;
    if (!model.decodes) throw new InvalidRequest("modality", "this page cannot decode videos of this model, and its server does not decode.");
    return "server";
  }

  /** Receive a stream while its steps and previews are shown. What has arrived stays in #incomplete if this throws. */
  async #receive(request: GenerationRequest, model: ModelInfo, action: ActionOptions): Promise<Received> {
    const received = (this.#incomplete = nothingReceived());
    const matrix = await this.#matrix(model);
    const size = request.size ?? model.default_size;
    const options: ReceiveOptions = {
      ...action,
      onProgress: ({ step, totalSteps }) =>
        this.#stage.report(`The server computes the latents: step ${step} of ${totalSteps}.`, step / totalSteps),
      onPreview: (preview, header) => matrix !== null && this.#stage.showPreview(preview, header, matrix, size),
      onFrame: (frames, total) =>
        total > 1 && this.#stage.report(`Received ${frames} of ${total} frames, ${formatBytes(sizeOf(received))}.`, frames / total),
    };
    const every = Math.max(1, Math.round((request.steps ?? PREVIEWS) / PREVIEWS));
    try {
      await receive(received, matrix === null ? request : { ...request, preview_every: every }, options);
    } catch (error) {
      // Some schedulers have no previews.
      if (!(error instanceof InvalidRequest && error.field === "preview_every")) throw error;
      await receive(received, request, options);
    }
    this.#incomplete = null;
    return received;
  }

  /** Return the matrix with which previews are drawn; null if the server has none. */
  #matrix({ latent_space_id: latentSpace, latent_rgb_url: url }: ModelInfo): Promise<LatentRgb | null> {
    const found = this.#matrices.get(latentSpace) ?? fetchLatentRgb(SERVER, { latentSpace }).catch(() => null);
    if (url === null) return Promise.resolve(null);
    this.#matrices.set(latentSpace, found);
    return found;
  }

  #showSizes(): void {
    const { received, decoded, files, pipelines, variants } = this.#result!;
    showSizes(received, decoded.pixels, files, pipelines, variants);
  }

  /** Decode the result on the server too, and show the difference. */
  async #check(signal: AbortSignal): Promise<void> {
    const { received, decoded } = this.#result!;
    const report = (text: string) => setText("check-result", text);
    showCheck(decoded, await decode("server", received, { ...this.#options(signal), report }));
  }

  /** Generate the result once in each pipeline, for the table of sizes. */
  async #measure(signal: AbortSignal): Promise<void> {
    const { pipelines, variants } = this.#result!;
    for (const [index, pipeline] of pipelines.entries()) {
      this.#stage.report(`Measuring ${pipeline}, ${index + 1} of ${pipelines.length}.`, index / pipelines.length);
      await variants.get(pipeline, signal);
      this.#showSizes();
    }
    this.#stage.report("");
  }

  /** Show raw, int8 and int4 of the result side by side; without a result, generate one first. */
  async #compare(signal: AbortSignal): Promise<void> {
    if (this.#result === null) await this.#generate(signal);
    const { received, decoded, variants, map } = this.#result!;
    await this.#comparison.run(variants, signal, (text) => setText("compare-status", text));
    showFidelity(received, decoded, variants.found.get("raw")?.decoded?.pixels ?? null, map);
    this.#showSizes();
  }

  /** Save the frame that is shown. */
  async #save(): Promise<void> {
    const { pixels, frame } = this.#stage;
    if (pixels === null) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await fileOf(pixels, "image/png", frame));
    link.download = pixels.frames.length > 1 ? `frame-${frame + 1}.png` : "image.png";
    link.click();
    URL.revokeObjectURL(link.href);
  }
}

/** Return a request with the seed that the server selected. */
function withSeed(request: GenerationRequest, seed: bigint | null): GenerationRequest {
  return seed === null ? request : { ...request, seed };
}
