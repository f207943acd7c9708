/** Reader of a generation that is sent as Server-Sent Events: messages of the stream, progress and previews. */

import { MalformedMessage, StreamFailed } from "./errors.js";
import type { LatentStreamHeader } from "./messages.js";
import { decodePreview, type EventListeners, type Progress } from "./progress.js";
import { parseFrameMessage, type WireFormat } from "./reader.js";
import { reportedErrorOf } from "./server-errors.js";

/** Maximum size of an event: the largest frame, in base64. */
const MAX_EVENT_CHARACTERS = 512 * 1024 * 1024;

/**
 * Yield the messages of the latent stream in the events of `chunks`, and call the listeners.
 *
 * `headerOf` returns the header of the stream once its message was decoded. Throws MalformedMessage, or the error that
 * the server reports in an event. Events with an unknown name are skipped.
 */
export async function* readEvents(
  chunks: AsyncIterable<Uint8Array>,
  wireFormat: WireFormat,
  headerOf: () => LatentStreamHeader | null,
  { onProgress, onPreview }: EventListeners,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
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
      else if (name === "preview" && header !== null && onPreview !== undefined) {
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

type EventData = Readonly<Record<string, unknown>>;

function parseEvent(text: string): { name: string; data: EventData } {
  const fields = new Map(text.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
  let data: unknown = null;
  try {
    data = JSON.parse(fields.get("data") ?? "");
  } catch {
    // reported below
  }
  if (typeof data !== "object" || data === null) throw new MalformedMessage("the data of an event must be a JSON object");
  return { name: fields.get("event") ?? "message", data: data as EventData };
}

function positionIn({ step, total_steps: totalSteps }: EventData): Progress {
  if (!Number.isInteger(step) || !Number.isInteger(totalSteps)) {
    throw new MalformedMessage(`step and total_steps of an event must be integers`);
  }
  return { step: step as number, totalSteps: totalSteps as number };
}

function messageIn({ message }: EventData): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(String(message)), (character) => character.charCodeAt(0));
  } catch {
    throw new MalformedMessage("message of an event must be base64");
  }
}
