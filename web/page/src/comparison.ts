/** raw, int8 and int4 side by side, and their differences. */

import { byId, create, setVisible } from "./elements.js";
import { describeDifference } from "./fidelity.js";
import { formatBytes } from "./format.js";
import { differenceImage, draw, type Pixels } from "./pixels.js";
import { sizeOf } from "./received.js";
import type { Variants } from "./variants.js";

const COMPARED = ["raw", "int8", "int4"] as const;
const FACTOR = 8;

/** The images of the section "Can you see the difference?". */
export class Comparison {
  #shown: { pipeline: string; pixels: Pixels }[] = [];

  constructor() {
    byId("compare-view", HTMLElement).addEventListener("change", () => this.#draw());
  }

  /** Generate and show all images. Throws what Variants.decoded throws. */
  async run(variants: Variants, signal: AbortSignal, report: (text: string) => void): Promise<void> {
    this.clear();
    for (const [index, pipeline] of COMPARED.entries()) {
      report(`Generating ${pipeline}, ${index + 1} of ${COMPARED.length}.`);
      const { pixels } = await variants.decoded(pipeline, signal);
      this.#shown.push({ pipeline, pixels });
      this.#append(variants, pipeline, pixels);
      this.#draw();
    }
    setVisible(true, "compare-view");
    report("All three are made from the same latents. Sizes are those of the compressed responses.");
  }

  /** Remove the images. */
  clear(): void {
    this.#shown = [];
    byId("trio", HTMLElement).replaceChildren();
    setVisible(false, "compare-view");
  }

  #append(variants: Variants, pipeline: string, pixels: Pixels): void {
    const { received, wireBytes } = variants.found.get(pipeline)!;
    const size = formatBytes(wireBytes ?? sizeOf(received));
    const canvas = create("canvas");
    canvas.setAttribute("role", "img");
    const text = pipeline === "raw" ? "The reference for the other two." : describeDifference(this.#shown[0]!.pixels, pixels);
    const caption = create("figcaption", create("b", `${pipeline}, ${size}`), text);
    byId("trio", HTMLElement).append(create("figure", canvas, caption));
  }

  #draw(): void {
    const view = document.querySelector<HTMLInputElement>('input[name="view"]:checked')!.value;
    const canvases = byId("trio", HTMLElement).querySelectorAll("canvas");
    for (const [index, { pipeline, pixels }] of this.#shown.entries()) {
      const isDifference = view === "difference" && index > 0;
      draw(canvases[index]!, isDifference ? differenceImage(this.#shown[0]!.pixels, pixels, FACTOR) : pixels);
      canvases[index]!.setAttribute("aria-label", isDifference ? `Difference of ${pipeline} and raw` : `Image from ${pipeline} latents`);
    }
  }
}
