// ../client/src/errors.ts
var CodecError = class extends Error {
  /** Identifies the class on the wire. */
  static code = "internal";
  /** Field of the request that caused the error, by its wire name; null if there is none. */
  field = null;
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
  /** Identifies the class on the wire. */
  get code() {
    return this.constructor.code;
  }
};
var FieldError = class extends CodecError {
  constructor(field, message) {
    super(`${field}: ${message}`);
    this.field = field;
  }
  field;
};
var InvalidRequest = class extends FieldError {
  static code = "invalid_request";
};
var NotFound = class extends FieldError {
  static code = "not_found";
};
var Unauthenticated = class extends CodecError {
  static code = "unauthenticated";
};
var Forbidden = class extends CodecError {
  static code = "forbidden";
};
var MapMismatch = class extends CodecError {
  static code = "map_mismatch";
};
var TooLarge = class extends CodecError {
  static code = "too_large";
};
var UnsupportedCoding = class extends CodecError {
  static code = "unsupported_coding";
};
var UnsupportedMediaType = class extends CodecError {
  static code = "unsupported_media_type";
};
var RequestTimeout = class extends CodecError {
  static code = "request_timeout";
};
var NotAcceptable = class extends CodecError {
  static code = "not_acceptable";
};
var UnsupportedModality = class extends CodecError {
  constructor(message, supported) {
    super(message);
    this.supported = supported;
  }
  supported;
  static code = "unsupported_modality";
  field = "modality";
};
var RetryableError = class extends CodecError {
  constructor(message, retryAfterS) {
    super(message);
    this.retryAfterS = retryAfterS;
  }
  retryAfterS;
};
var Overloaded = class extends RetryableError {
  static code = "overloaded";
};
var NotReady = class extends RetryableError {
  static code = "not_ready";
};
var OutOfMemory = class extends CodecError {
  static code = "out_of_memory";
};
var OutOfStorage = class extends CodecError {
  static code = "out_of_storage";
};
var DeadlineExceeded = class extends CodecError {
  static code = "deadline_exceeded";
};
var Cancelled = class extends CodecError {
  static code = "cancelled";
};
var InvalidLatents = class extends CodecError {
  static code = "invalid_latents";
};
var InvalidMap = class extends CodecError {
  static code = "invalid_map";
};
var ServerUnreachable = class extends CodecError {
  static code = "server_unreachable";
};
var UnexpectedAnswer = class extends CodecError {
  static code = "unexpected_answer";
};
var StreamError = class extends CodecError {
  constructor(reason, offset = null) {
    super(offset === null ? reason : `at byte ${offset}: ${reason}`);
    this.reason = reason;
    this.offset = offset;
  }
  reason;
  offset;
  static code = "stream_error";
  /** Return the same error with the position of the faulty message. */
  at(offset) {
    return new this.constructor(this.reason, offset);
  }
};
var MalformedMessage = class extends StreamError {
  static code = "malformed_message";
};
var MessageTooLarge = class extends StreamError {
  static code = "message_too_large";
};
var SequenceError = class extends StreamError {
  static code = "sequence_error";
};
var TruncatedStream = class extends StreamError {
  static code = "truncated_stream";
};
var StreamFailed = class extends StreamError {
  static code = "stream_failed";
};

// ../client/src/connection.ts
function urlOf(server, path) {
  return server.replace(/\/+$/, "").replace(/\/v1$/, "") + path;
}
async function send(url, init, options) {
  const headers = new Headers(init.headers);
  if (options.apiKey !== void 0) headers.set("Authorization", `Bearer ${options.apiKey}`);
  try {
    return await fetch(url, { ...init, headers, redirect: "error", signal: options.signal ?? null });
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new ServerUnreachable(`cannot connect to ${url}: ${reasonOf(error)}`);
  }
}
async function readAtMost(response, maxBytes) {
  const chunks = [];
  let size2 = 0;
  for (const reader = response.body?.getReader(); reader !== void 0; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    size2 += value.length;
    if (size2 > maxBytes) {
      await reader.cancel();
      return null;
    }
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}
function reasonOf(error) {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}

// ../client/src/downloads.ts
var WELL_KNOWN_PATH = "/.well-known/codec";
function allowedUrl(server, url) {
  const base = new URL(urlOf(server, "/"));
  if (!URL.canParse(url, base)) throw new InvalidMap(`${server} sent an invalid URL: ${url}`);
  const resolved = new URL(url, base);
  if (resolved.origin === base.origin) return resolved.href;
  if (resolved.pathname.startsWith(`${WELL_KNOWN_PATH}/`)) return new URL(resolved.pathname, base).href;
  throw new InvalidMap(`${server} refers to ${url}, which is of another origin`);
}
async function download(url, maxBytes, options) {
  const response = await send(url, {}, options);
  if (!response.ok) throw new InvalidMap(`cannot download ${url}: HTTP status ${response.status}`);
  let document2;
  try {
    document2 = await readAtMost(response, maxBytes);
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new InvalidMap(`cannot download ${url}: ${reasonOf(error)}`);
  }
  if (document2 === null) throw new InvalidMap(`${url} is larger than ${maxBytes} bytes, the maximum for this file`);
  return document2;
}
async function digestOf(data) {
  if (globalThis.crypto?.subtle === void 0) {
    throw new InvalidMap("hashes cannot be verified here: browsers have WebCrypto only on https:// and localhost pages");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return `sha256:${[...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
function parseJson(document2, url) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(document2));
  } catch {
    throw new InvalidMap(`${url} is not JSON`);
  }
}

// ../client/src/latent-rgb.ts
var MAX_VALUE = 65504;
function parseLatentRgb(document2) {
  const { latent_space, matrix, bias } = document2 ?? {};
  if (typeof latent_space !== "string") throw new InvalidMap("latent-to-RGB matrix: invalid latent_space");
  if (!Array.isArray(matrix) || matrix.length === 0 || !matrix.every(isColour)) {
    throw new InvalidMap("latent-to-RGB matrix: invalid matrix");
  }
  if (!isColour(bias)) throw new InvalidMap("latent-to-RGB matrix: invalid bias");
  return { latent_space, matrix, bias };
}
function isColour(value) {
  return Array.isArray(value) && value.length === 3 && value.every(Number.isFinite);
}
function latentToRgb(latents, { matrix, bias }) {
  const [channels, height, width] = latents.shape;
  if (latents.shape.length !== 3 || channels !== matrix.length || height === void 0 || width === void 0) {
    throw new RangeError(`latents must have the shape [${matrix.length}, h, w], got [${latents.shape.join(", ")}]`);
  }
  const cells = height * width;
  const data = new Uint8ClampedArray(4 * cells).fill(255);
  for (let cell = 0; cell < cells; cell++) {
    let [red, green, blue] = bias;
    for (let channel = 0; channel < channels; channel++) {
      const value = latents.values[channel * cells + cell];
      const clamped = Number.isNaN(value) ? 0 : Math.max(-MAX_VALUE, Math.min(MAX_VALUE, value));
      const share = matrix[channel];
      red += clamped * share[0];
      green += clamped * share[1];
      blue += clamped * share[2];
    }
    data[4 * cell] = red * 255;
    data[4 * cell + 1] = green * 255;
    data[4 * cell + 2] = blue * 255;
  }
  return { width, height, data };
}

// ../client/src/map-document.ts
var DICTIONARY_KEYS = ["format", "pipeline", "url", "hash"];
var CHECKS = {
  id: (value) => typeof value === "string" && value !== "",
  version: (value) => value === "1",
  shape: (value) => Array.isArray(value) && value.length >= 2 && value.every((size2) => Number.isInteger(size2) && size2 > 0),
  dtype: (value) => value === "fp16" || value === "fp32",
  vae_scale_factor: (value) => typeof value === "number" && value > 0,
  pipelines: (value) => Array.isArray(value) && value.every((one) => typeof one?.name === "string"),
  zstd_dictionaries: (value) => value === void 0 || Array.isArray(value) && value.every((one) => DICTIONARY_KEYS.every((key) => typeof one?.[key] === "string"))
};
function parseLatentMap(document2) {
  if (typeof document2 !== "object" || document2 === null) throw new InvalidMap("latent-space map: not an object");
  for (const [key, isValid] of Object.entries(CHECKS)) {
    if (!isValid(document2[key])) throw new InvalidMap(`latent-space map: invalid ${key}`);
  }
  return document2;
}

// ../client/src/maps.ts
var MAX_INDEX_BYTES = 1024 * 1024;
var MAX_MAP_BYTES = 1024 * 1024;
var MAX_RGB_BYTES = 256 * 1024;
var DIGEST = /^sha256:[0-9a-f]{64}$/;
async function fetchMap(server, selection = {}) {
  const { latentSpace, hash } = selection;
  for (const entry of await fetchIndex(server, selection)) {
    if ((latentSpace ?? entry.id) !== entry.id || (hash ?? entry.hash) !== entry.hash) continue;
    const document2 = await download(allowedUrl(server, entry.url), MAX_MAP_BYTES, selection);
    const found = await digestOf(document2);
    if (found !== entry.hash) throw new InvalidMap(`${entry.url} has the hash ${found}, expected ${entry.hash}`);
    return { latentMap: parseLatentMap(parseJson(document2, entry.url)), hash: found };
  }
  const wanted = [latentSpace, hash].filter((part) => part !== void 0).join(" ");
  throw new InvalidMap(`${server} does not publish the latent-space map ${wanted}`);
}
async function fetchLatentRgb(server, selection = {}) {
  const entries = await fetchIndex(server, selection);
  const entry = entries.find(({ id }) => id === (selection.latentSpace ?? id));
  if (entry === void 0 || entry.rgb_url === null) {
    const space = selection.latentSpace ?? "its maps";
    throw new NotFound("latent_space", `${server} has no latent-to-RGB matrix for ${space}`);
  }
  const document2 = await download(allowedUrl(server, entry.rgb_url), MAX_RGB_BYTES, selection);
  return parseLatentRgb(parseJson(document2, entry.rgb_url));
}
async function fetchIndex(server, options) {
  const url = urlOf(server, `${WELL_KNOWN_PATH}/index.json`);
  const index = parseJson(await download(url, MAX_INDEX_BYTES, options), url);
  if (!Array.isArray(index?.latents)) throw new InvalidMap(`${url} is not an index of latent-space maps`);
  return index.latents.map((entry) => {
    const { id, url: mapUrl, hash, rgb_url = null } = entry ?? {};
    if (typeof id !== "string" || typeof mapUrl !== "string" || !(rgb_url === null || typeof rgb_url === "string")) {
      throw new InvalidMap(`${url} is not an index of latent-space maps`);
    }
    if (typeof hash !== "string" || !DIGEST.test(hash)) throw new InvalidMap(`${url}: hash must be sha256:<64 hex>`);
    return { id, url: mapUrl, hash, rgb_url };
  });
}

// ../client/src/half.ts
var HALF_INFINITY = 31744;
function halfToNumber(bits) {
  const exponent = bits >> 10 & 31;
  const fraction = bits & 1023;
  let magnitude;
  if (exponent === 0) magnitude = fraction * 2 ** -24;
  else if (exponent === 31) magnitude = fraction === 0 ? Infinity : NaN;
  else magnitude = (fraction + 1024) * 2 ** (exponent - 25);
  return bits & 32768 ? -magnitude : magnitude;
}
function halvesToFloats(data) {
  const values = new Float32Array(data.length >> 1);
  for (let index = 0; index < values.length; index++) {
    values[index] = halfToNumber(data[2 * index] | data[2 * index + 1] << 8);
  }
  return values;
}

// ../client/src/inverse.ts
function unpack(data, bits, count) {
  const codes = bits === 8 ? new Int8Array(data.buffer, data.byteOffset, count) : unpackNibbles(data, count);
  const forbidden = bits === 8 ? -128 : -8;
  if (codes.includes(forbidden)) {
    throw new MalformedMessage(`codes must be from ${forbidden + 1} to ${-forbidden - 1}, got ${forbidden}`);
  }
  return codes;
}
function unpackNibbles(data, count) {
  if (count % 2 === 1 && data[data.length - 1] >> 4 !== 0) {
    throw new MalformedMessage("the unused high nibble of the last byte must be 0");
  }
  const codes = new Int8Array(count);
  for (let index = 0; index < count; index++) {
    const byte = data[index >> 1];
    codes[index] = index % 2 === 0 ? byte << 28 >> 28 : byte << 24 >> 28;
  }
  return codes;
}
function addResidual(key, residual, maxCode) {
  const codes = new Int8Array(key.length);
  for (let index = 0; index < codes.length; index++) {
    codes[index] = Math.max(-maxCode, Math.min(maxCode, key[index] + residual[index]));
  }
  return codes;
}
function dequantize(codes, scales, maxCode) {
  const values = new Float32Array(codes.length);
  const perChannel = codes.length / scales.length;
  for (let channel = 0, index = 0; channel < scales.length; channel++) {
    const scale = scales[channel];
    for (const end = index + perChannel; index < end; index++) {
      values[index] = Math.fround(codes[index] * scale) / maxCode;
    }
  }
  return values;
}

// ../client/src/pipelines.ts
function row(name, scales, bits, delta) {
  return [name, { name, scales, bits, maxCode: bits === null ? 0 : 2 ** (bits - 1) - 1, delta }];
}
var PIPELINES = new Map([
  row("raw", "none", null, false),
  row("int8", "static", 8, false),
  row("int4", "static", 4, false),
  row("int8-adaptive", "per keyframe", 8, false),
  row("int4-adaptive", "per keyframe", 4, false),
  row("delta+int8", "per keyframe", 8, true),
  row("delta+int4", "per keyframe", 4, true)
]);
function frameSize(pipeline, shape, itemBytes, keyframe) {
  const count = shape.reduce((product, length) => product * length, 1);
  const valueBytes = pipeline.bits === null ? count * itemBytes : Math.ceil(count * pipeline.bits / 8);
  return valueBytes + (pipeline.scales === "per keyframe" && keyframe ? 2 * shape[0] : 0);
}

// ../client/src/messages.ts
var FINISH_REASONS = ["ok", "length", "stop", "error"];
var MAX_UINT32 = 2 ** 32 - 1;
var MAX_VALUES = 2 ** 28;
function createHeader(fields) {
  const { latentSpaceId, dtype, vaeScaleFactor } = fields;
  if (latentSpaceId === "") throw new MalformedMessage("latent_space_id is empty");
  if (dtype !== "fp16" && dtype !== "fp32") {
    throw new MalformedMessage(`dtype must be one of fp16, fp32, got ${shown(dtype)}`);
  }
  const shape = createShape(fields.shape);
  const pipeline = PIPELINES.get(fields.pipeline);
  if (pipeline === void 0) {
    throw new MalformedMessage(
      `pipeline must be one of ${[...PIPELINES.keys()].join(", ")}, got ${shown(fields.pipeline)}`
    );
  }
  if (fields.scales !== null !== (pipeline.scales === "static")) {
    const rule = fields.scales === null ? "are required" : "are not allowed";
    throw new MalformedMessage(`scales ${rule} in the header for pipeline ${pipeline.name}`);
  }
  const scales = fields.scales === null ? null : parseScales(fields.scales, shape[0]);
  const fps = createCount("fps", fields.fps);
  const totalFrames = createCount("total_frames", fields.totalFrames);
  if (vaeScaleFactor !== null && !(vaeScaleFactor > 0 && vaeScaleFactor < Infinity)) {
    throw new MalformedMessage(`vae_scale_factor must be positive and finite, got ${vaeScaleFactor}`);
  }
  return { latentSpaceId, shape, dtype, pipeline, scales, fps, totalFrames, vaeScaleFactor };
}
function createShape(sizes) {
  const shape = sizes.map(Number);
  if (shape.length < 2 || !shape.every((size2) => size2 >= 1 && size2 <= MAX_UINT32)) {
    throw new MalformedMessage(`shape must have two or more dimensions of at least 1, got [${sizes.join(", ")}]`);
  }
  if (shape.reduce((product, size2) => product * size2, 1) > MAX_VALUES) {
    throw new MalformedMessage(`shape must have at most ${MAX_VALUES} values, got [${sizes.join(", ")}]`);
  }
  return shape;
}
function createCount(name, value) {
  if (value !== null && !(value >= 1n && value <= MAX_UINT32)) {
    throw new MalformedMessage(`${name} must be from 1 to ${MAX_UINT32}, got ${value}`);
  }
  return value === null ? null : Number(value);
}
function createFrame({ data, seq, keyframe, done, finishReason }) {
  if (finishReason !== null && !FINISH_REASONS.includes(finishReason)) {
    throw new MalformedMessage(`finish_reason must be one of ${FINISH_REASONS.join(", ")}, got ${shown(finishReason)}`);
  }
  if (!(seq >= 0n && seq <= MAX_UINT32)) throw new MalformedMessage(`seq must be from 0 to ${MAX_UINT32}, got ${seq}`);
  if (finishReason !== null && !done) {
    throw new MalformedMessage(`finish_reason must be absent unless done is true, got ${finishReason}`);
  }
  return { data, seq: Number(seq), keyframe, done, finishReason };
}
function parseScales(data, channels) {
  if (data.length !== 2 * channels) {
    throw new MalformedMessage(`scales must have ${2 * channels} bytes for ${channels} channels, got ${data.length}`);
  }
  for (let index = 0; index < data.length; index += 2) {
    if ((data[index] | data[index + 1] << 8) >= HALF_INFINITY) {
      throw new MalformedMessage("scales must be finite and not negative");
    }
  }
  return halvesToFloats(data);
}
function shown(text) {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 79)}…` : text);
}

// ../client/src/decoder.ts
var LatentDecoder = class {
  constructor(header) {
    this.header = header;
    this.#scales = header.scales;
  }
  header;
  #nextSeq = 0;
  #ended = false;
  #keyCodes = null;
  #scales;
  /**
   * Return the latents of `frame`.
   *
   * Throws SequenceError if the frame is out of order, MalformedMessage if its data has the wrong size or values, and
   * StreamFailed if its finish reason is "error".
   */
  decode(frame) {
    this.#checkOrder(frame);
    if (frame.finishReason === "error") {
      this.#ended = true;
      throw new StreamFailed(`the sender reported an error at frame ${frame.seq}`);
    }
    const { pipeline, shape, dtype } = this.header;
    const size2 = frameSize(pipeline, shape, dtype === "fp16" ? 2 : 4, frame.keyframe);
    if (frame.data.length !== size2) {
      throw new MalformedMessage(`data of frame ${frame.seq} must have ${size2} bytes, got ${frame.data.length}`);
    }
    const latents = pipeline.bits === null ? this.#decodeRaw(frame) : this.#decodeCodes(frame, pipeline.bits);
    this.#nextSeq += 1;
    this.#ended = frame.done;
    return latents;
  }
  /** Signal the end of the stream. Throws TruncatedStream unless the last frame was decoded. */
  close() {
    if (!this.#ended) {
      throw new TruncatedStream(`the stream ended after ${this.#nextSeq} frames, none of which has done`);
    }
  }
  #checkOrder({ seq, keyframe, done, finishReason }) {
    const { pipeline, totalFrames } = this.header;
    if (this.#ended) throw new SequenceError(`frame ${seq} follows the last frame`);
    if (seq !== this.#nextSeq) throw new SequenceError(`expected frame ${this.#nextSeq}, got ${seq}`);
    if (!keyframe && (!pipeline.delta || seq === 0)) {
      throw new SequenceError(`frame ${seq} of a ${pipeline.name} stream must be a keyframe`);
    }
    if (totalFrames === null || finishReason === "error") return;
    const complete = seq + 1 === totalFrames;
    if (complete && !done) {
      throw new SequenceError(`frame ${seq} is the last of ${totalFrames} frames, but its \`done\` is false`);
    }
    if (done && !complete && (finishReason === null || finishReason === "ok")) {
      throw new SequenceError(`frame ${seq} has \`done\` set, but the header announces ${totalFrames} frames`);
    }
  }
  #decodeRaw({ data, seq, keyframe }) {
    const values = this.header.dtype === "fp16" ? halvesToFloats(data) : littleEndianFloats(data);
    if (!values.every(Number.isFinite)) throw new MalformedMessage(`frame ${seq} contains NaN or Inf`);
    return { seq, keyframe, shape: this.header.shape, values, quantized: null };
  }
  #decodeCodes({ data, seq, keyframe }, bits) {
    const { pipeline, shape } = this.header;
    const channels = shape[0];
    let scales = this.#scales;
    let packed = data;
    if (pipeline.scales === "per keyframe" && keyframe) {
      scales = parseScales(data.subarray(0, 2 * channels), channels);
      packed = data.subarray(2 * channels);
    }
    const count = shape.reduce((product, size2) => product * size2, 1);
    let codes = unpack(packed, bits, count);
    if (pipeline.delta && !keyframe) codes = addResidual(this.#keyCodes, codes, pipeline.maxCode);
    if (keyframe) this.#keyCodes = codes;
    this.#scales = scales;
    const values = dequantize(codes, scales, pipeline.maxCode);
    return { seq, keyframe, shape, values, quantized: { codes, scales } };
  }
};
function littleEndianFloats(data) {
  const view2 = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const values = new Float32Array(data.length / 4);
  for (let index = 0; index < values.length; index++) values[index] = view2.getFloat32(4 * index, true);
  return values;
}

// ../client/src/progress.ts
var PREVIEW_PIPELINE = PIPELINES.get("int4-adaptive");
function decodePreview(frame, header) {
  const decoder = new LatentDecoder({ ...header, pipeline: PREVIEW_PIPELINE, scales: null, totalFrames: null });
  return { ...decoder.decode({ ...frame, seq: 0 }), seq: frame.seq };
}

// ../client/src/byte-queue.ts
var ByteQueue = class {
  #chunks = [];
  #first = 0;
  // index of the chunk that contains the next byte
  #position = 0;
  // position of the next byte in that chunk
  #length = 0;
  /** Number of bytes in the queue. */
  get length() {
    return this.#length;
  }
  /** Append `chunk`, which must not change until it was taken. */
  push(chunk) {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }
  /** Remove `count` bytes and return a copy of them. There must be as many. */
  take(count) {
    const taken = new Uint8Array(count);
    for (let filled = 0; filled < count; ) {
      const chunk = this.#chunks[this.#first];
      const part = chunk.subarray(this.#position, this.#position + count - filled);
      taken.set(part, filled);
      filled += part.length;
      this.#advance(chunk, part.length);
    }
    return taken;
  }
  /** Return the byte at `index` without removing it. There must be more than `index` bytes. */
  peek(index) {
    let position = this.#position + index;
    for (let number = this.#first; ; number++) {
      const chunk = this.#chunks[number];
      if (position < chunk.length) return chunk[position];
      position -= chunk.length;
    }
  }
  #advance(chunk, count) {
    this.#length -= count;
    this.#position += count;
    if (this.#position < chunk.length) return;
    this.#first += 1;
    this.#position = 0;
    if (this.#first === this.#chunks.length) {
      this.#chunks = [];
      this.#first = 0;
    } else if (this.#first >= 1024) {
      this.#chunks.splice(0, this.#first);
      this.#first = 0;
    }
  }
};

// ../client/src/msgpack.ts
var MAX_ITEMS = 64;
var MAX_STRING_BYTES = 4096;
var MAX_DEPTH = 1024;
var EXTENSION = /* @__PURE__ */ Symbol("msgpack extension");
var UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
function* readValue(source, depth = 0) {
  const marker = (yield* bytes(source, 1))[0];
  if (marker <= 127) return BigInt(marker);
  if (marker >= 224) return BigInt(marker - 256);
  if (marker <= 143) return yield* readMap(source, marker & 15, depth);
  if (marker <= 159) return yield* readArray(source, marker & 15, depth);
  if (marker <= 191) return yield* readString(source, marker & 31);
  switch (marker) {
    case 192:
      return null;
    case 194:
      return false;
    case 195:
      return true;
    case 196:
    case 197:
    case 198:
      return yield* bytes(source, yield* size(source, 1 << marker - 196));
    case 199:
    case 200:
    case 201:
      return yield* readExtension(source, yield* size(source, 1 << marker - 199));
    case 202:
      return view(yield* bytes(source, 4)).getFloat32(0);
    case 203:
      return view(yield* bytes(source, 8)).getFloat64(0);
    case 204:
    case 205:
    case 206:
      return BigInt(yield* size(source, 1 << marker - 204));
    case 207:
      return view(yield* bytes(source, 8)).getBigUint64(0);
    case 208:
      return BigInt(view(yield* bytes(source, 1)).getInt8(0));
    case 209:
      return BigInt(view(yield* bytes(source, 2)).getInt16(0));
    case 210:
      return BigInt(view(yield* bytes(source, 4)).getInt32(0));
    case 211:
      return view(yield* bytes(source, 8)).getBigInt64(0);
    case 212:
    case 213:
    case 214:
    case 215:
    case 216:
      return yield* readExtension(source, 1 << marker - 212);
    case 217:
    case 218:
    case 219:
      return yield* readString(source, yield* size(source, 1 << marker - 217));
    case 220:
    case 221:
      return yield* readArray(source, yield* size(source, 2 << marker - 220), depth);
    case 222:
    case 223:
      return yield* readMap(source, yield* size(source, 2 << marker - 222), depth);
    default:
      throw new MalformedMessage("not a msgpack map: the byte 0xc1 is not used");
  }
}
function* bytes(source, count) {
  while (!source.has(count)) yield;
  return source.queue.take(count);
}
function* size(source, width) {
  let value = 0;
  for (const byte of yield* bytes(source, width)) value = value * 256 + byte;
  return value;
}
function* readString(source, length) {
  const encoded = yield* bytes(source, length);
  if (length > MAX_STRING_BYTES) throw tooMany("bytes of a string", length, MAX_STRING_BYTES);
  try {
    return UTF8.decode(encoded);
  } catch {
    throw new MalformedMessage("not a msgpack map: a string is not UTF-8");
  }
}
function* readExtension(source, length) {
  yield* bytes(source, length + 1);
  if (length > 0) throw tooMany("bytes of an extension", length, 0);
  return EXTENSION;
}
function* readArray(source, count, depth) {
  checkContainer(count, depth);
  const items = [];
  while (items.length < count) items.push(yield* readValue(source, depth + 1));
  return items;
}
function* readMap(source, count, depth) {
  checkContainer(count, depth);
  const map = /* @__PURE__ */ new Map();
  for (let index = 0; index < count; index++) {
    const key = yield* readValue(source, depth + 1);
    const value = yield* readValue(source, depth + 1);
    if (typeof key !== "string" && !(key instanceof Uint8Array)) {
      throw new MalformedMessage("not a msgpack map: a key is not a string");
    }
    map.set(key, value);
  }
  if (map.size !== count) throw new MalformedMessage("a key of a msgpack map is repeated");
  return map;
}
function checkContainer(count, depth) {
  if (count > MAX_ITEMS) throw tooMany("items", count, MAX_ITEMS);
  if (depth >= MAX_DEPTH) throw new MalformedMessage(`not a msgpack map: nested more than ${MAX_DEPTH} times`);
}
function tooMany(what, count, maximum) {
  return new MalformedMessage(`not a msgpack map: ${count} ${what}, the maximum is ${maximum}`);
}
function view(data) {
  return new DataView(data.buffer);
}

// ../client/src/msgpack-envelope.ts
function parseHeader(map) {
  const message = new Message(map, HEADER_KEYS, "header");
  const type = message.required("type", isString);
  if (type !== "header") throw new MalformedMessage(`type of the first message must be "header", got ${shown(type)}`);
  const factor = message.optional("vae_scale_factor", isNumber);
  return createHeader({
    latentSpaceId: message.required("latent_space_id", isString),
    shape: message.required("shape", isIntegers),
    dtype: message.required("dtype", isString),
    pipeline: message.required("pipeline", isString),
    scales: message.optional("scales", isBinary),
    fps: message.optional("fps", isInteger),
    totalFrames: message.optional("total_frames", isInteger),
    vaeScaleFactor: factor === null ? null : Number(factor)
  });
}
function parseFrame(map) {
  const message = new Message(map, FRAME_KEYS, "frame");
  return createFrame({
    data: message.required("data", isBinary),
    seq: message.required("seq", isInteger),
    keyframe: message.required("keyframe", isBoolean),
    done: message.required("done", isBoolean),
    finishReason: message.optional("finish_reason", isString)
  });
}
var HEADER_KEYS = [
  ...["type", "latent_space_id", "shape", "dtype", "pipeline", "scales", "fps", "total_frames", "vae_scale_factor"]
];
var FRAME_KEYS = ["data", "seq", "keyframe", "done", "finish_reason"];
var isString = (value) => typeof value === "string";
var isInteger = (value) => typeof value === "bigint";
var isNumber = (value) => typeof value === "number" || typeof value === "bigint";
var isBoolean = (value) => typeof value === "boolean";
var isBinary = (value) => value instanceof Uint8Array;
var isIntegers = (value) => Array.isArray(value) && value.every(isInteger);
var Message = class {
  constructor(map, keys, kind) {
    this.map = map;
    this.kind = kind;
    for (const key of map.keys()) {
      if (typeof key !== "string" || !keys.includes(key)) {
        throw new MalformedMessage(`unknown key ${shown(String(key))} in a ${kind}`);
      }
    }
  }
  map;
  kind;
  required(name, check) {
    if (!this.map.has(name)) throw new MalformedMessage(`missing key "${name}" in a ${this.kind}`);
    return this.checked(name, check);
  }
  optional(name, check) {
    return this.map.has(name) ? this.checked(name, check) : null;
  }
  checked(name, check) {
    const value = this.map.get(name);
    if (!check(value)) throw new MalformedMessage(`${name} has a value of the wrong type in a ${this.kind}`);
    return value;
  }
};

// ../client/src/protobuf.ts
var VARINT = 0;
var LENGTH_DELIMITED = 2;
var FIXED32 = 5;
var MAX_UINT322 = 2 ** 32 - 1;
var UTF82 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
var FieldReader = class _FieldReader {
  constructor(payload, message) {
    this.payload = payload;
    this.message = message;
  }
  payload;
  message;
  #position = 0;
  /** Return the string in a field with the number `field`; null if the next field is another one. */
  string(field) {
    const encoded = this.bytes(field);
    try {
      return encoded === null ? null : UTF82.decode(encoded);
    } catch {
      throw this.#malformed(`field ${field} is not UTF-8`);
    }
  }
  /** Return a copy of the bytes in a field; null if the next field is another one. */
  bytes(field) {
    if (!this.#startsWith(field, LENGTH_DELIMITED)) return null;
    return this.#take(this.#varint());
  }
  /** Return the unsigned 32-bit integer in a field; null if the next field is another one. */
  uint32(field) {
    return this.#startsWith(field, VARINT) ? this.#varint() : null;
  }
  /** Return the boolean in a field; null if the next field is another one. */
  bool(field) {
    const value = this.uint32(field);
    if (value !== null && value > 1) throw this.#malformed(`field ${field} is not a boolean`);
    return value === null ? null : value === 1;
  }
  /** Return the 32-bit float in a field; null if the next field is another one. */
  float(field) {
    if (!this.#startsWith(field, FIXED32)) return null;
    return new DataView(this.#take(4).buffer).getFloat32(0, true);
  }
  /** Return the packed unsigned 32-bit integers in a field; an empty array if the next field is another one. */
  packedUint32(field) {
    const packed = this.bytes(field);
    if (packed === null) return [];
    if (packed.length === 0) throw this.#malformed(`field ${field} is empty`);
    const reader = new _FieldReader(packed, this.message);
    const values = [];
    while (reader.#position < packed.length) values.push(reader.#varint());
    return values;
  }
  /** Check that the message has no other fields. */
  end() {
    if (this.#position < this.payload.length) {
      throw this.#malformed("it has an unknown, repeated or misplaced field, or one of the wrong type");
    }
  }
  /** Consume the tag of a field if it is the next one. The tags of all fields below 16 have one byte. */
  #startsWith(field, wireType) {
    if (this.payload[this.#position] !== (field << 3 | wireType)) return false;
    this.#position += 1;
    return true;
  }
  #varint() {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.payload[this.#position++];
      if (byte === void 0) throw this.#malformed("it ends within a field");
      value += (byte & 127) * factor;
      if (value > MAX_UINT322) throw this.#malformed("a number is out of range");
      if (byte >= 128) continue;
      if (byte === 0 && factor > 1) throw this.#malformed("a number is longer than necessary");
      return value;
    }
  }
  #take(length) {
    const taken = this.payload.slice(this.#position, this.#position + length);
    if (taken.length < length) throw this.#malformed("it ends within a field");
    this.#position += length;
    return taken;
  }
  #malformed(reason) {
    return new MalformedMessage(`${this.payload.length} bytes cannot be parsed as ${this.message}: ${reason}`);
  }
};

// ../client/src/protobuf-envelope.ts
function parseHeader2(payload) {
  const reader = new FieldReader(payload, "LatentStreamHeader");
  const fields = {
    latentSpaceId: reader.string(1) ?? "",
    shape: reader.packedUint32(2).map(BigInt),
    dtype: reader.string(3) ?? "",
    pipeline: reader.string(4) ?? "",
    scales: reader.bytes(5),
    fps: toBigInt(reader.uint32(6)),
    totalFrames: toBigInt(reader.uint32(7)),
    vaeScaleFactor: reader.float(8)
  };
  reader.end();
  return createHeader(fields);
}
function parseFrame2(payload) {
  const reader = new FieldReader(payload, "LatentFrame");
  const fields = {
    data: reader.bytes(1) ?? new Uint8Array(0),
    seq: BigInt(reader.uint32(2) ?? 0),
    keyframe: reader.bool(3) ?? false,
    done: reader.bool(4) ?? false,
    finishReason: reader.string(5)
  };
  reader.end();
  return createFrame(fields);
}
function toBigInt(value) {
  return value === null ? null : BigInt(value);
}

// ../client/src/framing.ts
var PREFIX_BYTES = 4;
var ProtobufFramer = class {
  constructor(limit) {
    this.limit = limit;
  }
  limit;
  offset = 0;
  #queue = new ByteQueue();
  get pending() {
    return this.#queue.length;
  }
  push(chunk) {
    this.#queue.push(chunk);
  }
  next() {
    if (this.pending < PREFIX_BYTES) return null;
    let length = 0;
    for (let index = 0; index < PREFIX_BYTES; index++) length = length * 256 + this.#queue.peek(index);
    if (length > this.limit) {
      throw new MessageTooLarge(`the message has ${length} bytes, the maximum is ${this.limit}`);
    }
    if (this.pending < PREFIX_BYTES + length) return null;
    this.#queue.take(PREFIX_BYTES);
    const payload = this.#queue.take(length);
    this.offset += PREFIX_BYTES + length;
    return { asHeader: () => parseHeader2(payload), asFrame: () => parseFrame2(payload) };
  }
};
var MsgpackFramer = class {
  constructor(limit) {
    this.limit = limit;
  }
  limit;
  offset = 0;
  #queue = new ByteQueue();
  #received = 0;
  #value = null;
  get pending() {
    return this.#received - this.offset;
  }
  push(chunk) {
    this.#queue.push(chunk);
    this.#received += chunk.length;
  }
  next() {
    this.#value ??= readValue({ has: (count) => this.#has(count), queue: this.#queue });
    const result = this.#value.next();
    if (!result.done) {
      if (this.pending > this.limit) throw new MessageTooLarge(`the message has more than ${this.limit} bytes`);
      return null;
    }
    const map = result.value;
    if (!(map instanceof Map)) throw new MalformedMessage(`expected a msgpack map, got a value of another type`);
    this.#value = null;
    this.offset = this.#received - this.#queue.length;
    return { asHeader: () => parseHeader(map), asFrame: () => parseFrame(map) };
  }
  /** Bytes over the limit are never read, so that the result does not depend on the sizes of the chunks. */
  #has(count) {
    const used = this.#received - this.#queue.length - this.offset;
    return this.#queue.length >= count && used + count <= this.limit;
  }
};

// ../client/src/reader.ts
var MAX_HEADER_BYTES = 64 * 1024;
var FRAME_OVERHEAD_BYTES = 256;
function framerOf(wireFormat, limit) {
  return wireFormat === "msgpack" ? new MsgpackFramer(limit) : new ProtobufFramer(limit);
}
function parseFrameMessage(data, wireFormat) {
  const framer = framerOf(wireFormat, data.length);
  framer.push(data);
  const message = framer.next();
  if (message === null || framer.pending > 0) throw new MalformedMessage("the data is not exactly one frame message");
  return message.asFrame();
}
var StreamReader = class {
  #framer;
  #maxBytes;
  #received = 0;
  #headerReceived = false;
  #done = false;
  #failure = null;
  /** `maxBytes` limits the size of the whole stream. */
  constructor(wireFormat, maxBytes) {
    this.#framer = framerOf(wireFormat, MAX_HEADER_BYTES);
    this.#maxBytes = maxBytes;
  }
  /** Add received bytes. */
  push(chunk) {
    if (this.#failure !== null) return;
    this.#received += chunk.length;
    this.#framer.push(chunk);
  }
  /**
   * Return the next message, or null if more bytes are needed.
   *
   * Throws MalformedMessage, MessageTooLarge, or SequenceError if bytes follow the last frame.
   */
  next() {
    if (this.#failure !== null) throw this.#failure;
    const offset = this.#framer.offset;
    try {
      if (this.#received > this.#maxBytes) {
        throw new MessageTooLarge(`the stream has more than ${this.#maxBytes} bytes (maxBytes)`);
      }
      if (this.#done) {
        if (this.#framer.pending === 0) return null;
        throw new SequenceError(`${this.#framer.pending} bytes follow the last frame`);
      }
      const message = this.#framer.next();
      return message === null ? null : this.#parse(message, offset);
    } catch (error) {
      this.#failure = error instanceof StreamError ? error.at(offset) : null;
      throw this.#failure ?? error;
    }
  }
  /** Signal the end of the stream. Throws TruncatedStream if the last frame was not received completely. */
  close() {
    if (this.#failure !== null) throw this.#failure;
    if (this.#done) return;
    const { offset, pending } = this.#framer;
    const missing = this.#headerReceived ? "a frame with done" : "a header";
    this.#failure = new TruncatedStream(
      pending > 0 ? `the stream ends within a message, after ${pending} of its bytes` : `the stream ends without ${missing}`,
      offset
    );
    throw this.#failure;
  }
  #parse(message, offset) {
    if (this.#headerReceived) {
      const frame = message.asFrame();
      this.#done = frame.done;
      return { offset, header: null, frame };
    }
    const header = message.asHeader();
    this.#headerReceived = true;
    const itemBytes = header.dtype === "fp16" ? 2 : 4;
    this.#framer.limit = frameSize(header.pipeline, header.shape, itemBytes, true) + FRAME_OVERHEAD_BYTES;
    const totalBytes = frameSize(header.pipeline, header.shape, itemBytes, false) * (header.totalFrames ?? 1);
    if (totalBytes > this.#maxBytes) {
      throw new MessageTooLarge(
        `the header announces ${totalBytes} bytes of frames, the maximum is ${this.#maxBytes} (maxBytes)`
      );
    }
    return { offset, header, frame: null };
  }
};

// ../client/src/server-errors.ts
var MAX_ERROR_BYTES = 64 * 1024;
var MESSAGE_ERRORS = [
  ...[Unauthenticated, Forbidden, MapMismatch, TooLarge, UnsupportedCoding],
  ...[UnsupportedMediaType, RequestTimeout, NotAcceptable, OutOfMemory],
  ...[OutOfStorage, DeadlineExceeded, Cancelled, InvalidLatents, CodecError]
];
async function errorOf(response) {
  const body = await readAtMost(response, MAX_ERROR_BYTES).catch(() => null);
  const text = new TextDecoder().decode(body ?? new Uint8Array(0));
  const after = response.headers.get("Retry-After") ?? "";
  const retryAfterS = /^[0-9]+$/.test(after) ? Number(after) : 1;
  const detail = parseJson2(text)?.error ?? {};
  const message = typeof detail["message"] === "string" ? detail["message"] : text.slice(0, 200).trim();
  const reported = reportedError(detail, message, retryAfterS);
  if (reported !== null) return reported;
  const summary = `${response.url} returned HTTP status ${response.status}: ${message || response.statusText}`;
  if (response.status === 429) return new Overloaded(message || summary, retryAfterS);
  if (response.status === 503) return new NotReady(message || summary, retryAfterS);
  return new UnexpectedAnswer(summary);
}
function reportedErrorOf(body, retryAfterS = 1) {
  const detail = body["error"] ?? {};
  return reportedError(detail, typeof detail["message"] === "string" ? detail["message"] : "", retryAfterS);
}
function reportedError(detail, message, retryAfterS) {
  const { code, param } = detail;
  const field = typeof param === "string" ? param : "request";
  const reason = message.startsWith(`${field}: `) ? message.slice(field.length + 2) : message;
  switch (code) {
    case InvalidRequest.code:
      return new InvalidRequest(field, reason);
    case NotFound.code:
      return new NotFound(field, reason);
    case Overloaded.code:
      return new Overloaded(message, retryAfterS);
    case NotReady.code:
      return new NotReady(message, retryAfterS);
    case UnsupportedModality.code: {
      const supported = detail["supported_modalities"];
      return new UnsupportedModality(message, Array.isArray(supported) ? supported.map(String) : []);
    }
    default: {
      const found = MESSAGE_ERRORS.find((candidate) => candidate.code === code);
      return found === void 0 ? null : new found(message);
    }
  }
}
function parseJson2(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// ../client/src/event-stream.ts
var MAX_EVENT_CHARACTERS = 512 * 1024 * 1024;
async function* readEvents(chunks, wireFormat, headerOf, { onProgress, onPreview }) {
  const text = new TextDecoder();
  let buffer = "";
  for await (const chunk of chunks) {
    buffer += text.decode(chunk, { stream: true });
    for (let end; (end = buffer.indexOf("\n\n")) >= 0; ) {
      const { name, data } = parseEvent(buffer.slice(0, end));
      buffer = buffer.slice(end + 2);
      const header = headerOf();
      if (name === "header" || name === "frame") yield messageIn(data);
      else if (name === "progress") onProgress?.(positionIn(data));
      else if (name === "preview" && header !== null && onPreview !== void 0) {
        onPreview({ ...positionIn(data), latents: decodePreview(parseFrameMessage(messageIn(data), wireFormat), header) });
      } else if (name === "error") {
        throw reportedErrorOf(data) ?? new StreamFailed("the server failed; its log states the reason");
      }
    }
    if (buffer.length > MAX_EVENT_CHARACTERS) {
      throw new MalformedMessage(`an event has more than ${MAX_EVENT_CHARACTERS} characters`);
    }
  }
}
function parseEvent(text) {
  const fields = new Map(text.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
  let data = null;
  try {
    data = JSON.parse(fields.get("data") ?? "");
  } catch {
  }
  if (typeof data !== "object" || data === null) throw new MalformedMessage("the data of an event must be a JSON object");
  return { name: fields.get("event") ?? "message", data };
}
function positionIn({ step, total_steps: totalSteps }) {
  if (!Number.isInteger(step) || !Number.isInteger(totalSteps)) {
    throw new MalformedMessage(`step and total_steps of an event must be integers`);
  }
  return { step, totalSteps };
}
function messageIn({ message }) {
  try {
    return Uint8Array.from(atob(String(message)), (character) => character.charCodeAt(0));
  } catch {
    throw new MalformedMessage("message of an event must be base64");
  }
}

// ../client/src/latent-stream.ts
async function openStream(responseHeaders, chunks, decoder, options) {
  const frames = receive(chunks, decoder, options);
  const first = await frames.next();
  if (first.done || decoder.header === null) throw new StreamError("the stream has no header");
  return new LatentStream(decoder.header, responseHeaders, frames);
}
var LatentStream = class {
  constructor(header, responseHeaders, frames) {
    this.header = header;
    this.responseHeaders = responseHeaders;
    this.frames = frames;
  }
  header;
  responseHeaders;
  frames;
  /** Hash of the latent-space map that describes the latents, sha256:<hex>. */
  get mapHash() {
    return this.responseHeaders.get("Codec-Latent-Map");
  }
  /** Seed of the noise, also if the server selected it. */
  get seed() {
    const seed = this.responseHeaders.get("Codec-Seed");
    return seed !== null && /^[0-9]+$/.test(seed) ? BigInt(seed) : null;
  }
  /** Name of the model that generates. */
  get model() {
    return this.responseHeaders.get("Codec-Model");
  }
  /**
   * Iterate over the latents of each frame.
   *
   * Leaving the loop before the last frame cancels the generation on the server. The iterator throws StreamError if the
   * stream is not valid or the connection is lost, or the reason of the signal if it is aborted.
   */
  async *[Symbol.asyncIterator]() {
    try {
      for await (const latents of this.frames) if (latents !== null) yield latents;
    } finally {
      await this.frames.return(void 0);
    }
  }
};
async function* receive(chunks, decoder, { signal, onBytes }) {
  const parts = chunks[Symbol.asyncIterator]();
  try {
    for (let started = false; ; ) {
      const { done, value } = await parts.next();
      if (done) break;
      onBytes?.(value);
      const frames = decoder.feed(value);
      for (let next = frames.next(); ; next = frames.next()) {
        if (!started && decoder.header !== null) {
          started = true;
          yield null;
        }
        if (next.done) break;
        yield next.value;
      }
    }
    decoder.close();
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof StreamFailed) {
      await parts.next().catch((reason) => {
        if (reason instanceof CodecError) throw reason;
      });
    }
    if (error instanceof CodecError) throw error;
    throw new TruncatedStream(`the connection was lost during the response: ${reasonOf(error)}`);
  } finally {
    await parts.return?.();
  }
}
async function* chunksOf(body) {
  const reader = body.getReader();
  try {
    for (; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => void 0);
  }
}

// ../client/src/request.ts
var GENERATION_PATHS = {
  "image-latents": "/v1/images/generations",
  "video-latents": "/v1/videos/generations"
};
function requestBody(request, wireFormat) {
  const body = { modality: "image-latents", ...request, stream_format: wireFormat };
  return JSON.stringify(body, (_, value) => {
    if (typeof value === "bigint") return value.toString();
    return value instanceof Uint8Array ? toBase64(value) : value;
  });
}
function toBase64(data) {
  const parts = [];
  for (let start2 = 0; start2 < data.length; start2 += 32768) {
    parts.push(String.fromCharCode(...data.subarray(start2, start2 + 32768)));
  }
  return btoa(parts.join(""));
}

// ../client/src/stream-decoder.ts
var MAX_BYTES = 2 ** 30;
var LatentStreamDecoder = class {
  #maxBytes;
  #reader;
  #decoder = null;
  #failure = null;
  #header = null;
  #frames = 0;
  constructor({ wireFormat, maxBytes = MAX_BYTES } = {}) {
    this.#maxBytes = maxBytes;
    this.#reader = wireFormat === void 0 ? null : new StreamReader(wireFormat, maxBytes);
  }
  /** The header of the stream; null before it was received. */
  get header() {
    return this.#header;
  }
  /** Number of decoded frames. */
  get frames() {
    return this.#frames;
  }
  /**
   * Add `chunk`, which must not change afterwards, and return an iterator over the frames that are now complete.
   *
   * Frames are decoded while the iterator is consumed. Frames that are not consumed are returned first by the iterator
   * of the next call. The iterator throws StreamError if the stream is not valid.
   */
  feed(chunk) {
    if (chunk.length > 0) {
      this.#reader ??= new StreamReader(chunk[0] === 0 ? "protobuf" : "msgpack", this.#maxBytes);
      this.#reader.push(chunk);
    }
    return this.#decode();
  }
  /**
   * Signal the end of the stream.
   *
   * Throws TruncatedStream if the last frame is incomplete or missing, or another StreamError if a frame that was not
   * consumed is not valid.
   */
  close() {
    for (const _ of this.#decode()) ;
    try {
      if (this.#reader === null) throw new TruncatedStream("the stream is empty", 0);
      this.#reader.close();
      this.#decoder?.close();
    } catch (error) {
      if (error instanceof StreamError) this.#failure = error;
      throw error;
    }
  }
  *#decode() {
    if (this.#failure !== null) throw this.#failure;
    for (let message; (message = this.#reader?.next() ?? null) !== null; ) {
      if (message.frame === null) {
        this.#header = message.header;
        this.#decoder = new LatentDecoder(message.header);
        continue;
      }
      let latents;
      try {
        latents = this.#decoder.decode(message.frame);
      } catch (error) {
        if (error instanceof StreamError) this.#failure = error = error.at(message.offset);
        throw error;
      }
      this.#frames += 1;
      yield latents;
    }
  }
};

// ../client/src/generate.ts
var EVENT_STREAM = "text/event-stream";
async function generate(server, request, options = {}) {
  const wireFormat = options.wireFormat ?? "msgpack";
  const sendsEvents = options.onProgress !== void 0 || options.onPreview !== void 0;
  const headers = new Headers({
    Accept: sendsEvents ? EVENT_STREAM : `application/x-codec-${wireFormat}`,
    "Content-Type": "application/json"
  });
  if (options.pinnedMap !== void 0) headers.set("X-Codec-Map", options.pinnedMap);
  const url = urlOf(server, GENERATION_PATHS[request.modality ?? "image-latents"]);
  const response = await send(url, { method: "POST", headers, body: requestBody(request, wireFormat) }, options);
  if (!response.ok) throw await errorOf(response);
  if (response.body === null) throw new UnexpectedAnswer(`the response of ${url} has no body`);
  let decoder;
  let chunks = chunksOf(response.body);
  try {
    if (sendsEvents) {
      requireEvents(response.headers);
      decoder = new LatentStreamDecoder({ wireFormat, maxBytes: options.maxBytes });
      chunks = readEvents(chunks, wireFormat, () => decoder.header, options);
    } else {
      decoder = new LatentStreamDecoder({ wireFormat: streamFormat(response.headers), maxBytes: options.maxBytes });
    }
  } catch (error) {
    await response.body.cancel();
    throw error;
  }
  return openStream(response.headers, chunks, decoder, options);
}
function requireEvents(headers) {
  const contentType = contentTypeOf(headers);
  if (contentType !== EVENT_STREAM) {
    throw new StreamError(`the response is not an event stream: its Content-Type is ${contentType || "missing"}`);
  }
}
function contentTypeOf(headers) {
  return (headers.get("Content-Type") ?? "").split(";")[0].trim().toLowerCase();
}
function streamFormat(headers) {
  const contentType = contentTypeOf(headers);
  const found = ["msgpack", "protobuf"].find((format) => contentType.endsWith(format));
  if (found === void 0) {
    throw new StreamError(`the response is not a latent stream: its Content-Type is ${contentType || "missing"}`);
  }
  if (headers.has("Codec-Zstd-Dict")) {
    throw new StreamError(
      "the response is compressed with a zstd dictionary, which fetch cannot decompress: request the content codings br, gzip"
    );
  }
  return found;
}

// ../client/src/published-decoder.ts
var MAX_INFO_BYTES = 1024 * 1024;
var MAX_DECODER_BYTES = 1024 * 1024 * 1024;
async function fetchDecoder(server, selection = {}) {
  const { latentSpace, model, family = "onnx" } = selection;
  const url = urlOf(server, "/codec/info");
  const { models } = parseJson(await download(url, MAX_INFO_BYTES, selection), url) ?? {};
  for (const one of Array.isArray(models) ? models : []) {
    if ((latentSpace ?? one["latent_space_id"]) !== one["latent_space_id"]) continue;
    if (model !== void 0 && model !== one["model"] && !namesOf(one["model_aliases"]).includes(model)) continue;
    const found = (Array.isArray(one["decoders"]) ? one["decoders"] : []).find((entry) => entry?.family === family);
    if (typeof found?.url !== "string") continue;
    const data = await download(allowedUrl(server, found.url), MAX_DECODER_BYTES, selection);
    const hash = await digestOf(data);
    if (hash !== found.hash) throw new InvalidMap(`${found.url} has the hash ${hash}, expected ${found.hash}`);
    return { family, hash, mapHash: String(one["latent_map_sha256"]), data };
  }
  throw new NotFound("decoder", `${server} publishes no ${family} decoder for ${latentSpace ?? model ?? "its models"}`);
}
function namesOf(aliases) {
  return Array.isArray(aliases) ? aliases : [];
}

// src/urls.ts
var SERVER = new URL(".", location.href).href.replace(/\/$/, "");
function urlOf2(path) {
  return `${SERVER}/${path}`;
}

// src/browser-decoder.ts
async function browserBackend() {
  const gpu = navigator.gpu;
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return adapter && adapter.info?.isFallbackAdapter !== true ? "webgpu" : "wasm";
}
var BrowserDecoder = class {
  #worker;
  /** Rejected if the worker fails, e.g. because its script cannot be loaded. */
  #failed;
  #loading = null;
  constructor(backend) {
    this.#worker = new Worker(urlOf2(`page/decoder-${backend}.js`), { type: "module" });
    this.#failed = new Promise((_, reject) => {
      this.#worker.onerror = (event) => reject(new UnexpectedAnswer(`the decoder cannot be started: ${event.message ?? ""}`));
    });
    this.#failed.catch(() => void 0);
  }
  /** Download the decoder of the latents in `received` and start it; only the first call has an effect. */
  load(received, options) {
    this.#loading ??= this.#load(received, options);
    return this.#loading;
  }
  async #load({ header, mapHash }, { signal, report }) {
    report("This browser downloads the decoder. It is needed once.");
    const decoder = await fetchDecoder(SERVER, { latentSpace: header.latentSpaceId, signal });
    if (mapHash !== null && decoder.mapHash !== mapHash) {
      throw new InvalidMap(`the decoder belongs to the map ${decoder.mapHash}, and the latents to ${mapHash}`);
    }
    const decoderBytes = decoder.data.length;
    const loaded = await this.#ask({ model: decoder.data }, signal);
    return { decoder: decoderBytes, runtime: "loaded" in loaded ? loaded.runtimeBytes : null };
  }
  /** Return the pixels of latent frames of the shape [C, h, w]. */
  async decode(latents, { signal, report }) {
    const frames = [];
    let [width, height] = [0, 0];
    for (const { shape, values } of latents) {
      report(latents.length === 1 ? "This browser decodes the image." : `This browser decodes frame ${frames.length + 1} of ${latents.length}.`);
      const result = await this.#ask({ shape: [1, ...shape], values }, signal);
      if (!("rgba" in result)) throw new UnexpectedAnswer("the decoder returned no pixels");
      ({ width, height } = result);
      frames.push(result.rgba);
    }
    return { width, height, frames };
  }
  /** Stop the worker. */
  close() {
    this.#worker.terminate();
  }
  #ask(work, signal) {
    const answer = new Promise((resolve, reject) => {
      const abort = () => reject(signal.reason);
      if (signal.aborted) return abort();
      signal.addEventListener("abort", abort, { once: true });
      this.#worker.onmessage = ({ data }) => {
        signal.removeEventListener("abort", abort);
        if ("error" in data) reject(new UnexpectedAnswer(`the decoder failed: ${data.error}`));
        else resolve(data);
      };
      this.#worker.postMessage(work);
    });
    return Promise.race([this.#failed, answer]);
  }
};

// src/server-decoder.ts
async function decodeOnServer(received, signal, apiKey) {
  const headers = new Headers({ Accept: "application/x-npy", "Content-Type": "application/x-msgpack" });
  if (received.mapHash !== null) headers.set("X-Codec-Map", received.mapHash);
  const url = new URL(urlOf2("v1/latents/decode"));
  if (received.model !== null) url.searchParams.set("model", received.model);
  const init = { method: "POST", headers, body: new Blob(received.parts) };
  const response = await send(url.href, init, { apiKey, signal });
  if (!response.ok) throw await errorOf(response);
  return parseNpy(new Uint8Array(await response.arrayBuffer()));
}
function parseNpy(file) {
  const length = file[8] | file[9] << 8;
  const head = new TextDecoder("latin1").decode(file.subarray(10, 10 + length));
  const shape = /'shape': \((\d+), (\d+), (\d+), 3\)/.exec(head);
  if (shape === null || !head.includes("'|u1'")) throw new UnexpectedAnswer(`unexpected array of pixels: ${head}`);
  const [count, height, width] = shape.slice(1).map(Number);
  const pixels = width * height;
  const data = file.subarray(10 + length);
  if (data.length !== 3 * pixels * count) throw new UnexpectedAnswer("the array of pixels is incomplete");
  const frames = Array.from({ length: count }, (_, frame) => {
    const rgba = new Uint8ClampedArray(4 * pixels).fill(255);
    for (let pixel = 0, from = 3 * pixels * frame; pixel < pixels; pixel++, from += 3) {
      rgba[4 * pixel] = data[from];
      rgba[4 * pixel + 1] = data[from + 1];
      rgba[4 * pixel + 2] = data[from + 2];
    }
    return rgba;
  });
  return { width, height, frames };
}

// src/decoders.ts
async function availableDecoders(model) {
  const names = [];
  const built = (document.documentElement.dataset["decoders"] ?? "").split(" ");
  const isPublished = (model.decoders ?? []).some(({ family }) => family === "onnx");
  if (isPublished && crypto.subtle !== void 0) {
    const preferred = await browserBackend();
    const backends = preferred === "webgpu" ? ["webgpu", "wasm"] : ["wasm", "webgpu"];
    names.push(...backends.filter((name) => built.includes(name) && (name === "wasm" || "gpu" in navigator)));
  }
  return model.decodes ? [...names, "server"] : names;
}
function decodesFramesIndependently({ pixel_checks: checks }) {
  return checks.length > 0 && checks.every(({ vae }) => vae === "AutoencoderKL");
}
var DECODER_TEXTS = {
  webgpu: "This browser (WebGPU)",
  wasm: "This browser (WebAssembly)",
  server: "The server"
};
var browserDecoders = /* @__PURE__ */ new Map();
async function decode(name, received, options) {
  if (name === "server") {
    options.report("The server decodes the image.");
    const begin = performance.now();
    const pixels = await decodeOnServer(received, options.signal, options.apiKey);
    const milliseconds = performance.now() - begin;
    return { pixels, description: "The server decoded and sent pixels", milliseconds, onServer: true, downloads: null };
  }
  const key = `${name} ${received.header.latentSpaceId} ${received.mapHash}`;
  const decoder = browserDecoders.get(key) ?? new BrowserDecoder(name);
  browserDecoders.set(key, decoder);
  try {
    const downloads = await decoder.load(received, options);
    const begin = performance.now();
    const pixels = await decoder.decode(received.latents, options);
    const description = `Decoded in this browser (${name === "wasm" ? "WebAssembly" : "WebGPU"})`;
    return { pixels, description, milliseconds: performance.now() - begin, onServer: false, downloads };
  } catch (error) {
    browserDecoders.delete(key);
    decoder.close();
    throw error;
  }
}

// src/elements.ts
function byId(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} with the id ${id}`);
  return found;
}
function setText(id, text) {
  const element = byId(id, HTMLElement);
  element.textContent = text;
}
function setVisible(visible, ...ids) {
  for (const id of ids) byId(id, HTMLElement).hidden = !visible;
}
function create(name, ...children) {
  const element = document.createElement(name);
  element.append(...children);
  return element;
}
function setOptions(select, options, fallback) {
  const previous = select.value;
  select.replaceChildren(
    ...options.map(({ value, text }) => {
      const option = create("option", text);
      option.value = value;
      return option;
    })
  );
  const wanted = [previous, fallback].find((value) => options.some((option) => option.value === value));
  if (wanted !== void 0) select.value = wanted;
}

// src/pixels.ts
function draw(canvas, { width, height, frames }, frame = 0) {
  canvas.width = width;
  canvas.height = height;
  contextOf(canvas).putImageData(new ImageData(frames[frame], width, height), 0, 0);
}
function drawScaled(canvas, small, width, height) {
  const source = new OffscreenCanvas(small.width, small.height);
  source.getContext("2d").putImageData(small, 0, 0);
  canvas.width = width;
  canvas.height = height;
  const context = contextOf(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
}
function contextOf(canvas) {
  return canvas.getContext("2d");
}
async function fileOf({ width, height, frames }, type, frame = 0) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(frames[frame], width, height), 0, 0);
  return canvas.convertToBlob({ type, quality: 0.9 });
}
function compare(left, right) {
  requireSameSize(left, right);
  let [largest, equal, squares] = [0, 0, 0];
  const pixels = left.width * left.height;
  for (const [index, frame] of left.frames.entries()) {
    const other = right.frames[index];
    for (let pixel = 0; pixel < 4 * pixels; pixel += 4) {
      let different = 0;
      for (let channel = 0; channel < 3; channel++) {
        const difference = Math.abs(frame[pixel + channel] - other[pixel + channel]);
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
function differenceImage(left, right, factor) {
  requireSameSize(left, right);
  const [first, second] = [left.frames[0], right.frames[0]];
  const data = first.map((value, index) => index % 4 === 3 ? 255 : factor * Math.abs(value - second[index]));
  return { ...left, frames: [data] };
}
function requireSameSize(left, right) {
  if (left.width !== right.width || left.height !== right.height || left.frames.length !== right.frames.length) {
    throw new RangeError("only images of the same size can be compared");
  }
}

// src/fidelity.ts
var SHARES = { 2: "half", 4: "a quarter of", 8: "an eighth of" };
async function fetchMaps(models) {
  const found = /* @__PURE__ */ new Map();
  const download2 = async ({ model, latent_space_id: latentSpace, latent_map_sha256: hash }) => found.set(model, (await fetchMap(SERVER, { latentSpace, hash })).latentMap);
  await Promise.allSettled(models.map(download2));
  return found;
}
function describePipeline(name, map) {
  const pipeline = PIPELINES.get(name);
  if (pipeline === void 0) return "";
  const { bits, delta } = pipeline;
  if (bits === null) {
    const dtype = map?.dtype ?? "fp16";
    return `The model's values in ${dtype} (${bitsOf(dtype)} bits), not rounded further.`;
  }
  const share = SHARES[bitsOf(map?.dtype ?? "fp16") / bits];
  const how = delta ? "Most frames hold only what has changed, which compresses well." : name.endsWith("-adaptive") ? "The rounding steps are chosen for each image." : "";
  return [`Values rounded to ${bits} bits, ${share} the size of raw.`, how, describeBounds(name, map)].filter(Boolean).join(" ");
}
function describeResult(name, pixels, raw, map) {
  const bits = PIPELINES.get(name)?.bits ?? null;
  if (bits === null) return `raw sends the model's values in ${map?.dtype ?? "fp16"}, not rounded further.`;
  const rounded = `${name} rounds the latents to ${bits} bits, so the result is close to that of raw, but not equal.`;
  if (raw !== null) return `${rounded} ${describeDifference(raw, pixels)}`;
  return `${rounded} ${describeBounds(name, map)}`.trim();
}
function describeDifference(raw, pixels) {
  const { largest, psnr, equal } = compare(raw, pixels);
  if (largest === 0) return "Every pixel is equal to raw.";
  return `It differs from raw by at most ${largest} of 255, PSNR ${psnr.toFixed(1)} dB. ${Math.round(100 * equal)} % of the pixels are equal.`;
}
function describeBounds(name, map) {
  const bounds = map?.pipelines.find((one) => one.name === name)?.quality_thresholds;
  const [ssim, psnr] = [bounds?.ssim_min ?? null, bounds?.psnr_min_db ?? null];
  const parts = [...ssim === null ? [] : [`an SSIM of at least ${ssim} (1 is equal)`], ...psnr === null ? [] : [`a PSNR of at least ${psnr} dB`]];
  return parts.length === 0 ? "" : `The tests of this model require ${parts.join(" and ")} to the reference image.`;
}
function bitsOf(dtype) {
  return dtype === "fp16" ? 16 : 32;
}

// src/format.ts
var NUMBER = new Intl.NumberFormat("en");
function formatBytes(bytes2) {
  if (bytes2 < 1e3) return `${bytes2} bytes`;
  const [value, unit] = bytes2 < 1e6 ? [bytes2 / 1e3, "KB"] : [bytes2 / 1e6, "MB"];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}
function formatCount(value) {
  return NUMBER.format(value);
}
function formatDuration(milliseconds) {
  const seconds = milliseconds / 1e3;
  return seconds < 0.01 ? "under 0.01 s" : `${seconds < 10 ? seconds.toFixed(2) : seconds.toFixed(1)} s`;
}
function formatRatio(bytes2, base) {
  return `${multiple(bytes2, base)} times`;
}
function formatFactor(bytes2, base) {
  return `${multiple(bytes2, base)}×`;
}
function multiple(bytes2, base) {
  const ratio = bytes2 / base;
  return ratio < 10 ? ratio.toFixed(1) : formatCount(Math.round(ratio));
}

// src/request-form.ts
var FIELDS = ["prompt", "pipeline", "size", "steps", "seed", "frames", "model", "image", "strength"];
var SIDES = [64, 128, 256, 384, 512, 768, 1024];
var RequestForm = class {
  constructor(info, models, maps) {
    this.info = info;
    this.models = models;
    this.maps = maps;
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
  info;
  models;
  maps;
  element = byId("form", HTMLFormElement);
  get model() {
    return this.models.find(({ model }) => model === this.#select("model").value) ?? this.models[0];
  }
  /** The latent-space map of the selected model. */
  get map() {
    return this.maps.get(this.model.model);
  }
  get modality() {
    return new FormData(this.element).get("modality") === "video-latents" ? "video-latents" : "image-latents";
  }
  /** The API key; undefined if the field is empty. */
  get apiKey() {
    return this.#input("key").value.trim() || void 0;
  }
  /** Value of the select "Decode with". */
  get decoder() {
    return this.#select("decoder").value;
  }
  /** Return the request. An input that is empty is not sent, so that the server's default applies. */
  async read() {
    const text = (name) => this.#input(name).value.trim();
    const image = this.#file();
    const common = {
      prompt: byId("prompt", HTMLTextAreaElement).value,
      pipeline: this.#select("pipeline").value,
      size: this.#select("size").value,
      ...text("steps") === "" ? {} : { steps: Number(text("steps")) },
      ...text("seed") === "" ? {} : { seed: seedOf(text("seed")) },
      ...this.models.length > 1 ? { model: this.model.model } : {},
      ...image === null ? {} : { image: new Uint8Array(await image.arrayBuffer()), strength: Number(text("strength")) }
    };
    if (this.modality === "image-latents") return { modality: "image-latents", ...common };
    return { modality: "video-latents", ...common, ...text("frames") === "" ? {} : { frames: Number(text("frames")) } };
  }
  /** Mark the field that the server refused and show the reason. Returns false if the form does not have the field. */
  showProblem(field, message) {
    if (!FIELDS.includes(field)) return false;
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
  clearProblems() {
    for (const field of FIELDS) {
      byId(field, HTMLElement).removeAttribute("aria-invalid");
      byId(field, HTMLElement).removeAttribute("aria-errormessage");
      setVisible(false, `${field}-problem`);
    }
  }
  #adapt() {
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
  #file() {
    const field = this.#input("image");
    return field.closest("[hidden]") === null ? field.files?.[0] ?? null : null;
  }
  #input(id) {
    return byId(id, HTMLInputElement);
  }
  #select(id) {
    return byId(id, HTMLSelectElement);
  }
};
function seedOf(text) {
  return /^-?\d+$/.test(text) && !Number.isSafeInteger(Number(text)) ? BigInt(text) : Number(text);
}
function sizesOf(model) {
  const usable = SIDES.filter((side) => side <= model.max_side && side % model.size_multiple === 0);
  const sizes = [model.default_size, ...usable.map((side) => `${side}x${side}`)];
  const areas = new Map([...new Set(sizes)].map((size2) => [size2, size2.split("x").reduce((area, side) => area * Number(side), 1)]));
  return [...areas].sort(([, first], [, second]) => first - second).map(([value]) => ({ value, text: value.replace("x", " × ") }));
}

// src/server-info.ts
var INTERVAL_MS = 1e3;
async function fetchInfo(signal) {
  try {
    const response = await fetch(urlOf2("codec/info"), { signal: signal ?? null });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}
async function waitUntilLoaded(report) {
  for (; ; ) {
    const info = await fetchInfo();
    if (info?.models && info.models.length > 0) return { ...info, models: info.models };
    report(info?.state ?? "not reachable");
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  }
}

// src/alert.ts
var Alert = class {
  #button = byId("retry", HTMLButtonElement);
  #timer;
  #retry = () => void 0;
  constructor() {
    this.#button.addEventListener("click", () => {
      this.hide();
      this.#retry();
    });
  }
  /** Show an error and what was received before it. `retry` is called when the button is pressed. */
  show(problem, known, retry) {
    this.hide();
    this.#retry = problem.action === "Reload the page" ? () => location.reload() : retry;
    setText("alert-title", problem.title);
    setText("alert-text", problem.text);
    setText("alert-known", known);
    setVisible(true, "alert");
    this.#button.hidden = problem.action === null;
    this.#countDown(problem.action ?? "", problem.waitS);
  }
  /** Remove the message. */
  hide() {
    window.clearInterval(this.#timer);
    setVisible(false, "alert");
  }
  /** Disable the button for some seconds, which its label counts down. */
  #countDown(action, seconds) {
    const end = performance.now() + 1e3 * seconds;
    const update = () => {
      const left = Math.ceil((end - performance.now()) / 1e3);
      this.#button.disabled = left > 0;
      this.#button.textContent = left > 0 ? `${action} in ${left} s` : action;
      if (left <= 0) window.clearInterval(this.#timer);
    };
    this.#timer = window.setInterval(update, 250);
    update();
  }
};

// src/code-samples.ts
var LANGUAGES = ["curl", "python", "grpcurl"];
var COPIED_MS = 2e3;
function sampleOf(language, request) {
  const { image, ...fields } = request;
  const isVideo = request.modality === "video-latents";
  if (language === "curl") {
    const path = isVideo ? "videos" : "images";
    const body = { ...fields, ...image === void 0 ? {} : { image: "BASE64 OF THE START IMAGE" } };
    const lines = [
      `curl -s ${SERVER}/v1/${path}/generations -o latents.bin`,
      "-H 'Content-Type: application/json' -H 'Accept: application/x-codec-msgpack'",
      `-d ${quoted(JSON.stringify(body, exact))}`
    ];
    const file = isVideo ? "video.mp4" : "image.png";
    const decode2 = [`codec-diffusers decode latents.bin -o ${file}`, "# or on the server:", `# curl -s ${SERVER}/v1/latents/decode --data-binary @latents.bin -H 'Content-Type: application/x-msgpack' -o ${file}`];
    return [lines.join(" \\\n  "), ...decode2].join("\n");
  }
  const [width, height] = (request.size ?? "").split("x").map(Number);
  const { size: _, modality: __, ...others } = fields;
  if (language === "python") {
    const { prompt, ...options } = others;
    const named = [
      JSON.stringify(prompt),
      ...width && height ? [`size=(${width}, ${height})`] : [],
      ...Object.entries(options).map(([name, value]) => `${name}=${JSON.stringify(value, exact)}`),
      ...isVideo ? ['modality="video-latents"'] : [],
      ...image === void 0 ? [] : ['image=open("start.png", "rb").read()']
    ];
    return [
      ...isVideo ? ["from pathlib import Path", ""] : [],
      `from codec_client import ${isVideo ? "HttpClient" : "HttpClient, decode_to_images"}`,
      "",
      `with HttpClient(${JSON.stringify(SERVER)}).blocking() as client:`,
      "    result = client.generate(",
      ...named.map((argument) => `        ${argument},`),
      "    )",
      ...isVideo ? ['    Path("video.mp4").write_bytes(client.decode_to_file(result, "mp4"))'] : [
        "    latent_map = client.latent_map(result.map_hash).latent_map",
        '    decode_to_images(result.latents, latent_map)[0].save("image.png")  # decoded on this machine'
      ]
    ].join("\n");
  }
  const message = {
    ...others,
    ...width && height ? { size: { width, height } } : {},
    ...isVideo ? { modality: "MODALITY_VIDEO_LATENTS" } : {},
    ...image === void 0 ? {} : { image: "BASE64 OF THE START IMAGE" }
  };
  const address = `${new URL(SERVER).hostname}:50051`;
  return [
    `grpcurl -plaintext -d ${quoted(JSON.stringify(message, exact))}`,
    `${address} codec.latents.v1.LatentService/Generate`
  ].join(" \\\n  ");
}
function exact(_, value) {
  return typeof value === "bigint" ? value.toString() : value;
}
function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
var CodeSamples = class {
  #language = "curl";
  #request = null;
  constructor() {
    const tabs = byId("tabs", HTMLElement);
    for (const language of LANGUAGES) this.#tab(language).addEventListener("click", () => this.#select(language));
    tabs.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step === void 0) return;
      const index = (LANGUAGES.indexOf(this.#language) + step + LANGUAGES.length) % LANGUAGES.length;
      this.#select(LANGUAGES[index]);
      this.#tab(this.#language).focus();
    });
    const copy = byId("copy", HTMLButtonElement);
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(byId("sample-text", HTMLElement).textContent ?? "");
      copy.textContent = "Copied";
      setTimeout(() => copy.textContent = "Copy", COPIED_MS);
    });
    if (!isSecureContext) copy.hidden = true;
  }
  /** Show the samples of a request. */
  show(request) {
    this.#request = request;
    byId("sample-text", HTMLElement).textContent = sampleOf(this.#language, request);
  }
  #select(language) {
    this.#language = language;
    for (const one of LANGUAGES) {
      this.#tab(one).setAttribute("aria-selected", String(one === language));
      this.#tab(one).tabIndex = one === language ? 0 : -1;
    }
    byId("sample", HTMLElement).setAttribute("aria-labelledby", `tab-${language}`);
    if (this.#request !== null) this.show(this.#request);
  }
  #tab(language) {
    return byId(`tab-${language}`, HTMLButtonElement);
  }
};

// src/received.ts
function nothingReceived() {
  return {
    ...{ header: null, mapHash: null, model: null, seed: null, progress: null, generationMs: 0, sendingMs: 0 },
    ...{ latents: [], parts: [] }
  };
}
async function receive2(received, request, options) {
  const { onProgress, onPreview } = options;
  const begin = performance.now();
  let firstFrame = begin;
  const listeners = onProgress === void 0 ? {} : {
    onProgress: (progress) => {
      received.progress = progress;
      onProgress(progress);
    },
    onPreview: (preview) => received.header !== null && onPreview?.(preview, received.header)
  };
  const stream = await generate(SERVER, request, {
    ...listeners,
    signal: options.signal,
    apiKey: options.apiKey,
    pinnedMap: options.pinnedMap,
    onBytes: (bytes2) => received.parts.push(new Uint8Array(bytes2))
  });
  received.header = stream.header;
  received.mapHash = stream.mapHash;
  received.model = stream.model === null ? null : decodeURIComponent(stream.model);
  received.seed = stream.seed;
  for await (const latents of stream) {
    if (received.latents.length === 0) firstFrame = performance.now();
    received.latents.push(latents);
    options.onFrame?.(received.latents.length, stream.header.totalFrames ?? 1);
  }
  received.generationMs = firstFrame - begin;
  received.sendingMs = performance.now() - firstFrame;
}
function sizeOf({ parts }) {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

// src/comparison.ts
var COMPARED = ["raw", "int8", "int4"];
var FACTOR = 8;
var Comparison = class {
  #shown = [];
  constructor() {
    byId("compare-view", HTMLElement).addEventListener("change", () => this.#draw());
  }
  /** Generate and show all images. Throws what Variants.decoded throws. */
  async run(variants, signal, report) {
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
  clear() {
    this.#shown = [];
    byId("trio", HTMLElement).replaceChildren();
    setVisible(false, "compare-view");
  }
  #append(variants, pipeline, pixels) {
    const { received, wireBytes } = variants.found.get(pipeline);
    const size2 = formatBytes(wireBytes ?? sizeOf(received));
    const canvas = create("canvas");
    canvas.setAttribute("role", "img");
    const text = pipeline === "raw" ? "The reference for the other two." : describeDifference(this.#shown[0].pixels, pixels);
    const caption = create("figcaption", create("b", `${pipeline}, ${size2}`), text);
    byId("trio", HTMLElement).append(create("figure", canvas, caption));
  }
  #draw() {
    const view2 = document.querySelector('input[name="view"]:checked').value;
    const canvases = byId("trio", HTMLElement).querySelectorAll("canvas");
    for (const [index, { pipeline, pixels }] of this.#shown.entries()) {
      const isDifference = view2 === "difference" && index > 0;
      draw(canvases[index], isDifference ? differenceImage(this.#shown[0].pixels, pixels, FACTOR) : pixels);
      canvases[index].setAttribute("aria-label", isDifference ? `Difference of ${pipeline} and raw` : `Image from ${pipeline} latents`);
    }
  }
};

// src/problems.ts
function describeProblem(error, state) {
  const text = error instanceof Error ? error.message : String(error);
  const base = { text, action: "Try again", waitS: 0, field: null };
  if (error instanceof Overloaded) {
    return { ...base, title: "The queue is full", text: "Other requests are being generated.", waitS: error.retryAfterS };
  }
  if (error instanceof NotReady) {
    const stopping = state === "draining" || state === "stopped";
    const reason = stopping ? "It finishes the requests that it has begun and accepts no new ones. It may be restarted." : "It is loading its model.";
    return { ...base, title: stopping ? "The server is shutting down" : "The server is not ready", text: reason, waitS: error.retryAfterS };
  }
  if (error instanceof MapMismatch || error instanceof InvalidMap) {
    const reason = "The server encodes latents in another way than when this page was loaded, so this page would draw wrong colours. Reload it to get the matching decoder.";
    return { ...base, title: "The page and the server do not match", text: reason, action: "Reload the page" };
  }
  if (error instanceof TruncatedStream || error instanceof ServerUnreachable) {
    const lost = error instanceof TruncatedStream;
    return {
      ...base,
      title: lost ? "The connection was lost" : "The server does not respond",
      text: lost ? "The server stopped sending before the result was complete." : "It may be stopped, or the network is down."
    };
  }
  if (error instanceof Unauthenticated) {
    return { ...base, title: "An access key is required", text, action: null, field: "key" };
  }
  if (error instanceof InvalidRequest || error instanceof NotFound) {
    return { ...base, title: "The request was not accepted", action: null, field: error.field };
  }
  if (error instanceof TooLarge) return { ...base, title: "The request is too large for this server", action: null };
  if (error instanceof Forbidden) return { ...base, title: "The server refuses this page", action: null };
  if (error instanceof DeadlineExceeded) return { ...base, title: "The generation took too long" };
  return { ...base, title: "The generation failed" };
}
function describeReceived(received) {
  const { header, latents, progress } = received;
  const parts = [];
  if (progress !== null) parts.push(`${progress.step} of ${progress.totalSteps} steps were completed`);
  if (header !== null) {
    const total = header.totalFrames ?? 1;
    parts.push(`${formatCount(latents.length)} of ${formatCount(total)} ${total === 1 ? "frame" : "frames"} arrived`);
    parts.push(`${formatBytes(sizeOf(received))} of ${header.pipeline.name} data were received`);
  }
  return parts.length === 0 ? "" : `Before that, ${parts.join(", ")}.`;
}

// src/size-table.ts
async function fileSizesOf(pixels, signal) {
  const sizes = { png: 0, webp: 0, jpeg: 0 };
  for (let frame = 0; frame < pixels.frames.length; frame++) {
    signal.throwIfAborted();
    for (const type of ["png", "webp", "jpeg"]) sizes[type] += (await fileOf(pixels, `image/${type}`, frame)).size;
  }
  return sizes;
}
function showSizes(received, pixels, files, pipelines, variants) {
  const header = received.header;
  const isVideo = pixels.frames.length > 1;
  const measured = pipelines.every((name) => variants.found.has(name));
  const selected = header.pipeline.name;
  const envelope = sizeOf(received) - calculatedSize(selected, header);
  const rows = pipelines.map((name) => {
    const calculated = calculatedSize(name, header) + envelope;
    const bytes2 = measured ? variants.found.get(name).wireBytes ?? calculated : calculated;
    return { name: `Latents, ${name}`, bytes: bytes2, quality: qualityOf(name, header.dtype, variants), kind: "latents", current: name === selected };
  });
  const of = isVideo ? " files of the frames" : "";
  rows.push(
    { name: `JPEG${of}`, bytes: files.jpeg, quality: "lossy, quality 90", kind: "pixels", current: false },
    { name: `WebP${of}`, bytes: files.webp, quality: "lossy, quality 90", kind: "pixels", current: false },
    { name: `PNG${of}`, bytes: files.png, quality: "these pixels, exactly", kind: "pixels", current: false }
  );
  rows.sort((first, second) => first.bytes - second.bytes);
  const largest = Math.max(...rows.map(({ bytes: bytes2 }) => bytes2));
  const yours = rows.find(({ current }) => current).bytes;
  byId("sizes-rows", HTMLElement).replaceChildren(...rows.map((row2) => elementOf(row2, largest, yours)));
  const { width, height } = pixels;
  const size2 = formatBytes(3 * width * height * pixels.frames.length);
  const what = isVideo ? `This video of ${formatCount(pixels.frames.length)} frames` : "This image";
  byId("sizes-text", HTMLElement).textContent = `${what} has ${width} × ${height} pixels, ${size2} without compression. It was computed from ${formatCount(header.shape.reduce((product, side) => product * side, 1) * (header.totalFrames ?? 1))} latent numbers.`;
  byId("sizes-note", HTMLElement).textContent = measured ? `Latents were measured: the bytes of each response, compressed for the browser as the server sends them. Without this compression, yours have ${formatBytes(sizeOf(received))}.` : `Sizes of latents are calculated, without compression. The button generates the ${isVideo ? "video" : "image"} once in each format and measures the responses.`;
  if (isVideo) byId("sizes-note", HTMLElement).textContent += " Video files (MP4) are not compared. They are lossy, and smaller than separate images.";
  setVisible(true, "sizes-table", "sizes-note");
  setVisible(!measured, "measure");
}
function calculatedSize(name, { shape, dtype, totalFrames }) {
  const pipeline = PIPELINES.get(name);
  const itemBytes = dtype === "fp16" ? 2 : 4;
  const later = frameSize(pipeline, shape, itemBytes, !pipeline.delta);
  return frameSize(pipeline, shape, itemBytes, true) + later * ((totalFrames ?? 1) - 1);
}
function qualityOf(name, dtype, variants) {
  const bits = PIPELINES.get(name)?.bits;
  if (bits === null || bits === void 0) return `values in ${dtype}, not rounded further`;
  const rounded = `values rounded to ${bits} bits`;
  const [raw, own] = ["raw", name].map((one) => variants.found.get(one)?.decoded);
  if (!raw || !own) return rounded;
  const { psnr, largest } = compare(raw.pixels, own.pixels);
  return largest === 0 ? `${rounded}, the same pixels as raw` : `${rounded}, PSNR ${psnr.toFixed(1)} dB to raw`;
}
function elementOf({ name, bytes: bytes2, quality, kind, current }, largest, yours) {
  const bar = create("div");
  bar.className = "bar";
  bar.style.width = `${100 * bytes2 / largest}%`;
  const head = create("th", name);
  head.scope = "row";
  const barCell = create("td", bar);
  barCell.className = "bar-cell";
  const row2 = create("tr", head, create("td", formatBytes(bytes2)), create("td", formatFactor(bytes2, yours)), barCell, create("td", quality));
  row2.className = current ? `${kind} current` : kind;
  return row2;
}

// src/stage.ts
var DEFAULT_FPS = 8;
var Stage = class {
  #canvas = byId("canvas", HTMLCanvasElement);
  #progress = byId("progress", HTMLProgressElement);
  #status = byId("status", HTMLElement);
  #scrub = byId("scrub", HTMLInputElement);
  #play = byId("play", HTMLButtonElement);
  #pixels = null;
  #fps = DEFAULT_FPS;
  #timer;
  constructor() {
    byId("frame", HTMLElement).classList.add("waiting");
    this.#scrub.addEventListener("input", () => {
      this.pause();
      this.#showFrame(Number(this.#scrub.value));
    });
    this.#play.addEventListener("click", () => this.#timer === void 0 ? this.play() : this.pause());
  }
  /** The pixels that are shown; null if there are none, or only a preview. */
  get pixels() {
    return this.#pixels;
  }
  /** Number of the frame that is shown. */
  get frame() {
    return Number(this.#scrub.value);
  }
  /** Show progress from 0 to 1 with a text. Null hides the bar. */
  report(text, progress = null) {
    this.#status.textContent = text;
    this.#progress.hidden = progress === null;
    if (progress !== null) this.#progress.value = progress;
  }
  /** Show the approximate colours of a preview, scaled up to the size of the result. */
  showPreview({ latents }, { shape }, matrix, size2) {
    if (latents.seq !== 0 || shape.length !== 3) return;
    const { data, width, height } = latentToRgb(latents, matrix);
    const [fullWidth, fullHeight] = size2.split("x").map(Number);
    this.#reset();
    drawScaled(this.#canvas, new ImageData(data, width, height), fullWidth, fullHeight);
    this.#reveal("Preview of an image that is being generated");
  }
  /** Show an image, or a video with its player. */
  show(pixels, description, fps) {
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
  play() {
    this.pause();
    const count = this.#pixels?.frames.length ?? 1;
    this.#timer = window.setInterval(() => this.#showFrame((this.frame + 1) % count), 1e3 / this.#fps);
    this.#play.textContent = "Pause";
    this.#play.setAttribute("aria-pressed", "true");
  }
  /** Stop at the frame that is shown. */
  pause() {
    window.clearInterval(this.#timer);
    this.#timer = void 0;
    this.#play.textContent = "Play";
    this.#play.setAttribute("aria-pressed", "false");
  }
  #showFrame(frame) {
    if (this.#pixels === null) return;
    draw(this.#canvas, this.#pixels, frame);
    this.#scrub.value = String(frame);
    const position = `${frame + 1} of ${this.#pixels.frames.length}`;
    byId("scrub-position", HTMLOutputElement).value = position;
    this.#scrub.setAttribute("aria-valuetext", `frame ${position}`);
  }
  #reset() {
    this.pause();
    this.#pixels = null;
    this.#scrub.value = "0";
    setVisible(false, "player");
  }
  #reveal(description) {
    byId("frame", HTMLElement).classList.remove("waiting");
    setVisible(false, "empty");
    this.#canvas.setAttribute("aria-label", description);
  }
};

// src/summary.ts
function showSummary(received, decoded, files) {
  const bytes2 = sizeOf(received);
  const isVideo = decoded.pixels.frames.length > 1;
  const [what, as] = isVideo ? ["video", " files"] : ["image", ""];
  const sizeAs = (format) => `${formatBytes(files[format])} as ${format === "webp" ? "WebP" : format.toUpperCase()}${as} (${formatRatio(files[format], bytes2)} as much)`;
  setText("saved-bytes", `${formatBytes(bytes2)} of latents`);
  setText(
    "saved-text",
    (decoded.onServer ? `are enough for this ${what}. Here the server decoded them, so it sent pixels too. ` : `arrived, and this browser drew the ${what} from them. `) + `The same pixels take ${sizeAs("png")} and, with losses, ${sizeAs("jpeg")} and ${sizeAs("webp")}.`
  );
  setText("saved-once", describeDownloads(decoded, files, bytes2));
  setText("time-generate", formatDuration(received.generationMs));
  setText("time-send", formatDuration(received.sendingMs));
  setText("decoded-by", decoded.description);
  setText("time-decode", formatDuration(decoded.milliseconds));
  setText("check-result", "");
  setVisible(!decoded.onServer, "check");
  setVisible(true, "saved");
}
function showFidelity({ header }, { pixels }, raw, map) {
  setText("saved-fidelity", describeResult(header.pipeline.name, pixels, raw, map));
}
function showCheck(browser, server) {
  const { largest, equal, psnr } = compare(browser.pixels, server.pixels);
  setText(
    "check-result",
    largest === 0 ? "The server decoded exactly the same pixels." : `${(100 * equal).toFixed(2)} % of the pixels are equal to those of the server. The largest difference is ${largest} of 255, PSNR ${psnr.toFixed(1)} dB.`
  );
}
function describeDownloads({ downloads, pixels }, files, bytes2) {
  if (downloads === null) return "";
  const { decoder, runtime } = downloads;
  const parts = [`the decoder (${formatBytes(decoder)})`];
  if (runtime !== null) parts.push(`the runtime that runs it (${formatBytes(runtime)})`);
  const what = pixels.frames.length > 1 ? "videos" : "images";
  const after = [];
  const smaller = [];
  for (const [format, size2] of [["PNG", files.png], ["JPEG", files.jpeg], ["WebP", files.webp]]) {
    if (size2 <= bytes2) smaller.push(format);
    else after.push(`with ${format}, after ${formatCount(Math.ceil((decoder + (runtime ?? 0)) / (size2 - bytes2)))} ${what}`);
  }
  const sentences = [`Needed once, and then kept by this browser: ${parts.join(" and ")}.`];
  if (after.length > 0) sentences.push(`Latents like these save as much, compared ${after.join("; ")}.`);
  if (smaller.length > 0) sentences.push(`${smaller.join(" and ")} files are smaller than these latents.`);
  return sentences.join(" ");
}

// src/variants.ts
var TIMING_ATTEMPTS = 50;
var TIMING_INTERVAL_MS = 10;
var Variants = class {
  /** `request` has the seed of the noise, so that all pipelines encode the same latents. */
  constructor(request, options) {
    this.request = request;
    this.options = options;
  }
  request;
  options;
  #found = /* @__PURE__ */ new Map();
  /** The pipelines that were generated. */
  get found() {
    return this.#found;
  }
  /** Return the stream of a pipeline; it is generated on the first call. Throws what `receive` throws. */
  async get(pipeline, signal) {
    const known = this.#found.get(pipeline);
    if (known !== void 0) return known;
    const received = nothingReceived();
    performance.clearResourceTimings();
    await receive2(received, { ...this.request, pipeline }, { ...this.options, signal });
    const variant = { received, wireBytes: await encodedSize(), decoded: null };
    this.#found.set(pipeline, variant);
    return variant;
  }
  /** Return the pixels of a pipeline. Throws what `get` and `decode` throw. */
  async decoded(pipeline, signal) {
    const variant = await this.get(pipeline, signal);
    const { apiKey, decoder } = this.options;
    variant.decoded ??= await decode(decoder, variant.received, { signal, apiKey, report: () => void 0 });
    return variant.decoded;
  }
};
async function encodedSize() {
  for (let attempt = 0; attempt < TIMING_ATTEMPTS; attempt++) {
    const entries = performance.getEntriesByType("resource");
    const entry = entries.find(({ name }) => /\/v1\/(images|videos)\/generations$/.test(name));
    if (entry !== void 0) return entry.encodedBodySize || null;
    await new Promise((resolve) => setTimeout(resolve, TIMING_INTERVAL_MS));
  }
  return null;
}

// src/studio.ts
var PREVIEWS = 10;
var STATE_TIMEOUT_MS = 5e3;
var Studio = class {
  constructor(info, form) {
    this.info = info;
    this.form = form;
    const on = (id, action) => byId(id, HTMLButtonElement).addEventListener("click", action);
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
  info;
  form;
  #stage = new Stage();
  #alert = new Alert();
  #samples = new CodeSamples();
  #comparison = new Comparison();
  #matrices = /* @__PURE__ */ new Map();
  #result = null;
  #running = null;
  /** What the last generation received, unless it is complete. */
  #incomplete = null;
  /** Run an action that the buttons "Cancel" stop. Errors are shown, with a button that runs it again. */
  async #run(action) {
    if (this.#running !== null) return;
    const { signal } = this.#running = new AbortController();
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
  async #showProblem(error, action) {
    const info = error instanceof NotReady ? await fetchInfo(AbortSignal.timeout(STATE_TIMEOUT_MS)) : null;
    const problem = describeProblem(error, info?.state ?? null);
    if (problem.field === "key") {
      byId("more", HTMLDetailsElement).open = true;
      byId("key", HTMLInputElement).focus();
    } else if (problem.field !== null && this.form.showProblem(problem.field, problem.text)) return;
    const known = this.#incomplete === null ? "" : describeReceived(this.#incomplete);
    this.#alert.show(problem, known, () => void this.#run(action));
  }
  #setRunning(running) {
    setVisible(running, "cancel", "compare-cancel");
    for (const id of ["generate", "check", "measure", "compare-run"]) byId(id, HTMLButtonElement).disabled = running;
  }
  async #showSamples() {
    this.#samples.show(await this.form.read());
  }
  /** Return the options of all requests of one action. Call it before the user can select another model. */
  #options(signal) {
    return { signal, apiKey: this.form.apiKey, pinnedMap: this.form.model.latent_map_sha256 };
  }
  /** Generate what the form describes, and show it. */
  async #generate(signal) {
    const request = await this.form.read();
    const [options, decoder, { model, map }] = [this.#options(signal), this.#decoderFor(request), this.form];
    this.#result = this.#incomplete = null;
    this.#comparison.clear();
    setText("compare-status", "");
    setVisible(false, "saved", "measure", "sizes-table", "sizes-note");
    this.#stage.report("The request is sent. It may have to wait for others.", 0);
    byId("frame", HTMLElement).scrollIntoView({ block: "nearest" });
    const received = await this.#receive(request, model, options);
    const report = (text) => this.#stage.report(text, 1);
    const decoded = await decode(decoder, received, { ...options, report });
    const isVideo = request.modality === "video-latents";
    this.#stage.show(decoded.pixels, `${isVideo ? "Video" : "Image"} of: ${request.prompt}`, received.header.fps);
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
  #decoderFor({ modality }) {
    const { model, decoder } = this.form;
    if (modality !== "video-latents" || decodesFramesIndependently(model)) return decoder;
    if (!model.decodes) throw new InvalidRequest("modality", "this page cannot decode videos of this model, and its server does not decode.");
    return "server";
  }
  /** Receive a stream while its steps and previews are shown. What has arrived stays in #incomplete if this throws. */
  async #receive(request, model, action) {
    const received = this.#incomplete = nothingReceived();
    const matrix = await this.#matrix(model);
    const size2 = request.size ?? model.default_size;
    const options = {
      ...action,
      onProgress: ({ step, totalSteps }) => this.#stage.report(`The server computes the latents: step ${step} of ${totalSteps}.`, step / totalSteps),
      onPreview: (preview, header) => matrix !== null && this.#stage.showPreview(preview, header, matrix, size2),
      onFrame: (frames, total) => total > 1 && this.#stage.report(`Received ${frames} of ${total} frames, ${formatBytes(sizeOf(received))}.`, frames / total)
    };
    const every = Math.max(1, Math.round((request.steps ?? PREVIEWS) / PREVIEWS));
    try {
      await receive2(received, matrix === null ? request : { ...request, preview_every: every }, options);
    } catch (error) {
      if (!(error instanceof InvalidRequest && error.field === "preview_every")) throw error;
      await receive2(received, request, options);
    }
    this.#incomplete = null;
    return received;
  }
  /** Return the matrix with which previews are drawn; null if the server has none. */
  #matrix({ latent_space_id: latentSpace, latent_rgb_url: url }) {
    const found = this.#matrices.get(latentSpace) ?? fetchLatentRgb(SERVER, { latentSpace }).catch(() => null);
    if (url === null) return Promise.resolve(null);
    this.#matrices.set(latentSpace, found);
    return found;
  }
  #showSizes() {
    const { received, decoded, files, pipelines, variants } = this.#result;
    showSizes(received, decoded.pixels, files, pipelines, variants);
  }
  /** Decode the result on the server too, and show the difference. */
  async #check(signal) {
    const { received, decoded } = this.#result;
    const report = (text) => setText("check-result", text);
    showCheck(decoded, await decode("server", received, { ...this.#options(signal), report }));
  }
  /** Generate the result once in each pipeline, for the table of sizes. */
  async #measure(signal) {
    const { pipelines, variants } = this.#result;
    for (const [index, pipeline] of pipelines.entries()) {
      this.#stage.report(`Measuring ${pipeline}, ${index + 1} of ${pipelines.length}.`, index / pipelines.length);
      await variants.get(pipeline, signal);
      this.#showSizes();
    }
    this.#stage.report("");
  }
  /** Show raw, int8 and int4 of the result side by side; without a result, generate one first. */
  async #compare(signal) {
    if (this.#result === null) await this.#generate(signal);
    const { received, decoded, variants, map } = this.#result;
    await this.#comparison.run(variants, signal, (text) => setText("compare-status", text));
    showFidelity(received, decoded, variants.found.get("raw")?.decoded?.pixels ?? null, map);
    this.#showSizes();
  }
  /** Save the frame that is shown. */
  async #save() {
    const { pixels, frame } = this.#stage;
    if (pixels === null) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await fileOf(pixels, "image/png", frame));
    link.download = pixels.frames.length > 1 ? `frame-${frame + 1}.png` : "image.png";
    link.click();
    URL.revokeObjectURL(link.href);
  }
};
function withSeed(request, seed) {
  return seed === null ? request : { ...request, seed };
}

// src/main.ts
var STATES = {
  loading: "The server is loading its model.",
  warming: "The server is preparing its model.",
  draining: "The server is shutting down.",
  failed: "The server has failed. Its log states the reason."
};
var SETUP = "This copy of the page lets the server decode. To decode in the browser, install npm, run “make web” in the repository of the server, and reload the page.";
var NO_DECODER = "The latents of this model cannot be decoded here: its server sends only latents, and this copy of the page has no decoder for it.";
function hintFor({ decoders }, names) {
  const [decoder] = decoders ?? [];
  if (names.some((name) => name !== "server") && decoder !== void 0) {
    return `The decoder has ${formatBytes(decoder.size_bytes)} and its runtime 14 MB, with WebGPU 27 MB. The browser keeps both.`;
  }
  if (decoder === void 0) return "The server publishes no decoder of this model for browsers.";
  if (!isSecureContext) return "Browsers decode only on https:// and localhost pages.";
  return "This copy of the page has no decoder for browsers.";
}
async function start() {
  const generate2 = byId("generate", HTMLButtonElement);
  generate2.disabled = true;
  const info = await waitUntilLoaded((state) => setText("status", STATES[state] ?? "The server does not respond."));
  setText("status", "");
  const form = new RequestForm(info, info.models, await fetchMaps(info.models));
  const showDecoders = async () => {
    const decoders = await availableDecoders(form.model);
    setOptions(
      byId("decoder", HTMLSelectElement),
      decoders.map((name) => ({ value: name, text: DECODER_TEXTS[name] })),
      decoders[0]
    );
    setText("decoder-hint", hintFor(form.model, decoders));
    setText("status", decoders.length > 0 ? "" : NO_DECODER);
    generate2.disabled = decoders.length === 0;
  };
  byId("model", HTMLSelectElement).addEventListener("change", () => void showDecoders());
  setVisible(!document.documentElement.dataset["decoders"], "setup");
  setText("setup", SETUP);
  setText("about", `codec-diffusers ${info.server_version}, ${form.model.model} on ${info.device ?? "another server"}.`);
  new Studio(info, form);
  await showDecoders();
}
void start();
