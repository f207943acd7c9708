/** Download of the zstd dictionaries of a latent space, with hashes verified. */

import { allowedUrl, digestOf, download } from "./downloads.js";
import { InvalidMap, NotFound } from "./errors.js";
import { fetchMap, type MapSelection } from "./maps.js";
import type { WireFormat } from "./reader.js";

/** Limit of a download, far above the size of a dictionary. */
const MAX_DICTIONARY_BYTES = 16 * 1024 * 1024;

/** A dictionary for the content coding zstd. */
export interface PublishedDictionary {
  /** Hash of `data`, sha256:<hex>, which responses have in the header Codec-Zstd-Dict. */
  readonly hash: string;
  readonly data: Uint8Array<ArrayBuffer>;
}

export interface DictionarySelection extends MapSelection {
  /** Pipeline of the stream, for example int8. */
  readonly pipeline: string;
  /** Default: msgpack. */
  readonly wireFormat?: WireFormat | undefined;
}

/**
 * Download the dictionary that compresses streams of a pipeline, and verify its hash and that of the map that lists it.
 *
 * Throws NotFound if the map lists no such dictionary, InvalidMap if a file has another hash or is not valid, or
 * ServerUnreachable.
 */
export async function fetchDictionary(server: string, selection: DictionarySelection): Promise<PublishedDictionary> {
  const { pipeline, wireFormat = "msgpack" } = selection;
  const { latentMap } = await fetchMap(server, selection);
  const entry = latentMap.zstd_dictionaries?.find((one) => one.pipeline === pipeline && one.format === wireFormat);
  if (entry === undefined) {
    throw new NotFound("pipeline", `${latentMap.id} has no zstd dictionary for ${pipeline} in ${wireFormat}`);
  }
  const data = await download(allowedUrl(server, entry.url), MAX_DICTIONARY_BYTES, selection);
  const hash = await digestOf(data);
  if (hash !== entry.hash) throw new InvalidMap(`${entry.url} has the hash ${hash}, expected ${entry.hash}`);
  return { hash, data };
}
