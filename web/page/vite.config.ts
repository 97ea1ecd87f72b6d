import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  base: "./",
  resolve: { alias: { "@gramophone/client": here("../client/src/index.ts") } },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    // The built page is part of the Python package.
    outDir: here("../../server/gramophone_server/http/page"),
    emptyOutDir: true,
    target: "es2022",
    // The page's policy allows no inline files.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
