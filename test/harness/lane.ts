/**
 * A lane is a pid namespace (with own mounts and System V IPC) in which one test case at a time runs: the workload, and
 * the tool that freezes and thaws it. Its first process (agent.c) starts commands for us, reaps every child at once, so
 * that pids are free again the moment a process died, and takes everything with it when the test runner ends.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";

import { compileAgent } from "./compile.js";
import { patienceMs } from "./patience.js";

export interface SpawnOptions {
  readonly argv: readonly string[];
  readonly cwd: string;
  /** Standard output and error are appended to this file; with `terminal`, what the terminal shows. */
  readonly output: string;
  readonly input?: string;
  /** Leader of a new session. */
  readonly session?: boolean;
  /** Below an init of its own, in a pid namespace of its own; the pid is that of the init. */
  readonly init?: boolean;
  /** That init has an IPC namespace of its own, too. */
  readonly ipc?: boolean;
  /** Leader of a new session on a new pseudo-terminal. */
  readonly terminal?: boolean;
}

export interface LaneOptions {
  /** Further namespaces of the lane's own, as unshare(1) calls them. */
  readonly namespaces?: readonly ("net" | "uts" | "cgroup" | "time")[];
}

/** How a process ended, from its wait status. */
export interface Exit {
  readonly code: number | undefined;
  readonly signal: number | undefined;
}

const escapeField = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("\t", "\\t").replaceAll("\n", "\\n");
const unescapeField = (text: string): string =>
  text.replace(/\\(.)/g, (_, letter: string) => (letter === "t" ? "\t" : letter === "n" ? "\n" : letter));

export function describeExit(exit: Exit): string {
  return exit.signal === undefined ? `exited with ${exit.code}` : `was killed by signal ${exit.signal}`;
}

export async function withTimeout<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export class Lane {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #answers = new Map<string, (fields: string[]) => void>();
  readonly #left = new Map<string, string[]>();
  readonly #exits = new Map<number, Exit[]>();
  readonly #exitWaiters = new Map<number, ((exit: Exit) => void)[]>();
  readonly #started: Promise<void>;
  #pending = "";
  #next = 1;
  #broken = false;

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    this.#started = new Promise((resolve, reject) => {
      this.#answers.set("agent", () => resolve());
      child.on("error", reject);
      child.on("exit", () => {
        this.#broken = true;
        reject(new Error("The lane's agent ended"));
      });
    });
    child.stdout.on("data", (data: Buffer) => this.#read(data.toString()));
    child.stderr.on("data", (data: Buffer) => process.stderr.write(data));
    // A lane that dies while we write to it is noticed by its exit.
    child.stdin.on("error", () => undefined);
  }

  static async open(options: LaneOptions = {}): Promise<Lane> {
    const agent = await compileAgent();
    const flags = ["--pid", "--fork", "--kill-child", "--mount-proc", "--ipc", ...(options.namespaces ?? []).map((name) => `--${name}`)];
    // The mark by which tools/leaks.mjs knows what a test run has started.
    const mark = process.env["FLOE_TEST_RUN"] === undefined ? {} : { FLOE_TEST_RUN: process.env["FLOE_TEST_RUN"] };
    const environment = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: "/root", LANG: "C.UTF-8", ...mark };
    const lane = new Lane(spawn("unshare", [...flags, agent], { stdio: "pipe", env: environment }));
    await withTimeout(lane.#started, patienceMs, "Start of a test lane");
    await lane.#ask("mounts", "noted");
    return lane;
  }

  get broken(): boolean {
    return this.#broken;
  }

  /** The pid of the lane's first process outside of the lane; `/proc/<this>/root` is the lane's view of files. */
  hostPid(): number {
    const children = readFileSync(`/proc/${this.#child.pid}/task/${this.#child.pid}/children`, "utf8");
    return Number.parseInt(children, 10);
  }

  /** Where a process is that does not end: its state, what it waits for, and the connections around it. */
  whereabouts(pid: number): string {
    const proc = `/proc/${this.hostPid()}/root/proc/${pid}`;
    const read = (name: string) => {
      try {
        return `${name}: ${readFileSync(`${proc}/${name}`, "latin1").trim()}`;
      } catch (error) {
        return `${name}: ${(error as Error).message}`;
      }
    };
    return ["stat", "wchan", "syscall", "stack", "net/tcp", "net/tcp6"].map(read).join("\n");
  }

  async spawn(options: SpawnOptions): Promise<number> {
    const flags = `${options.session ? "session," : ""}${options.terminal ? "pty," : ""}${options.init ? "init," : ""}${options.ipc ? "ipc," : ""}`;
    const id = String(this.#next++);
    const answer = new Promise<string[]>((resolve) => this.#answers.set(id, resolve));
    this.#send(["spawn", id, options.cwd, options.input ?? "", options.output, flags, ...options.argv]);
    const [word, , detail] = await withTimeout(answer, patienceMs, `Start of ${options.argv[0]}`);
    if (word !== "spawned") throw new Error(`Cannot start ${options.argv.join(" ")}: ${detail}`);
    return Number(detail);
  }

  /** Runs a command to its end; a command that takes too long is killed. */
  async run(options: SpawnOptions, timeoutMs: number): Promise<Exit> {
    const pid = await this.spawn(options);
    try {
      return await withTimeout(this.nextExit(pid), timeoutMs, options.argv.join(" "));
    } catch (error) {
      this.kill(pid, "KILL");
      throw error;
    }
  }

  /** The next exit of this pid that was not asked for yet, whoever started the process. */
  nextExit(pid: number): Promise<Exit> {
    const known = this.#exits.get(pid)?.shift();
    if (known !== undefined) return Promise.resolve(known);
    return new Promise((resolve) => {
      this.#exitWaiters.set(pid, [...(this.#exitWaiters.get(pid) ?? []), resolve]);
    });
  }

  /** True when an exit of this pid was seen and not taken by nextExit(). */
  hasExited(pid: number): boolean {
    return (this.#exits.get(pid)?.length ?? 0) > 0;
  }

  /** Forgets the exits that nobody asked for: of orphans, whose numbers come round again. */
  forgetExits(): void {
    this.#exits.clear();
  }

  kill(pid: number, signal: "KILL" | "TERM" | "STOP" | "CONT" | "USR1" | "USR2"): void {
    const numbers = { KILL: 9, TERM: 15, STOP: 19, CONT: 18, USR1: 10, USR2: 12 } as const;
    this.#send(["kill", String(pid), String(numbers[signal])]);
  }

  /** Types on the terminal of a process spawned with `terminal`. */
  type(pid: number, text: string): void {
    this.#send(["type", String(pid), text]);
  }

  /** What is left in the lane: processes, mounts, shared memory, System V objects. Empty is good. */
  async inspect(): Promise<string[]> {
    const id = await this.#ask("inspect", "inspected");
    const lines = this.#left.get(id) ?? [];
    this.#left.delete(id);
    return lines;
  }

  /** Kills every process of the lane but the first one. */
  async sweep(): Promise<void> {
    const answer = new Promise<string[]>((resolve) => this.#answers.set("swept", resolve));
    this.#send(["sweep"]);
    await withTimeout(answer, patienceMs, "Killing everything in a test lane");
    this.#exits.clear();
    this.#exitWaiters.clear();
  }

  async close(): Promise<void> {
    if (this.#broken) return;
    const ended = once(this.#child, "exit");
    this.#child.stdin.end();
    await withTimeout(ended, patienceMs, "End of a test lane").catch(() => this.#child.kill("SIGKILL"));
  }

  #send(fields: readonly string[]): void {
    this.#child.stdin.write(`${fields.map(escapeField).join("\t")}\n`);
  }

  async #ask(word: string, expected: string): Promise<string> {
    const id = String(this.#next++);
    const answer = new Promise<string[]>((resolve) => this.#answers.set(id, resolve));
    this.#send([word, id]);
    const [got] = await withTimeout(answer, patienceMs, `The lane's answer to ${word}`);
    if (got !== expected) throw new Error(`The lane answered ${got} to ${word}`);
    return id;
  }

  #read(text: string): void {
    const lines = (this.#pending + text).split("\n");
    this.#pending = lines.pop() ?? "";
    for (const line of lines) this.#take(line.split("\t").map(unescapeField));
  }

  #take(fields: string[]): void {
    const [word = "", id = "", ...rest] = fields;
    if (word === "exit") {
      this.#takeExit(Number(id), Number(rest[0]));
    } else if (word === "left") {
      this.#left.set(id, [...(this.#left.get(id) ?? []), rest.join(": ")]);
    } else {
      // Numbers come round again: what ended under this one before is another process.
      if (word === "spawned") this.#exits.delete(Number(rest[0]));
      const key = word === "agent" || word === "swept" ? word : id;
      this.#answers.get(key)?.(fields);
      this.#answers.delete(key);
    }
  }

  #takeExit(pid: number, status: number): void {
    const signal = status & 0x7f;
    const exit: Exit = signal === 0 ? { code: status >> 8, signal: undefined } : { code: undefined, signal };
    const waiter = this.#exitWaiters.get(pid)?.shift();
    if (waiter !== undefined) waiter(exit);
    else this.#exits.set(pid, [...(this.#exits.get(pid) ?? []), exit]);
  }
}

/** A fixed number of lanes, opened when first needed; a broken one is replaced. */
export class LanePool {
  readonly #options: LaneOptions;
  readonly #free: (Lane | undefined)[];
  readonly #waiting: ((lane: Lane | undefined) => void)[] = [];
  readonly #all = new Set<Lane>();

  constructor(size: number, options: LaneOptions = {}) {
    this.#options = options;
    this.#free = new Array<Lane | undefined>(size).fill(undefined);
  }

  async use<T>(work: (lane: Lane) => Promise<T>): Promise<T> {
    const free = this.#free.length > 0 ? this.#free.pop() : await new Promise<Lane | undefined>((resume) => this.#waiting.push(resume));
    let lane = free;
    try {
      if (lane === undefined || lane.broken) {
        lane = await Lane.open(this.#options);
        this.#all.add(lane);
      }
      return await work(lane);
    } catch (error) {
      if (lane !== undefined && !(await this.#clean(lane))) lane = undefined;
      throw error;
    } finally {
      const next = this.#waiting.shift();
      if (next !== undefined) next(lane);
      else this.#free.push(lane);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#all].map((lane) => lane.close()));
  }

  /** After a failure: is the lane as good as new? */
  async #clean(lane: Lane): Promise<boolean> {
    try {
      await lane.sweep();
      if ((await lane.inspect()).length === 0) return true;
    } catch {
      // It cannot be cleaned: it is thrown away below, and whatever is in it dies with it.
    }
    this.#all.delete(lane);
    await lane.close();
    return false;
  }
}
