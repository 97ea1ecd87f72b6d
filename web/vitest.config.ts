import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { alias: { "@gramophone/client": fileURLToPath(new URL("client/src/index.ts", import.meta.url)) } },
  test: {
    include: ["client/tests/**/*.test.ts", "page/tests/**/*.test.ts"],
    // The tests start servers and a browser, which share the processor.
    fileParallelism: false,
    testTimeout: 240_000,
    hookTimeout: 120_000,
  },
});
