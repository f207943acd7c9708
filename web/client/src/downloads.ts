/** Download of files that a server publishes, with hashes verified. */

import { type ConnectionOptions, readAtMost, reasonOf, send, urlOf } from "./connection.js";
import { InvalidMap } from "./errors.js";

/** Path below which servers publish files. */
export const WELL_KNOWN_PATH = "/.well-known/codec";

/**
 * Return the URL from which to download `url`, which is relative to the server.
 *
 * A server behind a proxy does not always know the origin that its clients use: a URL of another origin whose path is
 * that of a published file is requested from the server itself. Throws InvalidMap for other URLs of other origins.
 */
export function allowedUrl(server: string, url: string): string {
  const base = new URL(urlOf(server, "/"));
  if (!URL.canParse(url, base)) throw new InvalidMap(`${server} sent an invalid URL: ${url}`);
  const resolved = new URL(url, base);
  if (resolved.origin === base.origin) return resolved.href;
  if (resolved.pathname.startsWith(`${WELL_KNOWN_PATH}/`)) return new URL(resolved.pathname, base).href;
  throw new InvalidMap(`${server} refers to ${url}, which is of another origin`);
}

/** Download a file of at most `maxBytes` bytes. */
export async function download(url: string, maxBytes: number, options: ConnectionOptions): Promise<Uint8Array<ArrayBuffer>> {
  const response = await send(url, {}, options);
  if (!response.ok) throw new InvalidMap(`cannot download ${url}: HTTP status ${response.status}`);
  let document: Uint8Array<ArrayBuffer> | null;
  try {
    document = await readAtMost(response, maxBytes);
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new InvalidMap(`cannot download ${url}: ${reasonOf(error)}`);
  }
  if (document === null) throw new InvalidMap(`${url} is larger than ${maxBytes} bytes, the maximum for this file`);
  return document;
}

/** Return the hash of `data`, sha256:<hex>. */
export async function digestOf(data: Uint8Array<ArrayBuffer>): Promise<string> {
  if (globalThis.crypto?.subtle === undefined) {
    throw new InvalidMap("hashes cannot be verified here: browsers have WebCrypto only on https:// and localhost pages");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return `sha256:${[...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

export function parseJson(document: Uint8Array, url: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(document));
  } catch {
    throw new InvalidMap(`${url} is not JSON`);
  }
}
