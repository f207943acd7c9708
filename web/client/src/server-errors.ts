/** Conversion of error responses of servers and proxies to errors. */

import { readAtMost } from "./connection.js";
import * as errors from "./errors.js";

const MAX_ERROR_BYTES = 64 * 1024;

type MessageError = new (message: string) => errors.CodecError;

const MESSAGE_ERRORS: readonly (MessageError & { readonly code: string })[] = [
  ...[errors.Unauthenticated, errors.Forbidden, errors.MapMismatch, errors.TooLarge, errors.UnsupportedCoding],
  ...[errors.UnsupportedMediaType, errors.RequestTimeout, errors.NotAcceptable, errors.OutOfMemory],
  ...[errors.OutOfStorage, errors.DeadlineExceeded, errors.Cancelled, errors.InvalidLatents, errors.CodecError],
];

/** Return the error that a response with a status other than 200 reports. */
export async function errorOf(response: Response): Promise<errors.CodecError> {
  const body = await readAtMost(response, MAX_ERROR_BYTES).catch(() => null);
  const text = new TextDecoder().decode(body ?? new Uint8Array(0));
  const after = response.headers.get("Retry-After") ?? "";
  const retryAfterS = /^[0-9]+$/.test(after) ? Number(after) : 1;
  const detail = (parseJson(text) as { error?: Record<string, unknown> } | null)?.error ?? {};
  const message = typeof detail["message"] === "string" ? detail["message"] : text.slice(0, 200).trim();
  const reported = reportedError(detail, message, retryAfterS);
  if (reported !== null) return reported;
  // The response is from a proxy, or from other software with its own error codes.
  const summary = `${response.url} returned HTTP status ${response.status}: ${message || response.statusText}`;
  if (response.status === 429) return new errors.Overloaded(message || summary, retryAfterS);
  if (response.status === 503) return new errors.NotReady(message || summary, retryAfterS);
  return new errors.UnexpectedAnswer(summary);
}

/** Return the error in the data of an error event, which is the body of an error response; null if it is unknown. */
export function reportedErrorOf(body: Readonly<Record<string, unknown>>, retryAfterS = 1): errors.CodecError | null {
  const detail = (body["error"] ?? {}) as Record<string, unknown>;
  return reportedError(detail, typeof detail["message"] === "string" ? detail["message"] : "", retryAfterS);
}

/** Return the error with the code in `detail`, the object "error" of a response; null if the code is unknown. */
function reportedError(detail: Record<string, unknown>, message: string, retryAfterS: number): errors.CodecError | null {
  const { code, param } = detail;
  const field = typeof param === "string" ? param : "request";
  const reason = message.startsWith(`${field}: `) ? message.slice(field.length + 2) : message;
  switch (code) {
    case errors.InvalidRequest.code:
      return new errors.InvalidRequest(field, reason);
    case errors.NotFound.code:
      return new errors.NotFound(field, reason);
    case errors.Overloaded.code:
      return new errors.Overloaded(message, retryAfterS);
    case errors.NotReady.code:
      return new errors.NotReady(message, retryAfterS);
    case errors.UnsupportedModality.code: {
      const supported = detail["supported_modalities"];
      return new errors.UnsupportedModality(message, Array.isArray(supported) ? supported.map(String) : []);
    }
    default: {
      const found = MESSAGE_ERRORS.find((candidate) => candidate.code === code);
      return found === undefined ? null : new found(message);
    }
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
