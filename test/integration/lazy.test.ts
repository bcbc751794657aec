/** Lazy restore: memory comes after the processes run, by a process of ours or by daemons, ours and the peer's. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { describeExit, withTimeout } from "../harness/lane.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { findTool, floeOfFile } from "../harness/tool.js";
import { becomesTrue, patienceMs } from "../harness/patience.js";

const peer = findTool("criu");
const noPeer = "missing" in peer ? peer.missing : false;
const criu = (): readonly string[] => ("missing" in peer ? [] : peer.command);

function floe(): readonly string[] {
  const tool = floeOfFile();
  if ("missing" in tool) throw new Error(tool.missing);
  return tool.command;
}

/** What the peer does to every process that it restores. */
const PEER_LOSES = ["link ns/time"];

function files(subject: Subject, log: string): string[] {
  return ["-D", subject.images, "-W", join(subject.folder, "logs"), "-o", log, "-v4"];
}

function sayGo(subject: Subject, lost: readonly string[] = []): void {
  const go = join(subject.folder, "go");
  writeFileSync(`${go}.new`, `${["restored", ...lost].join("\n")}\n`);
  renameSync(`${go}.new`, go);
}

/** The workload is to begin the moment it is restored, and ends by itself. */
async function goAndRestore(subject: Subject, argv: readonly string[], lost: readonly string[] = []): Promise<void> {
  sayGo(subject, lost);
  while (subject.lane.hasExited(subject.pid)) await subject.lane.nextExit(subject.pid);
  const end = subject.lane.nextExit(subject.pid);
  await subject.must(argv);
  const last = await withTimeout(end, patienceMs, `The end of the process (${subject.report()})`);
  assert.ok(last.code === 0 && subject.report().endsWith("PASS\n"), `It ended with ${JSON.stringify(last)}:\n${subject.report()}`);
  await subject.untilAlone([]);
}

const ownLazily = (subject: Subject): string[] => {
  const log = join(subject.folder, "logs", "own.log");
  return [
    ...floe().slice(0, -1),
    "restore",
    "--lazy",
    "-d",
    "--work-dir",
    join(subject.folder, "logs"),
    "--log-file",
    log,
    "--verbosity=4",
    subject.images,
  ];
};

/** A daemon in the background that waits for a restore. */
async function startDaemon(subject: Subject, command: readonly string[], more: readonly string[] = []): Promise<void> {
  await subject.must([...command, "lazy-pages", "-d", ...files(subject, "daemon.log"), ...more]);
  await subject.until(() => existsSync(join(subject.folder, "logs", "lazy-pages.socket")), "The daemon does not wait");
}

/** Kills the process that fills memory, and returns when it is gone; whether it had said that all is there. */
async function killFiller(subject: Subject, workload: string): Promise<boolean> {
  const others = async () =>
    (await subject.lane.inspect()).flatMap((line) => {
      const [, pid, name] = /^process: (\d+) \(([^)]*)\)/.exec(line) ?? [];
      return name === undefined || name === workload || name === "sh" ? [] : [Number(pid)];
    });
  const [filler] = await others();
  if (filler !== undefined) subject.lane.kill(filler, "KILL");
  const isGone = async () => filler === undefined || !(await others()).includes(filler);
  assert.ok(await becomesTrue(isGone), "The process that fills memory does not end");
  return logOf(subject, "own.log.lazy").includes("all pages are in place");
}

const logOf = (subject: Subject, name: string): string => readFileSync(join(subject.folder, "logs", name), "utf8");

describe("lazy restore", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  for (const round of [1, 2])
    test(`mode.lazy-pages: memory that is used in every way while it is missing (${round})`, () =>
      withSubject(Subject.withWorkload("lazy/torture", ["48"]), async (subject) => {
        await subject.dump();
        await goAndRestore(subject, ownLazily(subject));
        assert.match(logOf(subject, "own.log.lazy"), /all pages are in place/);
      }));

  test("mode.lazy-pages: everything is there in the end, also what nobody asked for, and what was asked for first is known then", () =>
    withSubject(Subject.withWorkload("memory/still", ["24"]), async (subject) => {
      await subject.dump();
      await subject.must(ownLazily(subject));
      await subject.untilAlone([subject.pid]);
      await subject.judge(["nothing"]);
      const set = join(subject.images, `working-set-${subject.pid}.img`);
      assert.ok(statSync(set).size > 8 && (statSync(set).mode & 0o777) === 0o600, "The first pages were not noted");
      // What it said in its first life.
      truncateSync(join(subject.folder, "out"), "ready\n".length);
      rmSync(join(subject.folder, "go"));
      while (subject.lane.hasExited(subject.pid)) await subject.lane.nextExit(subject.pid);
      await subject.must(ownLazily(subject));
      await subject.untilAlone([subject.pid]);
      await subject.judge(["nothing"]);
    }));

  for (const [dump, daemon, restore] of [
    ["floe", "floe", "floe"],
    ["criu", "criu", "floe"],
    ["floe", "floe", "criu"],
  ] as const) {
    const skip = [dump, daemon, restore].some((tool) => tool === "criu") && noPeer;
    const line = (tool: "floe" | "criu") => (tool === "floe" ? floe() : criu());
    test(`mode.lazy-pages: dumped by ${dump}, filled by a daemon of ${daemon}, restored by ${restore}`, { skip }, () =>
      withSubject(Subject.withWorkload("lazy/torture", ["24"]), async (subject) => {
        const end = subject.lane.nextExit(subject.pid);
        await subject.must([...line(dump), "dump", "-t", String(subject.pid), ...files(subject, "dump.log")]);
        await end;
        await startDaemon(subject, line(daemon));
        await goAndRestore(subject, [...line(restore), "restore", "-d", "--lazy-pages", ...files(subject, "restore.log")], PEER_LOSES);
      }),
    );
  }

  test("when the process that fills memory is killed, nobody reads zeros", () =>
    withSubject(Subject.withWorkload("memory/still", ["256"]), async (subject) => {
      await subject.dump();
      await subject.must(ownLazily(subject));
      const end = subject.lane.nextExit(subject.pid);
      const isWhole = await killFiller(subject, "still");
      sayGo(subject);
      const last = await withTimeout(end, patienceMs, "The end of the process");
      // It may have been quicker, or killed between its last page and its last word.
      const hasAll = last.code === 0 && subject.report().endsWith("PASS\n");
      assert.ok(hasAll || (!isWhole && last.signal === 9), `It ${describeExit(last)}:\n${subject.report()}`);
      await subject.untilAlone([]);
    }));

  test("nor does a child that was forked since", () =>
    withSubject(Subject.withWorkload("lazy/forks", ["256"]), async (subject) => {
      const go = join(subject.folder, "go");
      await subject.dump();
      sayGo(subject);
      while (subject.lane.hasExited(subject.pid)) await subject.lane.nextExit(subject.pid);
      const end = subject.lane.nextExit(subject.pid);
      await subject.must(ownLazily(subject));
      await subject.until(() => existsSync(`${go}.forked`) || subject.lane.hasExited(subject.pid), "It does not fork");
      const isWhole = await killFiller(subject, "forks");
      const last = await withTimeout(end, patienceMs, "The end of the process");
      assert.ok(last.code === 0 || (!isWhole && last.signal === 9), `It ${describeExit(last)}:\n${subject.report()}`);
      await subject.untilAlone([]);
      assert.ok(!existsSync(`${go}.zeros`), "Pages without contents were seen");
    }));

  test("a process for the memory that ends before anything runs, and a socket that cannot be made, are told", () =>
    withSubject(Subject.withWorkload("memory/still", ["8"]), async (subject) => {
      await subject.dump();
      const lost = await subject.run(["env", "FLOE_FAULT=kill:fill-taken-over", ...ownLazily(subject)]);
      assert.equal(lost.exit.code, 1);
      assert.match(lost.text, /LAZY_DAEMON_LOST/);
      await subject.untilAlone([]);
      // While the processes are not ready, and may wait for a page already.
      const early = await subject.run(["env", "FLOE_FAULT=kill:fill-guarded", ...ownLazily(subject)]);
      assert.equal(early.exit.code, 1);
      assert.match(early.text, /LAZY_DAEMON_LOST/);
      await subject.untilAlone([]);
      mkdirSync(join(subject.folder, "logs", "lazy-pages.socket"));
      const unusable = await subject.run([...floe(), "lazy-pages", ...files(subject, "daemon.log")]);
      assert.equal(unusable.exit.code, 1);
      assert.match(unusable.text, /LAZY_SOCKET_UNUSABLE/);
    }));

  test("a restore without a daemon, and a daemon whose restore fails, say so", () =>
    withSubject(Subject.withWorkload("memory/still", ["4"]), async (subject) => {
      await subject.dump();
      const alone = await subject.run(subject.restoreLine(["--lazy-pages"]));
      assert.equal(alone.exit.code, 1);
      assert.match(alone.text, /LAZY_DAEMON_MISSING/);
      const core = join(subject.images, `core-${subject.pid}.img`);
      renameSync(core, `${core}.away`);
      const daemon = subject.run([...floe(), "lazy-pages", ...files(subject, "daemon.log")]);
      await subject.until(() => existsSync(join(subject.folder, "logs", "lazy-pages.socket")), "The daemon does not wait");
      const failed = await subject.run(subject.restoreLine(["--lazy-pages"]));
      assert.match(failed.text, /IMAGE_MISSING/);
      const ended = await daemon;
      assert.equal(ended.exit.code, 1);
      assert.match(ended.text, /LAZY_RESTORER_LOST/);
      const own = await subject.run(ownLazily(subject));
      assert.match(own.text, /IMAGE_MISSING/);
      await subject.untilAlone([]);
      renameSync(`${core}.away`, core);
      await subject.restore();
      await subject.judge();
    }));
});
