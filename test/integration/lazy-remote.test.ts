/** Lazy restore from elsewhere: pages served out of images, and out of a process that stands still until it runs elsewhere. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { type Socket, connect, createServer } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";

import { type Exit, Lane, withTimeout } from "../harness/lane.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { findTool } from "../harness/tool.js";
import { burialMs, patienceMs } from "../harness/patience.js";

const peer = findTool("criu");
const noPeer = "missing" in peer ? peer.missing : false;

function line(tool: "floe" | "criu"): readonly string[] {
  const found = findTool(tool);
  return "missing" in found ? [] : found.command;
}

/** Of another place, of a restore by the peer, and while memory is still being filled. */
const LOST = ["link ns/", "file mountinfo", "mapflags"];
const CLOSE = 0x1023;

function files(subject: Subject, log: string): string[] {
  return ["-D", subject.images, "-W", join(subject.folder, "logs"), "-o", log, "-v4"];
}

async function freePort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  return String(typeof address === "object" && address !== null ? address.port : 0);
}

/** The workload is to begin the moment it is restored. */
function sayGo(subject: Subject): void {
  const go = join(subject.folder, "go");
  writeFileSync(`${go}.new`, `${["restored", ...LOST].join("\n")}\n`);
  renameSync(`${go}.new`, go);
}

async function startDaemon(subject: Subject, tool: "floe" | "criu", at: { lane: Lane; port: string }): Promise<void> {
  const words = ["lazy-pages", "-d", "--page-server", "--address", "127.0.0.1", "--port", at.port, ...files(subject, "daemon.log")];
  const output = join(subject.folder, "logs", "daemon.output");
  const exit = await at.lane.run({ argv: [...line(tool), ...words], cwd: subject.folder, output }, patienceMs);
  assert.equal(exit.code, 0, readFileSync(output, "utf8"));
  await subject.until(() => existsSync(join(subject.folder, "logs", "lazy-pages.socket")), "The daemon does not wait");
}

/** Dumps with --lazy-pages and goes on when the memory is being served; returns how the command ends. */
async function startSource(subject: Subject, port: string): Promise<{ readonly end: Promise<Exit>; text(): string }> {
  const [status, output] = [join(subject.folder, "status"), join(subject.folder, "logs", "source.output")];
  const words = [
    "dump",
    "-t",
    String(subject.pid),
    "--lazy-pages",
    "--address",
    "127.0.0.1",
    "--port",
    port,
    ...files(subject, "source.log"),
  ];
  const argv = ["sh", "-c", `exec "$@" --status-fd 5 5>${status}`, "sh", ...line("floe"), ...words];
  const pid = await subject.lane.spawn({ argv, cwd: subject.folder, output });
  const end = subject.lane.nextExit(pid);
  const text = () => readFileSync(output, "utf8");
  await subject.until(() => existsSync(status) && statSync(status).size === 1, "The source does not serve");
  return { end, text };
}

/** Another machine: a pid namespace of its own, in which small pids have been used and are free. */
async function elsewhere(): Promise<Lane> {
  const lane = await Lane.open();
  for (let i = 0; i < 8; i++) await lane.run({ argv: ["true"], cwd: "/", output: "/dev/null" }, patienceMs);
  return lane;
}

function ask(port: string, messages: readonly Buffer[]): Promise<Socket> {
  return new Promise((done) => {
    const socket = connect(Number(port), "127.0.0.1", () => {
      for (const message of messages) socket.write(message);
    });
    socket.on("error", () => undefined);
    socket.on("close", () => done(socket));
    socket.resume();
  });
}

function message(command: number, { pages = 0, vaddr = 0n, dst = 0n } = {}): Buffer {
  const bytes = Buffer.alloc(24);
  bytes.writeUInt32LE(command, 0);
  bytes.writeUInt32LE(pages, 4);
  bytes.writeBigUInt64LE(vaddr, 8);
  bytes.writeBigUInt64LE(dst, 16);
  return bytes;
}

async function goneBySignal(subject: Subject): Promise<void> {
  const end = await withTimeout(subject.lane.nextExit(subject.pid), patienceMs, "The end of the source");
  assert.equal(end.signal, 9);
}

describe("lazy restore from elsewhere", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  for (const daemon of ["floe", "criu"] as const)
    test(`mode.remote-lazy-pages: out of images, fetched by a daemon of ${daemon}`, { skip: daemon === "criu" && noPeer }, () =>
      withSubject(Subject.withWorkload(daemon === "floe" ? "lazy/torture" : "memory/still", ["16"]), async (subject) => {
        await subject.dump();
        // The destination has everything but the pages.
        const away = join(subject.folder, "away");
        await subject.must(["cp", "-a", subject.images, away]);
        const pages = readdirSync(subject.images).filter((name) => name.startsWith("pages-"));
        const port = await freePort();
        const logs = ["-W", join(subject.folder, "logs"), "-o", "server.log", "-v4"];
        const words = ["page-server", "--lazy-pages", "-d", "--address", "127.0.0.1", "--port", port, "-D", away, ...logs];
        await subject.must([...line("floe"), ...words]);
        assert.ok(pages.length > 0);
        await startDaemon(subject, daemon, { lane: subject.lane, port });
        if (daemon === "floe") sayGo(subject);
        while (subject.lane.hasExited(subject.pid)) await subject.lane.nextExit(subject.pid);
        const end = subject.lane.nextExit(subject.pid);
        await subject.must(subject.restoreLine(["--lazy-pages"]));
        // The peer's daemon does not follow a process that drops memory: it does so when all has been fetched.
        if (daemon === "criu") await subject.untilAlone([subject.pid]);
        if (daemon === "criu") sayGo(subject);
        const last = await withTimeout(end, patienceMs, `The end of the process (${subject.report()})`);
        assert.ok(last.code === 0 && subject.report().endsWith("PASS\n"), subject.report());
        await subject.untilAlone([]);
      }),
    );

  for (const [daemon, restore] of [
    ["floe", "floe"],
    ["criu", "floe"],
    ["floe", "criu"],
  ] as const) {
    const usesPeer = daemon === "criu" || restore === "criu";
    // The peer's daemon does not tell that a process dropped memory, or has ended, so it must do neither before all is fetched.
    test(`mode.lazy-migrate: fetched by a daemon of ${daemon}, restored by ${restore}`, { skip: usesPeer && noPeer }, () =>
      withSubject(Subject.withWorkload(daemon === "floe" ? "lazy/torture" : "memory/still", ["16"]), async (subject) => {
        const port = await freePort();
        const source = await startSource(subject, port);
        if (daemon === "floe") {
          // What comes to nothing costs nothing.
          await ask(port, [Buffer.from("GET / HTTP/1.0\r\nHost: example\r\n\r\n")]);
          await ask(port, [message(7, { pages: 1, vaddr: 0x1000n, dst: BigInt(subject.pid) })]);
        }
        const lane = await elsewhere();
        try {
          await startDaemon(subject, daemon, { lane, port });
          if (daemon === "floe") sayGo(subject);
          const end = lane.nextExit(subject.pid);
          const output = join(subject.folder, "logs", "restore.output");
          const argv = [...line(restore), "restore", "-d", "--lazy-pages", ...files(subject, "restore.log")];
          while (lane.hasExited(subject.pid)) await lane.nextExit(subject.pid);
          const restored = await lane.run({ argv, cwd: subject.folder, output }, patienceMs);
          assert.equal(restored.code, 0, readFileSync(output, "utf8"));
          const sourceEnds = async () => {
            const ended = await withTimeout(source.end, patienceMs, `The end of the source (${source.text()})`);
            assert.equal(ended.code, 0, source.text());
          };
          if (daemon === "criu") {
            await sourceEnds();
            sayGo(subject);
          }
          const last = await withTimeout(end, patienceMs, `The end of the process (${subject.report()})`);
          assert.ok(last.code === 0 && subject.report().endsWith("PASS\n"), subject.report());
          if (daemon === "floe") await sourceEnds();
          await goneBySignal(subject);
        } finally {
          await lane.close();
        }
      }),
    );
  }

  test("mode.lazy-migrate: a destination that has done without all pages leaves the source stopped", () =>
    withSubject(Subject.withWorkload("memory/still", ["4"]), async (subject) => {
      const port = await freePort();
      const source = await startSource(subject, port);
      const early = await subject.run(subject.restoreLine());
      assert.match(early.text, /PID_TAKEN|IMAGE_PAGES_ELSEWHERE/);
      await ask(port, [message(5, { dst: 1n }), message(CLOSE)]);
      assert.equal((await withTimeout(source.end, patienceMs, "The end of the source")).code, 1);
      assert.match(source.text(), /left stopped.*LAZY_SOURCE_KEPT/s);
      const state = /^State:\s+(\w)/m.exec(await subject.must(["cat", `/proc/${subject.pid}/status`]))?.[1];
      assert.equal(state, "T");
      await subject.must(["sh", "-c", `kill -CONT ${subject.pid}`]);
      await subject.judge();
    }));

  test("memory that nobody has is closed to the process, and not empty", () =>
    withSubject(Subject.withWorkload("memory/still", ["4"]), async (subject) => {
      const port = await freePort();
      const source = await startSource(subject, port);
      const lane = await elsewhere();
      try {
        const output = join(subject.folder, "logs", "restore.output");
        const run = (words: readonly string[]) => lane.run({ argv: [...line("floe"), ...words], cwd: subject.folder, output }, patienceMs);
        const plain = await run(["restore", "-d", ...files(subject, "restore.log")]);
        assert.equal(plain.code, 1);
        assert.match(readFileSync(output, "utf8"), /IMAGE_PAGES_ELSEWHERE/);
        await run(["lazy-pages", "-d", ...files(subject, "daemon.log")]);
        // The kernel itself comes upon such a page, on behalf of the process, before it runs.
        const lazy = await run(["restore", "-d", "--lazy-pages", ...files(subject, "restore.log")]);
        assert.equal(lazy.code, 1, readFileSync(output, "utf8"));
        for (const until = Date.now() + burialMs; (await lane.inspect()).length > 0; ) assert.ok(Date.now() < until, "Something is left");
        assert.match(readFileSync(join(subject.folder, "logs", "daemon.log"), "utf8"), /LAZY_PAGES_ABSENT/);
      } finally {
        await lane.close();
      }
      await ask(port, [message(5, { dst: 1n }), message(CLOSE)]);
      await source.end;
      await subject.must(["sh", "-c", `kill -CONT ${subject.pid}`]);
      await subject.judge();
    }));
});
