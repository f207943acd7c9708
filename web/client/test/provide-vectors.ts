/** Setup of all tests: reads the conformance vectors in codec_golden/vectors, which browsers cannot. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  interface ProvidedContext {
    /** The content of each file in base64, by its path. */
    readonly vectors: Readonly<Record<string, string>>;
  }
}

const FOLDER = new URL("../../../codec_golden/vectors/", import.meta.url);

export default function setup(project: TestProject): void {
  const paths = readdirSync(FOLDER, { recursive: true, encoding: "utf8" });
  const files = paths.filter((path) => statSync(fileURLToPath(new URL(path, FOLDER))).isFile());
  const read = (path: string) => readFileSync(new URL(path, FOLDER)).toString("base64");
  project.provide("vectors", Object.fromEntries(files.map((path) => [path, read(path)])));
}
