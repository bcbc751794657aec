/** Page servers: pages of a dump go over a connection, between Floe and itself and between Floe and the peer. */
import assert from "node:assert/strict";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync, readdirSync, renameSync, statSync, writeSync } from "node:fs";
import { type Server, type Socket, connect, createServer } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";

import { withTimeout } from "../harness/lane.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { findTool, floeOfFile } from "../harness/tool.js";
import { patienceMs } from "../harness/patience.js";

const HEAD_BYTES = 24;
const PAGE_BYTES = 4096;
const OPEN2 = 4;
const CLOSE = 0x1023;

function floe(): readonly string[] {
  const tool = floeOfFile();
  if ("missing" in tool) throw new Error(tool.missing);
  return tool.command;
}

const peer = findTool("criu");
const noPeer = "missing" in peer ? peer.missing : false;
const criu = (): readonly string[] => ("missing" in peer ? [] : peer.command);

function withStill(work: (subject: Subject) => Promise<void>): Promise<void> {
  return withSubject(Subject.withWorkload("memory/still", ["24"]), work);
}

/** A server that has gone to the background; its port, which must be free, and the directory that it fills. */
async function startServer(subject: Subject, command: readonly string[], more: readonly string[] = []): Promise<string[]> {
  const port = await freePort();
  const words = ["page-server", "-d", "--address", "127.0.0.1", "--port", String(port), "-D", subject.images, ...more];
  await subject.must([...command, ...words, "-W", join(subject.folder, "logs"), "-o", "server.log", "-v4"]);
  return ["--page-server", "--address", "127.0.0.1", "--port", String(port)];
}

/** A port at which nobody listens at the moment. */
async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listening(server);
  await new Promise((closed) => server.close(closed));
  return port;
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** Dumps by `command`; the process dies. */
async function dumpBy(subject: Subject, command: readonly string[], more: readonly string[]): Promise<void> {
  const end = subject.lane.nextExit(subject.pid);
  const files = ["-D", subject.images, "-W", join(subject.folder, "logs"), "-o", "dump.log", "-v4"];
  await subject.must([...command, "dump", "-t", String(subject.pid), ...files, ...more]);
  assert.equal((await withTimeout(end, patienceMs, "The end of the dumped process")).signal, 9);
  await subject.untilAlone([]);
}

/** A server of a test's own that answers PARENT and does what it likes with the rest. */
async function fakeServer(onMessage: (socket: Socket, command: number) => void): Promise<{ port: number; close: () => void }> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    let isFirst = true;
    socket.on("error", () => undefined);
    socket.on("data", (bytes) => {
      if (isFirst) socket.write(Buffer.alloc(4));
      else if (bytes.length >= HEAD_BYTES) onMessage(socket, bytes.readUInt32LE(bytes.length - HEAD_BYTES));
      isFirst = false;
    });
  });
  const port = await listening(server);
  const close = () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { port, close };
}

function message(command: number, { pages = 0, vaddr = 0n, dst = 0n } = {}): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES);
  bytes.writeUInt32LE(command, 0);
  bytes.writeUInt32LE(pages, 4);
  bytes.writeBigUInt64LE(vaddr, 8);
  bytes.writeBigUInt64LE(dst, 16);
  return bytes;
}

/** How many pages the server says that it has got. */
async function pagesReceived(subject: Subject): Promise<number> {
  const said = () => /received: (\d+) pages/.exec(readFileSync(join(subject.folder, "logs", "server.log"), "utf8"))?.[1];
  await subject.until(() => said() !== undefined, "The server has not said what it got");
  return Number(said());
}

/** A server whose images of the dump before differ by a byte from what was sent. */
function floeWithOtherPages(subject: Subject): readonly string[] {
  const fd = openSync(join(subject.folder, "first", "pages-65537.img"), "r+");
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, 0);
  writeSync(fd, Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, 0);
  closeSync(fd);
  return floe();
}

/** What the pages of a directory take up. */
function bytesOf(folder: string): number {
  const names = readdirSync(folder).filter((name) => name.startsWith("pages-"));
  return names.reduce((sum, name) => sum + statSync(join(folder, name)).blocks * 512, 0);
}

const pagesIn = (subject: Subject): string[] => readdirSync(subject.images).filter((name) => /^page/.test(name));

describe("page server", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  test("mode.page-server: pages go to a server of ours, and come back", () =>
    withStill(async (subject) => {
      await dumpBy(subject, floe(), await startServer(subject, floe()));
      assert.ok(pagesIn(subject).includes("pages-65537.img"), pagesIn(subject).join(" "));
      await subject.restore();
      await subject.judge();
    }));

  test("mode.page-server: memory copied ahead goes there too, over a UNIX socket", () =>
    withStill(async (subject) => {
      const path = join(subject.folder, "socket");
      const files = ["-D", subject.images, "-W", join(subject.folder, "logs"), "-o", "server.log"];
      await subject.must([...floe(), "page-server", "-d", "--address", path, ...files]);
      await dumpBy(subject, floe(), ["--page-server", "--address", path, "--pre-copy", "always"]);
      assert.ok(!existsSync(path), "The socket is still there");
      await subject.restore();
      await subject.judge();
    }));

  test("mode.page-server: what differs from a pre-dump before is sent, and kept", () =>
    withStill(async (subject) => {
      const server = await startServer(subject, floe());
      await subject.must(subject.commandLine(["pre-dump", "-t", String(subject.pid), "--track-mem", ...server]));
      // The next server writes the same log.
      await subject.untilAlone([subject.pid]);
      renameSync(subject.images, join(subject.folder, "first"));
      mkdirSync(subject.images, { mode: 0o700 });
      const previous = ["--prev-images-dir", "../first"];
      await dumpBy(subject, floe(), [...(await startServer(subject, floe(), [...previous, "--auto-dedup"])), ...previous, "--track-mem"]);
      assert.ok(bytesOf(join(subject.folder, "first")) > 20 << 20, "The pages of the pre-dump are not there");
      assert.ok(bytesOf(subject.images) < 4 << 20, `${bytesOf(subject.images)} bytes were kept`);
      const came = await pagesReceived(subject);
      assert.ok(came < 1024, `${came} pages were sent`);
      await subject.restore();
      await subject.judge();
    }));

  const others: readonly [string, (subject: Subject) => readonly string[], false | string][] = [
    ["has other pages than were sent", floeWithOtherPages, false],
    ["does not know the question", criu, noPeer],
  ];
  for (const [what, server, skip] of others) {
    test(`mode.page-server: all is sent to a server that ${what}`, { skip }, () =>
      withStill(async (subject) => {
        const first = join(subject.folder, "first");
        await subject.must(subject.commandLine(["pre-dump", "-t", String(subject.pid), ...(await startServer(subject, floe()))]));
        await subject.untilAlone([subject.pid]);
        renameSync(subject.images, first);
        mkdirSync(subject.images, { mode: 0o700 });
        const previous = ["--prev-images-dir", "../first"];
        const to = await startServer(subject, server(subject), previous);
        await dumpBy(subject, floe(), [...to, ...previous]);
        // A server that compares keeps little of it.
        const came = server === criu ? bytesOf(subject.images) / PAGE_BYTES : await pagesReceived(subject);
        assert.ok(came > 24 * 256, `${came} pages were sent`);
        await subject.restore();
        await subject.judge();
      }),
    );
  }

  test("mode.page-server: the peer sends to a server of ours", { skip: noPeer }, () =>
    withStill(async (subject) => {
      await dumpBy(subject, criu(), await startServer(subject, floe(), ["--pidfile", "server.pid"]));
      assert.match(readFileSync(join(subject.folder, "logs", "server.pid"), "utf8"), /^\d+$/);
      await subject.restore();
      await subject.judge();
    }),
  );

  test("mode.page-server: we send to a server of the peer, and the peer restores", { skip: noPeer }, () =>
    withStill(async (subject) => {
      await dumpBy(subject, floe(), await startServer(subject, criu()));
      const files = ["-D", subject.images, "-W", join(subject.folder, "logs"), "-o", "restore.log", "-v4"];
      await subject.must([...criu(), "restore", "-d", ...files]);
      // The peer puts what it restores into a time namespace of its own.
      await subject.judge(["link ns/time"]);
    }),
  );

  test("mode.dedup: a server that compares has nothing to take out of the images before, and keeps no page twice", () =>
    withStill(async (subject) => {
      const toFirst = await startServer(subject, floe());
      await subject.must(subject.commandLine(["pre-dump", "-t", String(subject.pid), ...toFirst]));
      const first = join(subject.folder, "first");
      await subject.until(() => existsSync(join(subject.images, `pagemap-${subject.pid}.img`)), "The server has not finished");
      await subject.untilAlone([subject.pid]);
      renameSync(subject.images, first);
      mkdirSync(subject.images, { mode: 0o700 });
      const to = await startServer(subject, floe(), ["--prev-images-dir", "../first", "--auto-dedup"]);
      await dumpBy(subject, floe(), [...to, "--prev-images-dir", "../first"]);
      assert.ok(bytesOf(first) > 20 << 20 && bytesOf(subject.images) < 4 << 20, `${bytesOf(first)} and ${bytesOf(subject.images)} bytes`);
      await subject.restore();
      await subject.judge();
    }));

  test("a server that ends, or fails, costs the dump and not the process", () =>
    withStill(async (subject) => {
      const dumpTo = (port: number) => subject.run(subject.dumpLine(["--page-server", "--address", "127.0.0.1", "--port", String(port)]));
      const ending = await fakeServer((socket) => socket.destroy());
      const lost = await dumpTo(ending.port);
      ending.close();
      assert.match(lost.text, /PAGE_PEER_LOST/);
      const failing = await fakeServer((socket, command) => {
        if (command === OPEN2) socket.write(Buffer.alloc(1));
        if (command === CLOSE) socket.write(message(1).subarray(0, 4));
      });
      const failed = await dumpTo(failing.port);
      failing.close();
      assert.match(failed.text, /status 1.*PAGE_SERVER_FAILED/s);
      const nobody = await dumpTo(await freePort());
      assert.match(nobody.text, /PAGE_SERVER_UNREACHABLE/);
      const nowhere = await subject.run(subject.dumpLine(["--page-server"]));
      assert.match(nowhere.text, /PAGE_ADDRESS_MISSING/);
      for (const { exit } of [lost, failed, nobody, nowhere]) assert.equal(exit.code, 1);
      await subject.judge();
    }));

  test("what cannot be is told, and no image is kept", () =>
    withSubject(Subject.open(), async (subject) => {
      const open = message(4, { dst: 0x501n });
      const cases: [string, Buffer[], RegExp][] = [
        ["an unknown command", [message(99, { dst: 0x501n })], /command 99 is unknown.*PAGE_STREAM_BAD/s],
        ["text", [Buffer.from("GET / HTTP/1.0\r\nHost: example\r\n\r\n")], /PAGE_STREAM_BAD/],
        ["pages for nobody", [message(1, { pages: 1, dst: 0x501n })], /which is not open.*PAGE_STREAM_BAD/s],
        ["a destination of no kind", [message(4, { dst: 0x577n })], /neither a process nor an object.*PAGE_STREAM_BAD/s],
        ["the same twice", [open, open], /opened twice.*PAGE_STREAM_BAD/s],
        ["half a page", [open, message(1, { pages: 1, vaddr: 0x1000n, dst: 0x501n }), Buffer.alloc(100)], /PAGE_PEER_LOST/],
        ["no parent", [open, message(2, { pages: 1, vaddr: 0x1000n, dst: 0x501n })], /there are none.*PAGE_STREAM_BAD/s],
        ["an odd address", [open, message(1, { pages: 1, vaddr: 0x1001n, dst: 0x501n })], /at 0x1001.*PAGE_STREAM_BAD/s],
        ["the end", [open], /before the sender said.*PAGE_PEER_LOST/s],
      ];
      for (const [what, bytes, said] of cases) {
        const port = await freePort();
        const words = ["page-server", "--address", "127.0.0.1", "--port", String(port), "--pidfile", "server.pid"];
        const done = subject.run(subject.commandLine(words));
        await subject.until(() => existsSync(join(subject.folder, "logs", "server.pid")), "The server does not listen");
        const socket = connect(port, "127.0.0.1");
        socket.on("error", () => undefined);
        socket.end(Buffer.concat(bytes));
        socket.resume();
        const { exit, text } = await done;
        assert.equal(exit.code, 1, what);
        assert.match(text, said, what);
        assert.deepEqual(pagesIn(subject), [], what);
      }
      const taken = createServer();
      const port = await listening(taken);
      const { text } = await subject.run(subject.commandLine(["page-server", "--address", "127.0.0.1", "--port", String(port)]));
      taken.close();
      assert.match(text, /EADDRINUSE.*PAGE_ADDRESS_BAD/s);
    }));
});
