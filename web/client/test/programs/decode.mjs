// node decode.mjs < BODIES
//
// Reads one body per line, base64. Prints for each of them the SHA-256 of its floats, or the name and offset of its error.

import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { LatentStreamDecoder } from "codec-latents";

for await (const line of createInterface({ input: process.stdin })) {
  const decoder = new LatentStreamDecoder();
  const floats = createHash("sha256");
  try {
    for (const latents of decoder.feed(Buffer.from(line, "base64"))) floats.update(latents.values);
    decoder.close();
    console.log(floats.digest("hex"));
  } catch (error) {
    console.log(`${error.name} ${error.offset}`);
  }
}
