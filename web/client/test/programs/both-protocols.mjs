// node both-protocols.mjs http://127.0.0.1:8080 http://127.0.0.1:10051 '[{"prompt": "a sea", "pipeline": "int8"}]'
//
// Sends each request to a server over HTTP, and to a proxy over gRPC-Web. Prints the results of both, two JSON lists.

import { generate, generateGrpcWeb } from "codec-latents";
import { collectAll } from "./collect.mjs";

const [server, proxy, requests] = process.argv.slice(2);
console.log(JSON.stringify(await collectAll(generate, server, JSON.parse(requests))));
console.log(JSON.stringify(await collectAll(generateGrpcWeb, proxy, JSON.parse(requests))));
