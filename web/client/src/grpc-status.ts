/** The status of a gRPC call as an error. */

import * as errors from "./errors.js";
import { bytesOf, fieldsOf, numberOf, stringOf } from "./protobuf-fields.js";
import { reportedErrorOf } from "./server-errors.js";

const ERROR_DOMAIN = "codec-diffusers";
/** Classes of the statuses that proxies send too, by their number. */
const CLASSES: ReadonlyMap<number, (message: string) => errors.CodecError> = new Map([
  [1, (message) => new errors.Cancelled(message)],
  [4, (message) => new errors.DeadlineExceeded(message)],
  [7, (message) => new errors.Forbidden(message)],
  [8, (message) => new errors.Overloaded(message, 1)],
  [14, (message) => new errors.NotReady(message, 1)],
  [16, (message) => new errors.Unauthenticated(message)],
] as const satisfies [number, (message: string) => errors.CodecError][]);

/** Return the error that the status in `trailers` reports: null if it is OK or missing. */
export function statusError(trailers: Headers): errors.CodecError | null {
  const code = trailers.get("grpc-status");
  if (code === null || Number(code) === 0) return null;
  const message = decodedMessage(trailers.get("grpc-message") ?? "");
  const reported = detailedError(trailers.get("grpc-status-details-bin") ?? "", message);
  if (reported !== null) return reported;
  const summary = message || `the call ended with the gRPC status ${code}`;
  return CLASSES.get(Number(code))?.(summary) ?? new errors.UnexpectedAnswer(`gRPC status ${code}: ${message}`);
}

/** Return the error in the google.rpc.Status that servers of this project send; null if there is none. */
function detailedError(encoded: string, message: string): errors.CodecError | null {
  const error: Record<string, unknown> = { message };
  let retryAfterS = 1;
  try {
    const status = fieldsOf(Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0)));
    for (const detail of status.get(3) ?? []) {
      if (typeof detail === "bigint") continue;
      const type = stringOf(fieldsOf(detail), 1);
      const value = fieldsOf(bytesOf(fieldsOf(detail), 2) ?? new Uint8Array(0));
      if (type.endsWith("/google.rpc.RetryInfo")) {
        retryAfterS = numberOf(fieldsOf(bytesOf(value, 1) ?? new Uint8Array(0)), 1) || 1;
      } else if (type.endsWith("/google.rpc.ErrorInfo")) {
        if (stringOf(value, 2) !== ERROR_DOMAIN) return null;
        error["code"] = stringOf(value, 1).toLowerCase();
        for (const entry of value.get(3) ?? []) {
          if (typeof entry === "bigint") continue;
          const metadata = fieldsOf(entry);
          if (stringOf(metadata, 1) === "field") error["param"] = stringOf(metadata, 2);
          if (stringOf(metadata, 1) === "supported") error["supported_modalities"] = stringOf(metadata, 2).split(",");
        }
      }
    }
  } catch {
    return null; // not a status of this project
  }
  return reportedErrorOf({ error }, retryAfterS);
}

/** Return a status message, whose bytes other than those of printable ASCII are percent-encoded UTF-8. */
function decodedMessage(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}
