import { fileURLToPath } from "node:url";
import { defineConfig, type ProxyOptions } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** `gramophone serve --http 127.0.0.1:8080`. */
function toServer(): ProxyOptions {
  return {
    target: "http://127.0.0.1:8080",
    changeOrigin: true,
    configure: (proxy) => proxy.on("proxyReq", (request) => request.removeHeader("origin")),
  };
}

export default defineConfig({
  base: "./",
  resolve: { alias: { "@gramophone/client": here("../client/src/index.ts") } },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  // `npm run dev` passes the calls of the page on to a server, which refuses those with another origin.
  server: { proxy: Object.fromEntries(["/gramophone.v1", "/jobs", "/images"].map((path) => [path, toServer()])) },
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
