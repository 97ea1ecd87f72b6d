// The page's address: "#job=ID" shows a job, "#grid=ID" shows a grid.

import { signal } from "@preact/signals";

export interface Route {
  job?: string;
  grid?: string;
}

export const route = signal<Route>(read());

export function startRouting(): void {
  addEventListener("hashchange", () => {
    route.value = read();
  });
}

/** Shows a job or a grid. */
export function go(to: Route): void {
  const [[name, id] = ["", ""]] = Object.entries(to);
  location.hash = name ? `${name}=${id}` : "";
}

function read(): Route {
  const [name, id = ""] = location.hash.slice(1).split("=");
  if (name === "job" && /^[\w-]+$/.test(id)) return { job: id };
  if (name === "grid" && /^[\w-]+$/.test(id)) return { grid: id };
  return {};
}
