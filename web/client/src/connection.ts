/** Requests to one server with fetch. Failures are errors of this package, except for an abort. */

import { ServerUnreachable } from "./errors.js";

export interface ConnectionOptions {
  /** Sent as a bearer token. */
  readonly apiKey?: string | undefined;
  /** Cancels the request, and with it the generation on the server. Its reason is thrown. */
  readonly signal?: AbortSignal | undefined;
}

/** Return the URL of `path` on `server`, which may end in a slash or in /v1, like the base URL of an OpenAI client. */
export function urlOf(server: string, path: string): string {
  return server.replace(/\/+$/, "").replace(/\/v1$/, "") + path;
}

/**
 * Send a request and return the response, whatever its status.
 *
 * Throws ServerUnreachable if no server responds or the response is a redirect, which is never followed, and the reason
 * of the signal if it is aborted.
 */
export async function send(url: string, init: RequestInit, options: ConnectionOptions): Promise<Response> {
  const headers = new Headers(init.headers);
  if (options.apiKey !== undefined) headers.set("Authorization", `Bearer ${options.apiKey}`);
  try {
    return await fetch(url, { ...init, headers, redirect: "error", signal: options.signal ?? null });
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new ServerUnreachable(`cannot connect to ${url}: ${reasonOf(error)}`);
  }
}

/** Return the body of a response; null if it has more than `maxBytes` bytes. Throws what fetch throws. */
export async function readAtMost(response: Response, maxBytes: number): Promise<Uint8Array<ArrayBuffer> | null> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for (const reader = response.body?.getReader(); reader !== undefined; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    size += value.length;
    if (size > maxBytes) {
      await reader.cancel();
      return null;
    }
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** Return the text of an error of fetch, which in Node.js is that of its cause. */
export function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}
