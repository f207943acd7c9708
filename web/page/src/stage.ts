/** The place on the page where the image or video is drawn. */

import { type LatentRgb, latentToRgb, type LatentStreamHeader, type Preview } from "codec-latents";

import { byId, setVisible } from "./elements.js";
import { draw, drawScaled, type Pixels } from "./pixels.js";

const DEFAULT_FPS = 8;

/** The canvas, the progress bar and the player. */
export class Stage {
  readonly #canvas = byId("canvas", HTMLCanvasElement);
  readonly #progress = byId("progress", HTMLProgressElement);
  readonly #status = byId("status", HTMLElement);
  readonly #scrub = byId("scrub", HTMLInputElement);
  readonly #play = byId("play", HTMLButtonElement);
  #pixels: Pixels | null = null;
  #fps = DEFAULT_FPS;
  #timer: number | undefined;

  constructor() {
    byId("frame", HTMLElement).classList.add("waiting");
    this.#scrub.addEventListener("input", () => {
      this.pause();
      this.#showFrame(Number(this.#scrub.value));
    });
    this.#play.addEventListener("click", () => (this.#timer === undefined ? this.play() : this.pause()));
  }

  /** The pixels that are shown; null if there are none, or only a preview. */
  get pixels(): Pixels | null {
    return this.#pixels;
  }

  /** Number of the frame that is shown. */
  get frame(): number {
    return Number(this.#scrub.value);
  }

  /** Show progress from 0 to 1 with a text. Null hides the bar. */
  report(text: string, progress: number | null = null): void {
    this.#status.textContent = text;
    this.#progress.hidden = progress === null;
    if (progress !== null) this.#progress.value = progress;
  }

  /** Show the approximate colours of a preview, scaled up to the size of the result. */
  showPreview({ latents }: Preview, { shape }: LatentStreamHeader, matrix: LatentRgb, size: string): void {
    if (latents.seq !== 0 || shape.length !== 3) return;
    const { data, width, height } = latentToRgb(latents, matrix);
    const [fullWidth, fullHeight] = size.split("x").map(Number) as [number, number];
    this.#reset();
    drawScaled(this.#canvas, new ImageData(data, width, height), fullWidth, fullHeight);
    this.#reveal("Preview of an image that is being generated");
  }

  /** Show an image, or a video with its player. */
  show(pixels: Pixels, description: string, fps: number | null): void {
    this.#reset();
    this.#pixels = pixels;
    this.#fps = fps ?? DEFAULT_FPS;
    const last = pixels.frames.length - 1;
    this.#scrub.max = String(last);
    this.#showFrame(0);
    this.#reveal(description);
    setVisible(last > 0, "player");
    if (last > 0 && !matchMedia("(prefers-reduced-motion: reduce)").matches) this.play();
  }

  /** Play the video from the frame that is shown, again and again. */
  play(): void {
    this.pause();
    const count = this.#pixels?.frames.length ?? 1;
    this.#timer = window.setInterval(() => this.#showFrame((this.frame + 1) % count), 1000 / this.#fps);
    this.#play.textContent = "Pause";
    this.#play.setAttribute("aria-pressed", "true");
  }

  /** Stop at the frame that is shown. */
  pause(): void {
    window.clearInterval(this.#timer);
    this.#timer = undefined;
    this.#play.textContent = "Play";
    this.#play.setAttribute("aria-pressed", "false");
  }

  #showFrame(frame: number): void {
    if (this.#pixels === null) return;
    draw(this.#canvas, this.#pixels, frame);
    this.#scrub.value = String(frame);
    const position = `${frame + 1} of ${this.#pixels.frames.length}`;
    byId("scrub-position", HTMLOutputElement).value = position;
    this.#scrub.setAttribute("aria-valuetext", `frame ${position}`);
  }

  #reset(): void {
    this.pause();
    this.#pixels = null;
    this.#scrub.value = "0";
    setVisible(false, "player");
  }

  #reveal(description: string): void {
    byId("frame", HTMLElement).classList.remove("waiting");
    setVisible(false, "empty");
    this.#canvas.setAttribute("aria-label", description);
  }
}
