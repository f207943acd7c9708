/** Decoded pixels: drawing, files and differences. */

/** The pixels of an image, or of each frame of a video. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  /** Red, green, blue and 255 for each pixel, by rows; one array for each frame. */
  readonly frames: readonly Uint8ClampedArray<ArrayBuffer>[];
}

/** The difference of two images of the same size. */
export interface Difference {
  /** Largest difference of two values, of 255. */
  readonly largest: number;
  /** Share of the pixels that are equal, from 0 to 1. */
  readonly equal: number;
  /** Peak signal-to-noise ratio in dB; infinite for equal images. */
  readonly psnr: number;
}

/** Draw one frame at its own size. */
export function draw(canvas: HTMLCanvasElement, { width, height, frames }: Pixels, frame = 0): void {
  canvas.width = width;
  canvas.height = height;
  contextOf(canvas).putImageData(new ImageData(frames[frame]!, width, height), 0, 0);
}

/** Draw a small image over the whole canvas, whose size becomes `width` x `height`. */
export function drawScaled(canvas: HTMLCanvasElement, small: ImageData, width: number, height: number): void {
  const source = new OffscreenCanvas(small.width, small.height);
  source.getContext("2d")!.putImageData(small, 0, 0);
  canvas.width = width;
  canvas.height = height;
  const context = contextOf(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
}

function contextOf(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  return canvas.getContext("2d")!;
}

/** Return one frame as a file. JPEG and WebP have the quality 90 of 100. */
export async function fileOf(
  { width, height, frames }: Pixels,
  type: "image/png" | "image/jpeg" | "image/webp",
  frame = 0,
): Promise<Blob> {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")!.putImageData(new ImageData(frames[frame]!, width, height), 0, 0);
  return canvas.convertToBlob({ type, quality: 0.9 });
}

/** Return the difference of all frames of two images or videos. Throws RangeError if their sizes differ. */
export function compare(left: Pixels, right: Pixels): Difference {
  requireSameSize(left, right);
  let [largest, equal, squares] = [0, 0, 0];
  const pixels = left.width * left.height;
  for (const [index, frame] of left.frames.entries()) {
    const other = right.frames[index]!;
    for (let pixel = 0; pixel < 4 * pixels; pixel += 4) {
      let different = 0;
      for (let channel = 0; channel < 3; channel++) {
        const difference = Math.abs(frame[pixel + channel]! - other[pixel + channel]!);
        different = Math.max(different, difference);
        squares += difference * difference;
      }
      largest = Math.max(largest, different);
      if (different === 0) equal += 1;
    }
  }
  const count = pixels * left.frames.length;
  return { largest, equal: equal / count, psnr: 10 * Math.log10(255 ** 2 / (squares / (3 * count))) };
}

/** Return the absolute difference of the first frames, each value multiplied by `factor`. */
export function differenceImage(left: Pixels, right: Pixels, factor: number): Pixels {
  requireSameSize(left, right);
  const [first, second] = [left.frames[0]!, right.frames[0]!];
  const data = first.map((value, index) => (index % 4 === 3 ? 255 : factor * Math.abs(value - second[index]!)));
  return { ...left, frames: [data] };
}

function requireSameSize(left: Pixels, right: Pixels): void {
  if (left.width !== right.width || left.height !== right.height || left.frames.length !== right.frames.length) {
    throw new RangeError("only images of the same size can be compared");
  }
}
