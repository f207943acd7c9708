/** Errors in plain words. */

import * as codec from "codec-latents";

import { formatBytes, formatCount } from "./format.js";
import { type Received, sizeOf } from "./received.js";

/** What to show for an error, and what to offer. */
export interface Problem {
  readonly title: string;
  readonly text: string;
  /** Label of the button; null if the request must be changed instead. */
  readonly action: "Try again" | "Reload the page" | null;
  /** Seconds after which the server expects the next attempt; 0 if it can be made at once. */
  readonly waitS: number;
  /** The field of the form to correct; null if no field caused the error. */
  readonly field: string | null;
}

/** Return the description of an error that a request threw. `state` is what the server reports about itself, if known. */
export function describeProblem(error: unknown, state: string | null): Problem {
  const text = error instanceof Error ? error.message : String(error);
  const base = { text, action: "Try again" as const, waitS: 0, field: null };
  if (error instanceof codec.Overloaded) {
    return { ...base, title: "The queue is full", text: "Other requests are being generated.", waitS: error.retryAfterS };
  }
  if (error instanceof codec.NotReady) {
    const stopping = state === "draining" || state === "stopped";
    const reason = stopping
      ? "It finishes the requests that it has begun and accepts no new ones. It may be restarted."
      : "It is loading its model.";
    return { ...base, title: stopping ? "The server is shutting down" : "The server is not ready", text: reason, waitS: error.retryAfterS };
  }
  if (error instanceof codec.MapMismatch || error instanceof codec.InvalidMap) {
    const reason = "The server encodes latents in another way than when this page was loaded, so this page would draw wrong colours. Reload it to get the matching decoder.";
    return { ...base, title: "The page and the server do not match", text: reason, action: "Reload the page" };
  }
  if (error instanceof codec.TruncatedStream || error instanceof codec.ServerUnreachable) {
    const lost = error instanceof codec.TruncatedStream;
    return {
      ...base,
      title: lost ? "The connection was lost" : "The server does not respond",
      text: lost ? "The server stopped sending before the result was complete." : "It may be stopped, or the network is down.",
    };
  }
  if (error instanceof codec.Unauthenticated) {
    return { ...base, title: "An access key is required", text, action: null, field: "key" };
  }
  if (error instanceof codec.InvalidRequest || error instanceof codec.NotFound) {
    return { ...base, title: "The request was not accepted", action: null, field: error.field };
  }
  if (error instanceof codec.TooLarge) return { ...base, title: "The request is too large for this server", action: null };
  if (error instanceof codec.Forbidden) return { ...base, title: "The server refuses this page", action: null };
  if (error instanceof codec.DeadlineExceeded) return { ...base, title: "The generation took too long" };
  return { ...base, title: "The generation failed" };
}

/** Return what is known of a stream that ended early; an empty string if nothing arrived. */
export function describeReceived(received: Received): string {
  const { header, latents, progress } = received;
  const parts: string[] = [];
  if (progress !== null) parts.push(`${progress.step} of ${progress.totalSteps} steps were completed`);
  if (header !== null) {
    const total = header.totalFrames ?? 1;
    parts.push(`${formatCount(latents.length)} of ${formatCount(total)} ${total === 1 ? "frame" : "frames"} arrived`);
    parts.push(`${formatBytes(sizeOf(received))} of ${header.pipeline.name} data were received`);
  }
  return parts.length === 0 ? "" : `Before that, ${parts.join(", ")}.`;
}
