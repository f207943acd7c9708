import type { ServerResponse } from "node:http";
import { describe, expect, it } from "vitest";

import { type DecodedLatents, generateGrpcWeb, type GenerationRequest, type StreamOptions } from "../src/index.js";
import { requestMessage } from "../src/grpc-request.js";
import { FRAME_FIELDS, HEADER_FIELDS } from "./bodies.js";
import { withServer } from "./http-server.js";
import { chunksOf, concat } from "./streams.js";

const REQUEST: GenerationRequest = { prompt: "a sea" };
const CONTENT_TYPE = "application/grpc-web+proto";

const nested = (field: number, content: readonly number[]) => [(field << 3) | 2, content.length, ...content];
const framed = (flags: number, content: readonly number[]) => Uint8Array.of(flags, 0, 0, 0, content.length, ...content);
const trailers = (text: string) => framed(0x80, [...Buffer.from(text)]);

const HEADER = framed(0, nested(1, HEADER_FIELDS.flat()));
const FRAME = framed(0, nested(2, FRAME_FIELDS.flat()));
const PROGRESS = framed(0, nested(3, [8, 2, 16, 9]));
const UNKNOWN = framed(0, [0xf8, 0x7f, 1]); // field 2047 of a newer server
const OK = trailers("grpc-status:0\r\n");

async function receive(respond: (response: ServerResponse) => void, options: StreamOptions = {}): Promise<DecodedLatents[]> {
  return withServer((_, response) => respond(response), async (address) => {
    const frames: DecodedLatents[] = [];
    for await (const latents of await generateGrpcWeb(address, REQUEST, options)) frames.push(latents);
    return frames;
  });
}

function send(...parts: Uint8Array[]): (response: ServerResponse) => void {
  return (response) => {
    response.writeHead(200, { "Content-Type": CONTENT_TYPE });
    for (const part of chunksOf(concat(...parts), 3)) response.write(part);
    response.end();
  };
}

describe("a gRPC-Web response", () => {
  it("is received in chunks of any size, and messages of newer servers are skipped", async () => {
    const steps: unknown[] = [];
    const found = await receive(send(HEADER, PROGRESS, UNKNOWN, FRAME, OK), { onProgress: (step) => steps.push(step) });
    expect(found.map(({ seq, shape }) => [seq, shape])).toEqual([[0, [1, 2]]]);
    expect(steps).toEqual([{ step: 2, totalSteps: 9 }]);
  });

  it.each([
    ["has no trailers", [HEADER, FRAME], "TruncatedStream"],
    ["ends within a message", [HEADER, FRAME.subarray(0, 9)], "TruncatedStream"],
    ["has no frame", [HEADER, OK], "TruncatedStream"],
    ["has compressed messages", [Uint8Array.of(1, 0, 0, 0, 0)], "MalformedMessage"],
    ["is too large", [Uint8Array.of(0, 255, 255, 255, 255)], "MessageTooLarge"],
    ["is not protobuf", [framed(0, [7])], "MalformedMessage"],
    ["ends with a status", [HEADER, trailers("grpc-status:14\r\ngrpc-message:stopped%21\r\n")], "NotReady"],
  ])("that %s is refused", async (_, parts, name) => {
    await expect(receive(send(...(parts as Uint8Array[])))).rejects.toMatchObject({ name });
  });

  it.each([
    [{ "grpc-status": "16", "grpc-message": "no%20key" }, { name: "Unauthenticated", message: "no key" }],
    [{ "grpc-status": "2", "grpc-message": "%" }, { name: "UnexpectedAnswer", message: "gRPC status 2: %" }],
    [{ "grpc-status": "8", "grpc-status-details-bin": "!" }, { name: "Overloaded", retryAfterS: 1 }],
    [{ "Content-Type": "text/plain" }, { name: "UnexpectedAnswer" }],
  ])("with the headers %j is an error", async (headers, expected) => {
    const respond = (response: ServerResponse) => response.writeHead(200, { "Content-Type": CONTENT_TYPE, ...headers }).end();
    await expect(receive(respond)).rejects.toMatchObject(expected);
  });

  it("with another HTTP status is the error that it reports", async () => {
    const error = { code: "overloaded", message: "full" };
    const respond = (response: ServerResponse) => response.writeHead(429, { "Retry-After": "7" }).end(JSON.stringify({ error }));
    await expect(receive(respond)).rejects.toMatchObject({ name: "Overloaded", retryAfterS: 7 });
  });
});

describe("a request that protobuf cannot represent", () => {
  it.each([
    ["steps", { steps: -2 }],
    ["steps", { steps: 1.5 }],
    ["seed", { seed: 2n ** 64n }],
    ["size", { size: "-1x8" as const }],
  ])("names its field %s", (field, changes) => {
    expect(() => requestMessage({ ...REQUEST, ...changes }, false)).toThrow(expect.objectContaining({ name: "InvalidRequest", field }));
  });
});
