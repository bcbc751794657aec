/**
 * The peer's `crit decode`, many times by one process: Python takes half a second to come up, and to decode an image a millisecond.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Command lines of crit come in as JSON, a line each; what it printed, or its last words, go out the same way. */
const SERVER = `
import contextlib, io, json, sys, traceback
from crit.__main__ import main
for line in sys.stdin:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    sys.argv = ["crit"] + json.loads(line)
    failure = None
    with contextlib.redirect_stdout(out):
        try:
            main()
        except BaseException:
            failure = traceback.format_exc().strip().split("\\n")[-1]
    print(json.dumps([failure, out.buffer.getvalue().decode("utf-8")]), flush=True)
`;
/** What the shell script that starts crit with its own Python ends in. */
const PROGRAM = /"[^"]*\/crit" "\$@"\s*$/;

type Waiting = (answer: [failure: string | null, text: string]) => void;

export class PeerCrit {
  readonly #command: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "floe-peer-crit-"));
  readonly #waiting: Waiting[] = [];
  readonly #server: ChildProcess | undefined;

  constructor(command: string) {
    this.#command = command;
    const script = readFileSync(command, "utf8");
    // Another kind of program is started for each image.
    if (!PROGRAM.test(script)) return;
    const [starter, server] = [join(this.#folder, "start"), join(this.#folder, "server.py")];
    writeFileSync(starter, script.replace(PROGRAM, '"$@"\n'));
    writeFileSync(server, SERVER);
    this.#server = spawn("sh", [starter, server], { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: this.#server.stdout as NodeJS.ReadableStream }).on("line", (line) =>
      this.#waiting.shift()?.(JSON.parse(line)),
    );
    this.#server.once("exit", (code) => {
      for (const answer of this.#waiting.splice(0)) answer([`the peer's crit ended with ${code}`, ""]);
    });
  }

  async decode(file: string, options: readonly string[]): Promise<string> {
    const words = ["decode", ...options, "-i", file];
    const [failure, text] = await (this.#server === undefined ? this.#alone(words) : this.#ask(words));
    if (failure !== null) throw new Error(`The peer cannot decode ${file}: ${failure}`);
    return text;
  }

  #ask(words: readonly string[]): Promise<Parameters<Waiting>[0]> {
    return new Promise((answer) => {
      if (this.#server?.exitCode !== null) return answer([`the peer's crit ended with ${this.#server?.exitCode}`, ""]);
      this.#waiting.push(answer);
      this.#server?.stdin?.write(`${JSON.stringify(words)}\n`);
    });
  }

  #alone(words: readonly string[]): Promise<Parameters<Waiting>[0]> {
    return new Promise((answer) => {
      execFile(this.#command, words, { maxBuffer: 1 << 28 }, (error, stdout, stderr) => {
        answer([error === null ? null : (stderr.trim().split("\n").at(-1) ?? ""), stdout]);
      });
    });
  }

  close(): void {
    this.#server?.stdin?.end();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
