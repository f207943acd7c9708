// node abort.mjs http://127.0.0.1:8080 LONG SHORT
//
// Starts the generation LONG on a server that accepts one at a time, and aborts it. Prints what the generation SHORT and
// LONG threw, and after how many attempts SHORT was accepted, as JSON.

import { generate } from "codec-latents";

const [server, long, short] = process.argv.slice(2);
const controller = new AbortController();
const stream = await generate(server, JSON.parse(long), { signal: controller.signal });
const attempt = () => generate(server, JSON.parse(short));
const refused = await attempt().catch(({ name, code, retryAfterS }) => ({ name, code, retryAfterS }));
const running = (async () => {
  for await (const _ of stream);
})();
controller.abort();
const aborted = await running.catch(({ name }) => name);
let frames = 0;
for (const deadline = Date.now() + 20_000; frames === 0; ) {
  try {
    for await (const _ of await attempt()) frames += 1;
  } catch (error) {
    // The server frees the place when the sampler has finished its step.
    if (error.name !== "Overloaded" || Date.now() > deadline) throw error;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
console.log(JSON.stringify({ refused, aborted, frames }));
