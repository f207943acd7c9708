/** Configuration of `npm test`: all tests, in Node.js. */

import { defineConfig } from "vitest/config";

export default defineConfig({ test: { globalSetup: "test/provide-vectors.ts" } });
