/** Configuration of `npm run test:chromium`: the tests of the decoder in Chromium, which is not downloaded. */

import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // The other tests run an HTTP server, in Node.js.
    include: ["test/conformance.test.ts", "test/rules.test.ts", "test/arithmetic.test.ts"],
    globalSetup: "test/provide-vectors.ts",
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      instances: [{ browser: "chromium" }],
      provider: playwright({
        launchOptions: { executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium", args: ["--no-sandbox"] },
      }),
    },
  },
});
