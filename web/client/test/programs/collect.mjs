// Results of generations as JSON. This module runs in browsers too.

/** Send the requests one after the other; return their results. */
export async function collectAll(generate, server, requests) {
  const results = [];
  for (const request of requests) results.push(await collect(generate, server, request));
  return results;
}

/** Return the header, floats, progress and previews of a generation, or its error. The key `pin` is the pinned map. */
async function collect(generate, server, { pin, ...request }) {
  const steps = [];
  const previews = [];
  const options = {
    pinnedMap: pin,
    onProgress: ({ step, totalSteps }) => steps.push(`${step} of ${totalSteps}`),
    onPreview: ({ step, latents }) => previews.push([step, toBase64(latents.values)]),
  };
  try {
    const stream = await generate(server, request, options);
    const values = [];
    for await (const latents of stream) values.push(toBase64(latents.values));
    const { shape, pipeline } = stream.header;
    return { shape, pipeline: pipeline.name, map: stream.mapHash, seed: String(stream.seed), values, steps, previews };
  } catch (error) {
    const { name, code, field, message, retryAfterS, supported } = error;
    return { name, code, field, message, retryAfterS, supported };
  }
}

function toBase64(values) {
  return btoa(Array.from(new Uint8Array(values.buffer), (byte) => String.fromCharCode(byte)).join(""));
}
