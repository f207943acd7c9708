// Decodes the frames of a Codec v0.3 latent stream to numbers. Supports all seven pipelines.

const BITS = {
  "raw": 0, "int8": 8, "int4": 4, "int8-adaptive": 8, "int4-adaptive": 4, "delta+int8": 8, "delta+int4": 4,
};

/** Returns the value of an IEEE 754 half-precision number, given its 16 bits. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

function halves(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.byteLength / 2 }, (_, i) => half(view.getUint16(2 * i, true)));
}

function singles(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** Returns `count` two's complement codes: one per byte, or two per byte with the low nibble first. */
function unpack(bytes, bits, count) {
  if (bits === 8) return Int8Array.from(bytes, (byte) => (byte << 24) >> 24);
  return Int8Array.from({ length: count }, (_, i) => {
    const nibble = i % 2 ? bytes[i >> 1] >> 4 : bytes[i >> 1] & 15;
    return nibble > 7 ? nibble - 16 : nibble;
  });
}

/** Decodes the frames of one stream, in order, to Float32Arrays in C order of the header's shape. */
export class LatentDecoder {
  constructor(header) {
    if (!(header.pipeline in BITS)) throw new Error(`unknown pipeline ${header.pipeline}`);
    this.header = header;
    this.count = header.shape.reduce((product, size) => product * size, 1);
    this.scales = header.scales ? halves(header.scales) : null;
    this.next = 0;
    this.ended = false;
  }

  decode(frame) {
    const { shape, dtype, pipeline } = this.header;
    if (this.ended) throw new Error(`received frame ${frame.seq} after the last frame`);
    if (frame.seq !== this.next) throw new Error(`expected frame ${this.next}, got ${frame.seq}`);
    if (frame.finish_reason === "error") throw new Error(`the server reported an error at frame ${frame.seq}`);
    this.next += 1;
    this.ended = frame.done;
    let data = frame.data;
    const bits = BITS[pipeline];
    if (bits === 0) return this.checked(dtype === "fp16" ? halves(data) : singles(data));
    const perKeyframe = pipeline.includes("adaptive") || pipeline.startsWith("delta");
    if (perKeyframe && frame.keyframe) {
      this.scales = halves(data.subarray(0, 2 * shape[0]));
      data = data.subarray(2 * shape[0]);
    }
    const largest = bits === 8 ? 127 : 7;
    let codes = unpack(data, bits, this.count);
    if (pipeline.startsWith("delta")) {
      if (frame.keyframe) this.key = codes;
      else codes = codes.map((code, i) => Math.max(-largest, Math.min(largest, this.key[i] + code)));
    }
    const perChannel = this.count / shape[0];
    // In single precision, multiplied first and then divided: the order is part of the protocol.
    return this.checked(
      Float32Array.from(codes, (code, i) =>
        Math.fround(Math.fround(code * this.scales[Math.floor(i / perChannel)]) / largest)),
    );
  }

  checked(values) {
    if (values.length !== this.count) throw new Error(`a frame must have ${this.count} values, got ${values.length}`);
    return values;
  }

  close() {
    if (!this.ended) throw new Error("the stream ended before its last frame");
  }
}
