/** Approximate pixels of latents without a VAE. */

import { InvalidMap } from "./errors.js";

/** Largest latent that is used, as in fp16; larger ones are clamped. */
const MAX_VALUE = 65504;

type Colour = readonly [red: number, green: number, blue: number];

/** The linear function of a latent cell that is nearest to the mean colour of its pixels. */
export interface LatentRgb {
  /** Id of the latent space. */
  readonly latent_space: string;
  /** The share of each latent channel in red, green and blue. */
  readonly matrix: readonly Colour[];
  /** The colour of a latent of zeros; 0 is black, 1 is the full intensity. */
  readonly bias: Colour;
}

/** Pixels as the constructor of ImageData accepts them. */
export interface RgbaImage {
  readonly width: number;
  readonly height: number;
  /** Red, green, blue and 255 for each pixel, by rows. */
  readonly data: Uint8ClampedArray<ArrayBuffer>;
}

/** Return the matrix in a parsed JSON document. Throws InvalidMap naming the key that is not valid. */
export function parseLatentRgb(document: unknown): LatentRgb {
  const { latent_space, matrix, bias } = (document ?? {}) as Partial<Record<keyof LatentRgb, unknown>>;
  if (typeof latent_space !== "string") throw new InvalidMap("latent-to-RGB matrix: invalid latent_space");
  if (!Array.isArray(matrix) || matrix.length === 0 || !matrix.every(isColour)) {
    throw new InvalidMap("latent-to-RGB matrix: invalid matrix");
  }
  if (!isColour(bias)) throw new InvalidMap("latent-to-RGB matrix: invalid bias");
  return { latent_space, matrix, bias };
}

function isColour(value: unknown): value is Colour {
  return Array.isArray(value) && value.length === 3 && value.every(Number.isFinite);
}

/**
 * Return the approximate colours of one latent frame [C, h, w], one pixel per latent cell.
 *
 * An image has as many pixels per cell along each side as the VAE has (8 for Stable Diffusion): scale it up to show it.
 * Values that are not finite are drawn too. Throws RangeError if the latents have another number of channels than the
 * matrix.
 */
export function latentToRgb(
  latents: { readonly shape: readonly number[]; readonly values: Float32Array },
  { matrix, bias }: LatentRgb,
): RgbaImage {
  const [channels, height, width] = latents.shape;
  if (latents.shape.length !== 3 || channels !== matrix.length || height === undefined || width === undefined) {
    throw new RangeError(`latents must have the shape [${matrix.length}, h, w], got [${latents.shape.join(", ")}]`);
  }
  const cells = height * width;
  const data = new Uint8ClampedArray(4 * cells).fill(255);
  for (let cell = 0; cell < cells; cell++) {
    let [red, green, blue] = bias as [number, number, number];
    for (let channel = 0; channel < channels; channel++) {
      const value = latents.values[channel * cells + cell]!;
      const clamped = Number.isNaN(value) ? 0 : Math.max(-MAX_VALUE, Math.min(MAX_VALUE, value));
      const share = matrix[channel]!;
      red += clamped * share[0];
      green += clamped * share[1];
      blue += clamped * share[2];
    }
    // The array clamps, and rounds halves to even, as the Python client does.
    data[4 * cell] = red * 255;
    data[4 * cell + 1] = green * 255;
    data[4 * cell + 2] = blue * 255;
  }
  return { width, height, data };
}
