/** Numbers as text. */

const NUMBER = new Intl.NumberFormat("en");

/** Return a number of bytes, for example "4.2 KB". One KB has 1,000 bytes. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} bytes`;
  const [value, unit] = bytes < 1e6 ? [bytes / 1e3, "KB"] : [bytes / 1e6, "MB"];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

/** Return a whole number with separators, for example "65,536". */
export function formatCount(value: number): string {
  return NUMBER.format(value);
}

/** Return a duration in milliseconds, for example "0.31 s". */
export function formatDuration(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  return seconds < 0.01 ? "under 0.01 s" : `${seconds < 10 ? seconds.toFixed(2) : seconds.toFixed(1)} s`;
}

/** Return `bytes` as a multiple of `base`, for example "16 times". */
export function formatRatio(bytes: number, base: number): string {
  return `${multiple(bytes, base)} times`;
}

/** Return `bytes` as a multiple of `base`, for example "16×". */
export function formatFactor(bytes: number, base: number): string {
  return `${multiple(bytes, base)}×`;
}

function multiple(bytes: number, base: number): string {
  const ratio = bytes / base;
  return ratio < 10 ? ratio.toFixed(1) : formatCount(Math.round(ratio));
}
