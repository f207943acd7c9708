/** The table of pipelines. To add one of the existing kinds, add a row: no other code depends on pipeline names. */

/** Origin of the per-channel scales: none, sent once in the header, or sent in front of every keyframe. */
export type ScaleOrigin = "none" | "static" | "per keyframe";

export interface Pipeline {
  readonly name: string;
  readonly scales: ScaleOrigin;
  /** Width of a quantized value; null if values are not quantized. */
  readonly bits: 4 | 8 | null;
  /** Largest quantized value Q: codes are in [-Q, Q]. 0 if values are not quantized. */
  readonly maxCode: number;
  /** Whether frames that are not keyframes contain residuals to the last keyframe. */
  readonly delta: boolean;
}

function row(name: string, scales: ScaleOrigin, bits: 4 | 8 | null, delta: boolean): [string, Pipeline] {
  return [name, { name, scales, bits, maxCode: bits === null ? 0 : 2 ** (bits - 1) - 1, delta }];
}

/** Pipelines by name. */
export const PIPELINES: ReadonlyMap<string, Pipeline> = new Map([
  row("raw", "none", null, false),
  row("int8", "static", 8, false),
  row("int4", "static", 4, false),
  row("int8-adaptive", "per keyframe", 8, false),
  row("int4-adaptive", "per keyframe", 4, false),
  row("delta+int8", "per keyframe", 8, true),
  row("delta+int4", "per keyframe", 4, true),
]);

/** Return the size in bytes of the data of one frame. `itemBytes` is the size of a value of the latent dtype. */
export function frameSize(
  pipeline: Pipeline,
  shape: readonly number[],
  itemBytes: number,
  keyframe: boolean,
): number {
  const count = shape.reduce((product, length) => product * length, 1);
  const valueBytes = pipeline.bits === null ? count * itemBytes : Math.ceil((count * pipeline.bits) / 8);
  return valueBytes + (pipeline.scales === "per keyframe" && keyframe ? 2 * shape[0]! : 0);
}
