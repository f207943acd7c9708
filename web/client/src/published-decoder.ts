/** Download of decoders, which turn latents into pixels, with hashes verified. */

import { type ConnectionOptions, urlOf } from "./connection.js";
import { allowedUrl, digestOf, download, parseJson } from "./downloads.js";
import { InvalidMap, NotFound } from "./errors.js";

const MAX_INFO_BYTES = 1024 * 1024;
const MAX_DECODER_BYTES = 1024 * 1024 * 1024;

/** A decoder of latents to pixels, for example an ONNX model. */
export interface PublishedDecoder {
  /** Format of `data`: "onnx". */
  readonly family: string;
  /** Hash of `data`, sha256:<hex>. */
  readonly hash: string;
  /** Hash of the latent-space map whose latents the decoder decodes, sha256:<hex>. */
  readonly mapHash: string;
  readonly data: Uint8Array<ArrayBuffer>;
}

export interface DecoderSelection extends ConnectionOptions {
  /** Id of the latent space. Default: any. */
  readonly latentSpace?: string | undefined;
  /** Name of the model. Default: any. */
  readonly model?: string | undefined;
  /** Format of the decoder. Default: onnx. */
  readonly family?: string | undefined;
}

/**
 * Download the decoder of the first model that matches, and verify its hash. It has an input `latents` [N, C, h, w] for
 * latents as the stream has them, and an output `pixels` [N, 3, H, W] from 0 to 1.
 *
 * Throws NotFound if the server publishes no such decoder, InvalidMap if the file has another hash, or ServerUnreachable.
 */
export async function fetchDecoder(server: string, selection: DecoderSelection = {}): Promise<PublishedDecoder> {
  const { latentSpace, model, family = "onnx" } = selection;
  const url = urlOf(server, "/codec/info");
  const { models } = (parseJson(await download(url, MAX_INFO_BYTES, selection), url) ?? {}) as { models?: unknown };
  for (const one of Array.isArray(models) ? (models as Record<string, unknown>[]) : []) {
    if ((latentSpace ?? one["latent_space_id"]) !== one["latent_space_id"]) continue;
    if (model !== undefined && model !== one["model"] && !namesOf(one["model_aliases"]).includes(model)) continue;
    const found = (Array.isArray(one["decoders"]) ? one["decoders"] : []).find((entry) => entry?.family === family);
    if (typeof found?.url !== "string") continue;
    const data = await download(allowedUrl(server, found.url), MAX_DECODER_BYTES, selection);
    const hash = await digestOf(data);
    if (hash !== found.hash) throw new InvalidMap(`${found.url} has the hash ${hash}, expected ${found.hash}`);
    return { family, hash, mapHash: String(one["latent_map_sha256"]), data };
  }
  throw new NotFound("decoder", `${server} publishes no ${family} decoder for ${latentSpace ?? model ?? "its models"}`);
}

function namesOf(aliases: unknown): unknown[] {
  return Array.isArray(aliases) ? aliases : [];
}
