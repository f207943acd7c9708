/** Messages as msgpack maps. */

import { MalformedMessage } from "./errors.js";
import { createFrame, createHeader, shown, type LatentFrame, type LatentStreamHeader } from "./messages.js";
import type { MsgpackMap, MsgpackValue } from "./msgpack.js";

/** Return the header in a map. Throws MalformedMessage naming the key that is not valid. */
export function parseHeader(map: MsgpackMap): LatentStreamHeader {
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
    vaeScaleFactor: factor === null ? null : Number(factor),
  });
}

/** Return the frame in a map. Throws MalformedMessage naming the key that is not valid. */
export function parseFrame(map: MsgpackMap): LatentFrame {
  const message = new Message(map, FRAME_KEYS, "frame");
  return createFrame({
    data: message.required("data", isBinary),
    seq: message.required("seq", isInteger),
    keyframe: message.required("keyframe", isBoolean),
    done: message.required("done", isBoolean),
    finishReason: message.optional("finish_reason", isString),
  });
}

const HEADER_KEYS = [
  ...["type", "latent_space_id", "shape", "dtype", "pipeline", "scales", "fps", "total_frames", "vae_scale_factor"],
];
const FRAME_KEYS = ["data", "seq", "keyframe", "done", "finish_reason"];

type Check<T extends MsgpackValue> = (value: MsgpackValue) => value is T;

const isString: Check<string> = (value) => typeof value === "string";
const isInteger: Check<bigint> = (value) => typeof value === "bigint";
const isNumber = (value: MsgpackValue): value is number | bigint =>
  typeof value === "number" || typeof value === "bigint";
const isBoolean: Check<boolean> = (value) => typeof value === "boolean";
const isBinary: Check<Uint8Array<ArrayBuffer>> = (value) => value instanceof Uint8Array;
const isIntegers: Check<bigint[]> = (value): value is bigint[] => Array.isArray(value) && value.every(isInteger);

/** A map whose keys are checked when it is created, and whose values when they are read. */
class Message {
  constructor(
    private readonly map: MsgpackMap,
    keys: readonly string[],
    private readonly kind: string,
  ) {
    for (const key of map.keys()) {
      if (typeof key !== "string" || !keys.includes(key)) {
        throw new MalformedMessage(`unknown key ${shown(String(key))} in a ${kind}`);
      }
    }
  }

  required<T extends MsgpackValue>(name: string, check: Check<T>): T {
    if (!this.map.has(name)) throw new MalformedMessage(`missing key "${name}" in a ${this.kind}`);
    return this.checked(name, check);
  }

  optional<T extends MsgpackValue>(name: string, check: Check<T>): T | null {
    return this.map.has(name) ? this.checked(name, check) : null;
  }

  private checked<T extends MsgpackValue>(name: string, check: Check<T>): T {
    const value = this.map.get(name)!;
    if (!check(value)) throw new MalformedMessage(`${name} has a value of the wrong type in a ${this.kind}`);
    return value;
  }
}
