// A real server in its own process.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));
const OWN_PYTHON = join(REPOSITORY, ".venv/bin/python");

/** The interpreter with the server's packages: $GRAMOPHONE_PYTHON, that of `make setup`, or python3. */
export const PYTHON = process.env.GRAMOPHONE_PYTHON ?? (existsSync(OWN_PYTHON) ? OWN_PYTHON : "python3");

/** A new folder for temporary files. */
export function folder(): string {
  return mkdtempSync(join(tmpdir(), "gramophone-web-"));
}

/** Adds a client to a file of tokens, and returns its token. */
export function addToken(file: string): string {
  return execFileSync(PYTHON, ["-m", "gramophone", "tokens", "add", "tester", "--file", file], {
    encoding: "utf8",
  }).trim();
}

/** Removes a client from a file of tokens. */
export function removeToken(file: string): void {
  execFileSync(PYTHON, ["-m", "gramophone", "tokens", "remove", "tester", "--file", file]);
}

/** `python -m gramophone_server`; it stops when this process ends. */
export class Server {
  private constructor(
    readonly process: ChildProcess,
    /** The address for gRPC. */
    readonly address: string,
    /** The address for HTTP. */
    readonly url: string,
  ) {}

  /** Starts a server on free ports, unless `args` say otherwise. */
  static async start(...args: string[]): Promise<Server> {
    const ports = args.includes("--http") ? [] : ["--port", "0", "--http", "127.0.0.1:0"];
    const command = ["-m", "gramophone_server", ...ports, "--threads", "1", "--until-stdin-closes", ...args];
    const child = spawn(PYTHON, command, { stdio: ["pipe", "pipe", "pipe"] });
    let [output, log] = ["", ""];
    child.stderr.on("data", (text) => (log += text));
    return new Promise((resolve, reject) => {
      child.stdout.on("data", (text) => {
        output += text;
        const [url] = /https?:\/\/\S+/.exec(output) ?? [];
        const [, address] = /serving on (?!http)(\S+)/.exec(output) ?? [];
        if (url && address) resolve(new Server(child, address, url));
      });
      child.on("exit", (code) => reject(new Error(`the server ended with status ${code}:\n${log}`)));
    });
  }

  /** Starts a server at the addresses of this one, which has ended. */
  async again(...args: string[]): Promise<Server> {
    const ports = ["--port", this.address.split(":")[1] ?? "", "--http", this.url.replace("http://", "")];
    return Server.start(...ports, ...args);
  }

  /** Stops the server at once, as a crash does. */
  async kill(): Promise<void> {
    await this.#end(() => this.process.kill("SIGKILL"));
  }

  async stop(): Promise<void> {
    await this.#end(() => this.process.stdin?.end());
  }

  async #end(how: () => unknown): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    how();
    await ended;
  }
}
