/** Download of latent-space maps and latent-to-RGB matrices, with hashes verified. */

import { type ConnectionOptions, urlOf } from "./connection.js";
import { allowedUrl, digestOf, download, parseJson, WELL_KNOWN_PATH } from "./downloads.js";
import { InvalidMap, NotFound } from "./errors.js";
import { type LatentRgb, parseLatentRgb } from "./latent-rgb.js";
import { type LatentMap, parseLatentMap } from "./map-document.js";

const MAX_INDEX_BYTES = 1024 * 1024;
const MAX_MAP_BYTES = 1024 * 1024;
const MAX_RGB_BYTES = 256 * 1024;
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** A latent-space map and the hash of its document, sha256:<hex>. */
export interface PublishedMap {
  readonly latentMap: LatentMap;
  readonly hash: string;
}

interface IndexEntry {
  readonly id: string;
  readonly url: string;
  readonly hash: string;
  readonly rgb_url: string | null;
}

export interface MapSelection extends ConnectionOptions {
  /** Id of the latent space. Default: any. */
  readonly latentSpace?: string | undefined;
  /** Hash of the map, sha256:<hex>, for example LatentStream.mapHash. Default: any. */
  readonly hash?: string | undefined;
}

/**
 * Download a latent-space map, the first one in the server's index that matches, and verify its hash.
 *
 * Throws InvalidMap if the server publishes no such map, or its document is not valid or has another hash; or
 * ServerUnreachable.
 */
export async function fetchMap(server: string, selection: MapSelection = {}): Promise<PublishedMap> {
  const { latentSpace, hash } = selection;
  for (const entry of await fetchIndex(server, selection)) {
    if ((latentSpace ?? entry.id) !== entry.id || (hash ?? entry.hash) !== entry.hash) continue;
    const document = await download(allowedUrl(server, entry.url), MAX_MAP_BYTES, selection);
    const found = await digestOf(document);
    if (found !== entry.hash) throw new InvalidMap(`${entry.url} has the hash ${found}, expected ${entry.hash}`);
    return { latentMap: parseLatentMap(parseJson(document, entry.url)), hash: found };
  }
  const wanted = [latentSpace, hash].filter((part) => part !== undefined).join(" ");
  throw new InvalidMap(`${server} does not publish the latent-space map ${wanted}`);
}

/**
 * Download the matrix with which latentToRgb draws latents of a latent space; by default that of the first map.
 *
 * Throws NotFound if the server has no matrix, InvalidMap if the file is not a matrix, or ServerUnreachable.
 */
export async function fetchLatentRgb(
  server: string,
  selection: ConnectionOptions & { readonly latentSpace?: string | undefined } = {},
): Promise<LatentRgb> {
  const entries = await fetchIndex(server, selection);
  const entry = entries.find(({ id }) => id === (selection.latentSpace ?? id));
  if (entry === undefined || entry.rgb_url === null) {
    const space = selection.latentSpace ?? "its maps";
    throw new NotFound("latent_space", `${server} has no latent-to-RGB matrix for ${space}`);
  }
  const document = await download(allowedUrl(server, entry.rgb_url), MAX_RGB_BYTES, selection);
  return parseLatentRgb(parseJson(document, entry.rgb_url));
}

async function fetchIndex(server: string, options: ConnectionOptions): Promise<IndexEntry[]> {
  const url = urlOf(server, `${WELL_KNOWN_PATH}/index.json`);
  const index = parseJson(await download(url, MAX_INDEX_BYTES, options), url) as { latents?: unknown } | null;
  if (!Array.isArray(index?.latents)) throw new InvalidMap(`${url} is not an index of latent-space maps`);
  return index.latents.map((entry: Partial<Record<keyof IndexEntry, unknown>> | null) => {
    const { id, url: mapUrl, hash, rgb_url = null } = entry ?? {};
    if (typeof id !== "string" || typeof mapUrl !== "string" || !(rgb_url === null || typeof rgb_url === "string")) {
      throw new InvalidMap(`${url} is not an index of latent-space maps`);
    }
    if (typeof hash !== "string" || !DIGEST.test(hash)) throw new InvalidMap(`${url}: hash must be sha256:<64 hex>`);
    return { id, url: mapUrl, hash, rgb_url };
  });
}
