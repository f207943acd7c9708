/** Half-precision numbers (fp16). */

/** fp16 infinity; larger bit patterns are NaN or have the sign bit. */
export const HALF_INFINITY = 0x7c00;

/** Return the value of the fp16 number with these 16 bits. Every fp16 number is exact in fp32. */
export function halfToNumber(bits: number): number {
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  let magnitude: number;
  if (exponent === 0) magnitude = fraction * 2 ** -24;
  else if (exponent === 0x1f) magnitude = fraction === 0 ? Infinity : NaN;
  else magnitude = (fraction + 0x400) * 2 ** (exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/** Return the values of little-endian fp16 numbers. */
export function halvesToFloats(data: Uint8Array): Float32Array<ArrayBuffer> {
  const values = new Float32Array(data.length >> 1);
  for (let index = 0; index < values.length; index++) {
    values[index] = halfToNumber(data[2 * index]! | (data[2 * index + 1]! << 8));
  }
  return values;
}
