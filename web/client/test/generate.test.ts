import type { ServerResponse } from "node:http";
import { describe, expect, it } from "vitest";

import { type DecodedLatents, generate, type GenerationRequest, type GenerateOptions } from "../src/index.js";
import { body, FRAME, pack } from "./bodies.js";
import { type Received, withServer } from "./http-server.js";

const STREAM = body({ total_frames: 2 }, { done: false }, { seq: 1 });
const HEADER_BYTES = body({ total_frames: 2 }).length;
const REQUEST = { prompt: "a sea" };

/** Send a request to a server that sends `parts` with a status; return its frames. */
async function receive(
  respond: (request: Received, response: ServerResponse) => void,
  options: GenerateOptions = {},
  request: GenerationRequest = REQUEST,
): Promise<DecodedLatents[]> {
  return withServer(respond, async (address) => {
    const frames: DecodedLatents[] = [];
    for await (const latents of await generate(address, request, options)) frames.push(latents);
    return frames;
  });
}

function stream(response: ServerResponse): ServerResponse {
  return response.writeHead(200, { "Content-Type": "application/x-msgpack" });
}

function refuse(status: number, error: object | string, headers = {}): (_: Received, response: ServerResponse) => void {
  return (_, response) => {
    response.writeHead(status, headers).end(typeof error === "string" ? error : JSON.stringify({ error }));
  };
}

describe("a request", () => {
  it("has the fields on the wire, base64 files and exact seeds", async () => {
    let received: Received | undefined;
    const respond = (request: Received, response: ServerResponse) => {
      received = request;
      stream(response).end(STREAM);
    };
    const image = Uint8Array.from({ length: 100_000 }, (_, index) => index);
    const seed = 2n ** 64n - 1n;
    const options = { apiKey: "secret", pinnedMap: "sha256:0", wireFormat: "protobuf" } as const;
    expect(await receive(respond, options, { ...REQUEST, image, seed, size: "64x32" })).toHaveLength(2);
    expect(received).toMatchObject({
      ...{ method: "POST", path: "/v1/images/generations" },
      headers: {
        ...{ authorization: "Bearer secret", accept: "application/x-codec-protobuf", "x-codec-map": "sha256:0" },
        "content-type": "application/json",
      },
    });
    expect(JSON.parse(received!.body)).toEqual({
      ...{ modality: "image-latents", prompt: "a sea", seed: "18446744073709551615", size: "64x32" },
      ...{ stream_format: "protobuf", image: Buffer.from(image).toString("base64") },
    });
  });

  it("for a video is sent to the endpoint for videos", async () => {
    let path = "";
    const respond = (request: Received, response: ServerResponse) => {
      path = request.path;
      stream(response).end(STREAM);
    };
    await receive(respond, {}, { ...REQUEST, modality: "video-latents", frames: 2 });
    expect(path).toBe("/v1/videos/generations");
  });
});

describe("a response", () => {
  it("is received while it is sent", async () => {
    let response!: ServerResponse;
    await withServer(
      (_, started) => (response = stream(started)).write(STREAM.subarray(0, HEADER_BYTES)),
      async (address) => {
        const latents = await generate(`${address}/v1/`, REQUEST);
        expect(latents.header.totalFrames).toBe(2);
        response.end(STREAM.subarray(HEADER_BYTES));
        const frames: number[] = [];
        for await (const { seq } of latents) frames.push(seq);
        expect(frames).toEqual([0, 1]);
      },
    );
  });

  it("has the hash of the map, the seed and the model", async () => {
    const headers = { "Codec-Latent-Map": "sha256:1", "Codec-Seed": "18446744073709551615", "Codec-Model": "m" };
    await withServer(
      (_, response) => response.writeHead(200, { ...headers, "Content-Type": "application/x-msgpack" }).end(STREAM),
      async (address) => {
        const latents = await generate(address, REQUEST);
        expect([latents.mapHash, latents.seed, latents.model]).toEqual(["sha256:1", 2n ** 64n - 1n, "m"]);
        for await (const _ of latents);
      },
    );
  });

  it.each([
    ["another Content-Type", "StreamError", "text/html", {}],
    ["a zstd dictionary", "StreamError", "application/x-msgpack", { "Codec-Zstd-Dict": "sha256:1" }],
  ])("with %s is refused", async (_, name, contentType, headers) => {
    const sent = receive((_, response) => response.writeHead(200, { ...headers, "Content-Type": contentType }).end(STREAM));
    await expect(sent).rejects.toMatchObject({ name });
  });

  it("that ends early is truncated", async () => {
    const sent = receive((_, response) => stream(response).end(STREAM.subarray(0, -20)));
    await expect(sent).rejects.toMatchObject({ name: "TruncatedStream", offset: expect.any(Number) });
  });

  it("whose connection is lost is truncated", async () => {
    const sent = receive((_, response) => {
      stream(response).write(STREAM.subarray(0, HEADER_BYTES), () => response.destroy());
    });
    await expect(sent).rejects.toMatchObject({ name: "TruncatedStream" });
  });
});

describe("an error of the server", () => {
  it.each([
    [400, { code: "invalid_request", param: "steps", message: "steps: is 0" }, "InvalidRequest", { field: "steps", message: "steps: is 0" }],
    [404, { code: "not_found", param: "model", message: "model: none" }, "NotFound", { field: "model" }],
    [401, { code: "unauthenticated", message: "no key" }, "Unauthenticated", { message: "no key", code: "unauthenticated" }],
    [409, { code: "map_mismatch", message: "other map" }, "MapMismatch", { field: null }],
    [415, { code: "unsupported_modality", message: "m", supported_modalities: ["x"] }, "UnsupportedModality", { supported: ["x"] }],
    [429, { code: "overloaded", message: "full" }, "Overloaded", { retryAfterS: 7 }],
    [503, { code: "not_ready", message: "loading" }, "NotReady", { retryAfterS: 7 }],
    [500, { code: "internal", message: "log" }, "CodecError", { message: "log" }],
    [503, "<h1>proxy</h1>", "NotReady", { retryAfterS: 7, message: "<h1>proxy</h1>" }],
    [429, { code: "rate_limit", message: "slow down" }, "Overloaded", { message: "slow down" }],
    [502, "", "UnexpectedAnswer", { message: expect.stringContaining("502") }],
    [404, "x".repeat(100_000), "UnexpectedAnswer", { field: null }],
  ])("%d %j is thrown by its name", async (status, error, name, attributes) => {
    const sent = receive(refuse(status, error, { "Retry-After": "7" }));
    await expect(sent).rejects.toMatchObject({ name, ...attributes });
  });

  it("that does not respond or redirects is ServerUnreachable", async () => {
    await expect(generate("http://127.0.0.1:1", REQUEST)).rejects.toMatchObject({ name: "ServerUnreachable" });
    const redirected = receive(refuse(307, "", { Location: "http://127.0.0.1:1/" }));
    await expect(redirected).rejects.toMatchObject({ name: "ServerUnreachable" });
  });
});

describe("a connection", () => {
  /** Resolves with what `leave` threw, once the server has seen that the client has closed the connection. */
  async function closedBy(leave: (address: string) => Promise<unknown>): Promise<unknown> {
    let closed!: () => void;
    const closing = new Promise<void>((resolve) => (closed = resolve));
    const respond = (_: Received, response: ServerResponse) => {
      response.on("close", closed);
      stream(response).write(STREAM.subarray(0, STREAM.length - 5));
    };
    return withServer(respond, async (address) => {
      const left = await leave(address).catch((error: unknown) => error);
      await closing;
      return left;
    });
  }

  it("is closed when the loop is left", async () => {
    await closedBy(async (address) => {
      for await (const { seq } of await generate(address, REQUEST)) if (seq === 0) break;
    });
  });

  it("is closed by the signal, whose reason is thrown", async () => {
    const left = await closedBy(async (address) => {
      const controller = new AbortController();
      for await (const _ of await generate(address, REQUEST, { signal: controller.signal })) controller.abort("enough");
    });
    expect(left).toBe("enough");
  });

  it("is closed if the stream is not valid", async () => {
    const left = await closedBy(async (address) => {
      for await (const _ of await generate(address, REQUEST, { maxBytes: 50 }));
    });
    expect(left).toMatchObject({ name: "MessageTooLarge" });
  });

  it("is not opened if the signal is already aborted", async () => {
    const sent = generate("http://127.0.0.1:1", REQUEST, { signal: AbortSignal.abort() });
    await expect(sent).rejects.toMatchObject({ name: "AbortError" });
  });
});

describe("a stream of events", () => {
  const event = (name: string, data: object) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
  const message = (bytes: Uint8Array) => ({ message: Buffer.from(bytes).toString("base64") });
  const header = event("header", message(STREAM.subarray(0, HEADER_BYTES)));
  const frames = event("frame", message(STREAM.subarray(HEADER_BYTES)));

  function sendEvents(text: string): (_: Received, response: ServerResponse) => void {
    return (_, response) => response.writeHead(200, { "Content-Type": "text/event-stream" }).end(text);
  }

  it("has progress, previews and the frames", async () => {
    const steps: unknown[] = [];
    const previews: unknown[] = [];
    const received: Uint8Array[] = [];
    const position = { step: 1, total_steps: 2 };
    // A frame of a preview has the scale of the channel, and 4 bits for each value.
    const preview = message(pack({ ...FRAME, data: new Uint8Array(3), seq: 1 }));
    const events = [header, event("progress", position), event("preview", { ...position, ...preview })];
    const found = await receive(sendEvents([...events, event("news", {}), frames].join("")), {
      onProgress: (progress) => steps.push(progress),
      onPreview: ({ step, latents }) => previews.push([step, latents.seq, latents.shape]),
      onBytes: (bytes) => received.push(bytes),
    });
    expect(found.map(({ seq }) => seq)).toEqual([0, 1]);
    expect(steps).toEqual([{ step: 1, totalSteps: 2 }]);
    expect(previews).toEqual([[1, 1, found[0]!.shape]]);
    expect(Buffer.concat(received)).toEqual(Buffer.from(STREAM));
  });

  it.each([
    ["an error event", header + event("error", { error: { code: "out_of_memory", message: "full" } }), "OutOfMemory"],
    ["a frame with an error", header + event("frame", message(pack({ ...FRAME, finish_reason: "error" }))) + event("error", { error: { code: "deadline_exceeded", message: "late" } }), "DeadlineExceeded"],
    ["data that is not JSON", "event: progress\ndata: {\n\n", "MalformedMessage"],
    ["a message that is not base64", event("header", { message: "?" }), "MalformedMessage"],
    ["progress without numbers", header + event("progress", {}), "MalformedMessage"],
    ["no last frame", header, "TruncatedStream"],
  ])("with %s is refused", async (_, text, name) => {
    await expect(receive(sendEvents(text), { onProgress: () => undefined })).rejects.toMatchObject({ name });
  });

  it("must have its Content-Type", async () => {
    const sent = receive((_, response) => stream(response).end(STREAM), { onProgress: () => undefined });
    await expect(sent).rejects.toMatchObject({ name: "StreamError" });
  });
});
