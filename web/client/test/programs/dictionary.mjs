// node dictionary.mjs http://127.0.0.1:8080 PIPELINE msgpack|protobuf
//
// Prints the verified dictionary, as JSON.

import { fetchDictionary } from "codec-latents";

const [server, pipeline, wireFormat] = process.argv.slice(2);
const { hash, data } = await fetchDictionary(server, { pipeline, wireFormat });
console.log(JSON.stringify({ hash, data: Buffer.from(data).toString("base64") }));
