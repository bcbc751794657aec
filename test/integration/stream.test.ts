/** Dumps that go over a stream: Floe's own, to standard output, and criu-image-streamer's protocol, also with the peer. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { compileWorkload, projectRoot } from "../harness/compile.js";
import { withTimeout } from "../harness/lane.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { findTool, type ToolName, floeOfFile } from "../harness/tool.js";
import { patienceMs } from "../harness/patience.js";

const STREAMER = join(projectRoot, "test", "harness", "image-streamer.py");

/** `floe` itself, not in the place of CRIU. */
function floe(): string {
  const tool = floeOfFile();
  if ("missing" in tool) throw new Error(tool.missing);
  return tool.command.slice(0, -1).join(" ");
}

function withWorkload(name: string, args: readonly string[], work: (subject: Subject) => Promise<void>): Promise<void> {
  return withSubject(Subject.withWorkload(name, args), work);
}

const shell = (line: string) => ["sh", "-c", line];

/** Dumps into file `stream`; the workload dies. */
async function dumpTo(subject: Subject, options = ""): Promise<Buffer> {
  const end = subject.lane.nextExit(subject.pid);
  await subject.must(shell(`${floe()} dump ${subject.pid} -o - ${options} > stream`));
  assert.equal((await withTimeout(end, patienceMs, "The end of the dumped process")).signal, 9);
  await subject.untilAlone([]);
  return readFileSync(join(subject.folder, "stream"));
}

/** Restores from a pipe. */
async function restoreFrom(subject: Subject, stream: Buffer, options = "") {
  writeFileSync(join(subject.folder, "stream"), stream);
  return subject.run(shell(`cat stream | ${floe()} restore - -d ${options}`));
}

describe("streams", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  for (const [workload, args, options] of [
    ["memory/still", ["16"], ""],
    ["memory/inherited", [], "--compress lz4 --share-pages"],
    ["memory/still", ["16"], "--pre-copy always --compress zstd"],
  ] as const) {
    test(`${workload} goes through a pipe and comes back ${options}`, () =>
      withWorkload(workload, args, async (subject) => {
        const before = readdirSync(subject.folder).sort();
        const stream = await dumpTo(subject, options);
        const { exit, text } = await restoreFrom(subject, stream);
        assert.equal(exit.code, 0, text);
        assert.deepEqual(
          readdirSync(subject.folder)
            .filter((name) => name !== "stream")
            .sort(),
          before,
        );
        subject.wasRestoredByOther();
        await subject.judge();
      }));
  }

  test("on the same machine the dead are waited for whose parent takes a while to notice", async () =>
    withSubject(Subject.open(), async (subject) => {
      // It dies for nobody but its parent, and stays a zombie until half a second after its death.
      const parent = [
        "import os, subprocess, sys, time",
        "child = subprocess.Popen(sys.argv[1:], start_new_session=True)",
        "print('is', child.pid, flush=True)",
        "os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)",
        "time.sleep(0.5); open('reaped', 'w').close(); child.wait(); time.sleep(1000)",
      ].join("\n");
      const argv = [await compileWorkload("memory/still"), join(subject.folder, "go"), "1"];
      // Which of the two speaks first is open.
      await subject.start(
        ["python3", "-c", parent, ...argv],
        () => /^ready$/m.test(subject.report()) && /^is \d+$/m.test(subject.report()),
      );
      const pid = Number(/^is (\d+)$/m.exec(subject.report())?.[1]);
      const { exit, text } = await subject.run(shell(`${floe()} dump ${pid} -o - | ${floe()} restore - -d`));
      assert.equal(exit.code, 0, text);
      assert.ok(existsSync(join(subject.folder, "work", "reaped")));
      const end = subject.lane.nextExit(pid);
      // It has another parent now.
      writeFileSync(join(subject.folder, "go.new"), `restored\nstat ppid\ntask ${pid} PPid:\n`);
      renameSync(join(subject.folder, "go.new"), join(subject.folder, "go"));
      assert.equal((await withTimeout(end, patienceMs, "The end of the restored process")).code, 0, subject.report());
      assert.match(subject.report(), /^PASS$/m);
      await subject.lane.sweep();
    }));

  test("a stream that is cut or damaged is told, and nothing is made", () =>
    withWorkload("memory/still", ["4"], async (subject) => {
      const stream = await dumpTo(subject);
      for (const part of [0, 7, 0.3, 0.9, -1]) {
        const at = part < 0 ? stream.length - 1 : part < 1 ? Math.floor(stream.length * part) : part;
        const cut = await restoreFrom(subject, stream.subarray(0, at));
        assert.match(cut.text, /STREAM_BAD/, `cut at ${at}`);
        const damaged = Buffer.from(stream);
        damaged[at] = (damaged[at] as number) ^ 4;
        const bad = await restoreFrom(subject, damaged);
        assert.match(bad.text, /STREAM_BAD/, `damaged at ${at}`);
        await subject.untilAlone([]);
      }
      const { exit, text } = await restoreFrom(subject, stream);
      assert.equal(exit.code, 0, text);
      subject.wasRestoredByOther();
      await subject.judge();
    }));

  test("a process whose images nobody reads to the end runs on", () =>
    withWorkload("memory/still", ["16"], async (subject) => {
      const { text } = await subject.run(shell(`${floe()} dump ${subject.pid} -o - | head -c 100000 > /dev/null`));
      assert.match(text, /STREAM_NOT_WRITABLE/);
      await subject.judge();
    }));

  test("a stream can be the difference to images that are on the other side already", () =>
    withWorkload("memory/still", ["24"], async (subject) => {
      await subject.must(subject.commandLine(["pre-dump", "-t", String(subject.pid)]));
      const stream = await dumpTo(subject, "--prev-images-dir images");
      assert.ok(stream.length < 12 << 20, `the stream has ${stream.length} bytes`);
      const without = await restoreFrom(subject, stream);
      assert.match(without.text, /PREV_IMAGES_UNUSABLE/);
      const { exit, text } = await restoreFrom(subject, stream, "--prev-images-dir images");
      assert.equal(exit.code, 0, text);
      subject.wasRestoredByOther();
      await subject.judge();
    }));
});

/** Runs one command of a tool with an image streamer beside it. */
async function withStreamer(subject: Subject, use: "capture" | "serve", words: readonly string[], tool: ToolName): Promise<void> {
  const socket = join(subject.images, `streamer-${use}.sock`);
  const store = join(subject.folder, "store");
  const pid = await subject.lane.spawn({
    argv: ["python3", STREAMER, use, subject.images, store],
    cwd: "/",
    output: join(subject.folder, "logs", use),
  });
  const end = subject.lane.nextExit(pid);
  await subject.until(() => existsSync(socket), "The image streamer does not listen");
  const found = findTool(tool);
  if ("missing" in found) throw new Error(found.missing);
  await subject.must([
    ...found.command,
    ...words,
    "--stream",
    "-D",
    subject.images,
    "-W",
    join(subject.folder, "logs"),
    "-o",
    `${tool}-${use}.log`,
  ]);
  const { code } = await withTimeout(end, patienceMs, "The end of the image streamer");
  assert.equal(code, 0, readFileSync(join(subject.folder, "logs", use), "utf8"));
}

describe("the protocol of criu-image-streamer", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  for (const [from, to] of [
    ["floe", "floe"],
    ["criu", "floe"],
    ["floe", "criu"],
  ] as const) {
    test(`what ${from} sends ${to} restores`, async (t) => {
      const peer = findTool("criu");
      if (from !== to && "missing" in peer) return t.skip(peer.missing);
      await withWorkload("memory/still", ["8"], async (subject) => {
        mkdirSync(join(subject.folder, "store"));
        const death = subject.lane.nextExit(subject.pid);
        await withStreamer(subject, "capture", ["dump", "-t", String(subject.pid)], from);
        assert.equal((await withTimeout(death, patienceMs, "The end of the dumped process")).signal, 9);
        await subject.untilAlone([]);
        assert.ok(existsSync(join(subject.folder, "store", "pages-1.img")));
        await withStreamer(subject, "serve", ["restore", "-d"], to);
        subject.wasRestoredByOther();
        await subject.judge(from === to ? [] : ["link ns/time"]);
      });
    });
  }

  test("without an image streamer nothing is touched, and options that need files are refused", () =>
    withWorkload("memory/still", ["1"], async (subject) => {
      const { exit, text } = await subject.run(subject.dumpLine(["--stream"]));
      assert.notEqual(exit.code, 0);
      assert.match(text, /STREAMER_UNREACHABLE/);
      const both = await subject.run(subject.dumpLine(["--stream", "--prev-images-dir", "../x"]));
      assert.match(both.text, /OPTIONS_CONTRADICT/);
      await subject.judge();
    }));
});
