/** A foreground job of an interactive shell is frozen and brought back inside that shell's terminal. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";

import { compileWorkload } from "../harness/compile.js";
import { type Lane, LanePool } from "../harness/lane.js";
import { dumpCommand, findTool, restoreCommand, toolUnderTest } from "../harness/tool.js";

const tool = findTool(toolUnderTest());
const missing = process.getuid?.() !== 0 ? "needs root" : "missing" in tool ? tool.missing : false;
const pause = (ms: number): Promise<void> => new Promise((resume) => setTimeout(resume, ms));
const quote = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(" ");

/** An interactive shell in a terminal of its own, with the job in its foreground. Its output may share a line with echoes. */
class Shell {
  readonly folder = mkdtempSync(join(tmpdir(), "floe-tty-"));
  readonly #lane: Lane;
  #pid = 0;

  constructor(lane: Lane) {
    this.#lane = lane;
  }

  async start(): Promise<void> {
    const argv = ["/bin/bash", "--norc", "--noprofile", "--noediting", "-i"];
    this.#pid = await this.#lane.spawn({ argv, cwd: this.folder, output: join(this.folder, "screen"), session: true, terminal: true });
  }

  type(text: string): void {
    this.#lane.type(this.#pid, text);
  }

  /** Everything the terminal has shown. */
  get screen(): string {
    const path = join(this.folder, "screen");
    return existsSync(path) ? readFileSync(path, "utf8").replaceAll("\r", "") : "";
  }

  async shows(pattern: RegExp, times = 1): Promise<void> {
    const all = new RegExp(pattern.source, "gm");
    for (const until = Date.now() + 15_000; Date.now() < until; await pause(5)) {
      if ((this.screen.match(all) ?? []).length >= times) return;
    }
    throw new Error(`The terminal does not show ${pattern}:\n${this.screen}\n${this.#logs()}`);
  }

  #logs(): string {
    const logs = readdirSync(this.folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".log"));
    return logs.map((name) => `-- ${name}\n${readFileSync(join(this.folder, name), "utf8").split("\n").slice(-12).join("\n")}`).join("\n");
  }

  async dump(pid: number, images: string, leaveRunning: boolean): Promise<void> {
    if ("missing" in tool) return;
    const folder = join(this.folder, images);
    mkdirSync(folder);
    const argv = dumpCommand(tool, { pid, images: folder, logFile: join(folder, "dump.log"), leaveRunning, options: ["--shell-job"] });
    const exit = await this.#lane.run({ argv, cwd: this.folder, output: join(folder, "dump.output.log") }, 20_000);
    assert.equal(exit.code, 0, `The dump failed\n${this.#logs()}`);
  }

  /** Types the restore into the shell; the restored job is the command's child, and its end the command's. */
  restore(images: string): void {
    if ("missing" in tool) return;
    const folder = join(this.folder, images);
    const argv = restoreCommand(tool, { images: folder, logFile: join(folder, "restore.log"), options: ["--shell-job"] });
    this.type(`${quote(argv.filter((word) => word !== "-d"))}; echo "status <$?>"\n`);
  }

  go(restored: boolean): void {
    writeFileSync(join(this.folder, "go"), restored ? "restored\ninterrupted\nlink ns/time\n" : "interrupted\n");
  }
}

async function startJob(shell: Shell, args: readonly string[]): Promise<number> {
  const program = await compileWorkload("ttys/job");
  await shell.start();
  await shell.shows(/\$ |# /);
  shell.type(`${quote([program, join(shell.folder, "go"), ...args])}; echo "status <$?>"\n`);
  await shell.shows(/^ready$/);
  const pid = Number(/\[(\d+)\] is the job$/m.exec(shell.screen)?.[1]);
  assert.ok(pid > 1, shell.screen);
  return pid;
}

async function useKeys(shell: Shell, round: number): Promise<void> {
  shell.type("a");
  await shell.shows(/\[\d+\] key a$/, round);
  shell.type("\x03");
  await shell.shows(new RegExp(`\\[\\d+\\] interrupted ${round}$`));
}

describe(`ttys [${toolUnderTest()}]`, { skip: missing }, () => {
  const pool = new LanePool(1);
  after(() => pool.close());
  for (const args of [[], ["child"], ["controlling"]]) {
    for (const mode of ["alone", "left-running", "killed-restored", "twice"] as const) {
      const skip = toolUnderTest() === "criu" && args.includes("controlling") && "the peer refuses /dev/tty without its session's leader";
      test(`mode.shell-job: a foreground job of a shell keeps its terminal (${["ttys/job", ...args].join(" ")}), ${mode}`, { skip }, () =>
        pool.use(async (lane) => {
          const shell = new Shell(lane);
          const pid = await startJob(shell, args);
          await useKeys(shell, 1);
          if (mode === "left-running") await shell.dump(pid, "images", true);
          const deaths = mode === "twice" ? ["images", "images-again"] : mode === "killed-restored" ? ["images"] : [];
          let round = 1;
          for (const images of deaths) {
            await shell.dump(pid, images, false);
            // What a restore that waits for its root task makes of a killed one is its own affair.
            await shell.shows(round === 1 ? /^status <137>$/ : /^status <\d+>$/, round);
            // A job that was killed leaves the terminal as it had made it.
            shell.type("stty sane\n");
            shell.restore(images);
            await useKeys(shell, ++round);
          }
          if (deaths.length === 0) await useKeys(shell, 2);
          shell.go(deaths.length > 0);
          shell.type("q");
          await shell.shows(/^PASS$/);
          await shell.shows(/^status <0>$/);
          shell.type("exit\n");
          rmSync(shell.folder, { recursive: true, force: true });
        }),
      );
    }
  }
});
