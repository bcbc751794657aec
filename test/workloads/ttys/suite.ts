/** Cases of a foreground job of an interactive shell, frozen and brought back inside that shell's terminal. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";

import { compileWorkload } from "../../harness/compile.js";
import { type Lane, LanePool } from "../../harness/lane.js";
import { patienceMs, pause } from "../../harness/patience.js";
import type { Mode } from "../../harness/run-case.js";
import { dumpCommand, findTool, type MissingTool, restoreCommand, type Tool, type ToolName } from "../../harness/tool.js";

const quote = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(" ");

interface Tools {
  readonly dump: Tool;
  readonly restore: Tool;
}

/** An interactive shell in a terminal of its own, with the job in its foreground. Its output may share a line with echoes. */
class Shell {
  readonly folder = mkdtempSync(join(tmpdir(), "floe-tty-"));
  readonly #lane: Lane;
  readonly #tools: Tools;
  #pid = 0;

  constructor(lane: Lane, tools: Tools) {
    this.#lane = lane;
    this.#tools = tools;
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
    for (const until = Date.now() + patienceMs; Date.now() < until; await pause(5)) {
      if ((this.screen.match(all) ?? []).length >= times) return;
    }
    throw new Error(`The terminal does not show ${pattern}:\n${this.screen}\n${this.#logs()}`);
  }

  #logs(): string {
    const logs = readdirSync(this.folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".log"));
    return logs.map((name) => `-- ${name}\n${readFileSync(join(this.folder, name), "utf8").split("\n").slice(-12).join("\n")}`).join("\n");
  }

  async dump(pid: number, images: string, leaveRunning: boolean): Promise<void> {
    const folder = join(this.folder, images);
    mkdirSync(folder);
    const argv = dumpCommand(this.#tools.dump, {
      pid,
      images: folder,
      logFile: join(folder, "dump.log"),
      leaveRunning,
      options: ["--shell-job"],
    });
    const exit = await this.#lane.run({ argv, cwd: this.folder, output: join(folder, "dump.output.log") }, patienceMs);
    assert.equal(exit.code, 0, `The dump failed\n${this.#logs()}`);
  }

  /** Types the restore into the shell; the restored job is the command's child, and its end the command's. */
  restore(images: string): void {
    const folder = join(this.folder, images);
    const argv = restoreCommand(this.#tools.restore, { images: folder, logFile: join(folder, "restore.log"), options: ["--shell-job"] });
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

/** Freezes the job, brings it back, uses it, each time as often as the mode says. */
async function runMode(shell: Shell, pid: number, mode: Mode): Promise<void> {
  const deaths = mode === "twice" ? ["images", "images-again"] : mode === "killed-restored" ? ["images"] : [];
  let round = 1;
  await useKeys(shell, round);
  if (mode === "left-running") await shell.dump(pid, "images", true);
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
}

function findTools(dump: ToolName, restore: ToolName): Tools | MissingTool {
  if (process.getuid?.() !== 0) return { missing: "needs root" };
  const found = { dump: findTool(dump), restore: findTool(restore) };
  if ("missing" in found.dump) return found.dump;
  if ("missing" in found.restore) return found.restore;
  return { dump: found.dump, restore: found.restore };
}

/** One test for each form of the job and each mode. */
export function terminalSuite(names: { dump: ToolName; restore: ToolName }, modes: readonly Mode[]): void {
  const tools = findTools(names.dump, names.restore);
  const usesPeer = names.dump === "criu" || names.restore === "criu";
  const title = names.dump === names.restore ? names.dump : `${names.dump} to ${names.restore}`;
  if ("missing" in tools) {
    test(`ttys [${title}]`, { skip: tools.missing }, () => undefined);
    return;
  }
  describe(`ttys [${title}]`, () => {
    const pool = new LanePool(1);
    after(() => pool.close());
    for (const args of [[], ["child"], ["controlling"]]) {
      const skip = usesPeer && args.includes("controlling") && "the peer refuses /dev/tty without its session's leader";
      for (const mode of modes) {
        const name = `mode.shell-job: a foreground job of a shell keeps its terminal (${["ttys/job", ...args].join(" ")}), ${mode}`;
        test(name, { skip }, () =>
          pool.use(async (lane) => {
            const shell = new Shell(lane, tools);
            await runMode(shell, await startJob(shell, args), mode);
            rmSync(shell.folder, { recursive: true, force: true });
          }),
        );
      }
    }
  });
}
