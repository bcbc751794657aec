import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  type BigIntStats,
  chmodSync,
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileProgram } from "./descriptor-program.js";
import { DescriptorRecords } from "./descriptor-records.js";
import { DescriptorTexts, type ReadDescriptor } from "./descriptor-texts.js";
import {
  FD_CLOEXEC,
  F_OWNER_PID,
  LOCK_EX,
  LOCK_UN,
  dupFrom,
  flock,
  getStatusFlags,
  setDescriptorFlags,
  setOwner,
  setSignal,
  setStatusFlags,
} from "./fcntl.js";
import { O_APPEND, SEEK_SET, lseek } from "./files.js";
import { readFdInfo } from "./proc/read.js";
import { pidfdGetfd, pidfdOpen } from "./process.js";

const LONG = "l".repeat(200);
const FIELDS = ["dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks", "atimeNs", "mtimeNs", "ctimeNs"] as const;
/** Not one that the process has got from whoever runs the test. */
const isOwn = (fd: number) => fd < 10;
const fieldsOf = (stat: BigIntStats) => FIELDS.map((field) => [field, stat[field]]);

/** A process that stands still but for what it is told: a descriptor more at each line. */
async function holder(folder: string): Promise<{ child: ChildProcess; pid: number; more: () => Promise<void> }> {
  const script = `exec 3<>a 4<>b 5</dev/null 7<. 8<>${LONG}/${LONG}; echo ready; read x; exec 9<>c; echo more; read x`;
  const child = spawn("sh", ["-c", `mkdir ${LONG}; ${script}`], { cwd: folder, stdio: ["pipe", "pipe", "inherit"] });
  await once(child.stdout as NodeJS.ReadableStream, "data");
  const more = async () => {
    child.stdin?.write("\n");
    await once(child.stdout as NodeJS.ReadableStream, "data");
  };
  return { child, pid: child.pid ?? 0, more };
}

async function withHolder(action: (of: Awaited<ReturnType<typeof holder>>, folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "floe-texts-"));
  const held = await holder(folder);
  try {
    await action(held, folder);
  } finally {
    if (held.child.exitCode === null && held.child.signalCode === null) {
      held.child.kill("SIGKILL");
      await once(held.child, "exit");
    }
    rmSync(folder, { recursive: true });
  }
}

/** Both ways to read, for one process. */
interface Reader extends Disposable {
  read(): readonly ReadDescriptor[] | undefined;
}

function recordsOf(pid: number): Reader {
  const records = DescriptorRecords.of([pid]) as DescriptorRecords;
  return { read: () => records.read().get(pid), [Symbol.dispose]: () => records[Symbol.dispose]() };
}

/** Everything is as single calls tell. */
function checkAll(texts: Reader, pid: number, which = (_fd: number) => true): Map<number, object> {
  const read = texts.read();
  assert(read !== undefined);
  const pidfd = pidfdOpen(pid);
  for (const { fd, text } of read.filter((one) => which(one.fd))) {
    const link = readlinkSync(`/proc/${pid}/fd/${fd}`);
    if (text === undefined) {
      assert(link.length >= 256 || !link.startsWith("/"), `fd ${fd}`);
      continue;
    }
    const local = pidfdGetfd(pidfd, fd);
    const stat = fstatSync(local, { bigint: true });
    closeSync(local);
    assert.deepEqual({ fd, link, info: readFdInfo(pid, fd) }, { fd: text.fd, link: text.link, info: text.info });
    assert.deepEqual(fieldsOf(text.stat), fieldsOf(stat));
    assert.equal(text.stat.isDirectory(), stat.isDirectory());
  }
  closeSync(pidfd);
  return new Map(read.flatMap(({ fd, text }) => (text === undefined ? [] : [[fd, text] as const])));
}

/** Both ways to read them. */
const WAYS = [
  ["by prepared calls", DescriptorTexts.of, {}],
  ["by a program in the kernel", recordsOf, { skip: fileProgram() === undefined && "the kernel has no iterator over files, or no BTF" }],
] as const;

for (const [how, of, options] of WAYS) {
  test(`what is read of descriptors ${how} is what single calls tell, after each change of them`, options, async () => {
    await withHolder(({ pid }, folder) => {
      using texts = of(pid) as Reader;
      const pidfd = pidfdOpen(pid);
      const [a, b] = [pidfdGetfd(pidfd, 3), pidfdGetfd(pidfd, 4)];
      let before = checkAll(texts, pid);
      const changes: readonly (readonly [string, readonly number[], () => void])[] = [
        ["nothing", [], () => undefined],
        ["the position", [3], () => lseek(a, 1234567n, SEEK_SET)],
        ["a shorter position", [3], () => lseek(a, 5n, SEEK_SET)],
        ["the flags", [4], () => setStatusFlags(b, getStatusFlags(b) | O_APPEND)],
        ["the mode", [3], () => chmodSync(join(folder, "a"), 0o640)],
        ["the name", [4, 7], () => renameSync(join(folder, "b"), join(folder, "renamed"))],
        ["that there is one", [3, 7], () => rmSync(join(folder, "a"))],
      ];
      for (const [what, numbers, change] of changes) {
        change();
        const now = checkAll(texts, pid);
        assert.deepEqual(
          [...now.keys()].filter(isOwn).filter((fd) => now.get(fd) !== before.get(fd)),
          numbers,
          what,
        );
        before = now;
      }
      for (const fd of [a, b, pidfd]) closeSync(fd);
    });
  });
}

test("owners and signals of descriptors are noticed whenever they are set", async () => {
  await withHolder(({ pid }) => {
    using texts = DescriptorTexts.of(pid) as DescriptorTexts;
    const pidfd = pidfdOpen(pid);
    const [a, b] = [pidfdGetfd(pidfd, 3), pidfdGetfd(pidfd, 4)];
    assert.deepEqual([...texts.ownerless(pidfd)].filter(isOwn), [0, 1, 2, 3, 4, 5, 7, 8]);
    setOwner(a, { type: F_OWNER_PID, pid: process.pid });
    assert.deepEqual([...texts.ownerless(pidfd)].filter(isOwn), [0, 1, 2, 4, 5, 7, 8]);
    setSignal(b, 10);
    assert.deepEqual([...texts.ownerless(pidfd)].filter(isOwn), [0, 1, 2, 5, 7, 8]);
    setOwner(a, { type: F_OWNER_PID, pid: 0 });
    assert.deepEqual([...texts.ownerless(pidfd)].filter(isOwn), [0, 1, 2, 3, 5, 7, 8]);
    for (const fd of [a, b, pidfd]) closeSync(fd);
  });
});

test("another set of descriptors, and a process that has ended, are noticed; nothing is left open", async () => {
  const count = () => readdirSync("/proc/self/fd").length;
  const before = count();
  await withHolder(async ({ pid, more, child }) => {
    const open = count();
    {
      using texts = DescriptorTexts.of(pid) as DescriptorTexts;
      assert(texts.read() !== undefined);
      await more();
      assert.equal(texts.read(), undefined);
      // One that is there no more, of the process as it was prepared.
      const pidfd = pidfdOpen(pid);
      using again = DescriptorTexts.of(pid) as DescriptorTexts;
      child.kill("SIGSTOP");
      assert(again.read()?.some(({ fd }) => fd === 9));
      assert(again.ownerless(pidfd).has(9));
      child.kill("SIGKILL");
      await once(child, "exit");
      assert.throws(() => again.read());
      assert.deepEqual([...again.ownerless(pidfd)], []);
      closeSync(pidfd);
      assert.equal(DescriptorTexts.of(pid), undefined);
    }
    assert(count() <= open);
  });
  assert(count() <= before);
});

test("what only the kernel's own record shows is noticed: locks, owners, who shares what, and other descriptors", WAYS[1][2], async () => {
  await withHolder(async ({ pid, more }) => {
    using texts = recordsOf(pid);
    const pidfd = pidfdOpen(pid);
    const [a, b] = [pidfdGetfd(pidfd, 3), pidfdGetfd(pidfd, 4)];
    const now = () => new Map(texts.read()?.map((one) => [one.fd, one]));
    const before = now();
    const changed = (at = now()) => [...at.keys()].filter(isOwn).filter((fd) => at.get(fd) !== before.get(fd));
    const ownerless = () => (texts.read() ?? []).flatMap(({ fd, isOwnerless }) => (isOwn(fd) && isOwnerless === true ? [fd] : []));
    assert.deepEqual(changed(), []);
    // A lock is of the open file description: it can be taken through our duplicate. fdinfo says it, which is then read.
    flock(a, LOCK_EX);
    assert.deepEqual([changed(), now().get(3)?.text], [[3], undefined]);
    flock(a, LOCK_UN);
    assert.deepEqual(now().get(3)?.text, before.get(3)?.text);
    assert.deepEqual(ownerless(), [0, 1, 2, 3, 4, 5, 7, 8]);
    setSignal(b, 10);
    assert.deepEqual(ownerless(), [0, 1, 2, 3, 5, 7, 8]);
    setOwner(a, { type: F_OWNER_PID, pid: process.pid });
    assert.deepEqual(ownerless(), [0, 1, 2, 5, 7, 8]);
    setOwner(a, { type: F_OWNER_PID, pid: 0 });
    setSignal(b, 0);
    assert.deepEqual(ownerless(), [0, 1, 2, 3, 4, 5, 7, 8]);
    await more();
    assert(checkAll(texts, pid).has(9));
    using ours = recordsOf(process.pid);
    const file = (of: Reader, fd: number) => of.read()?.find((one) => one.fd === fd)?.file;
    assert.equal(file(ours, a), file(texts, 3));
    assert.notEqual(file(ours, a), file(texts, 4));
    for (const fd of [a, b, pidfd]) closeSync(fd);
  });
});

test("a descriptor that is closed or given another file, flag or position while the others stay is read anew", WAYS[1][2], () => {
  const folder = mkdtempSync(join(tmpdir(), "floe-texts-"));
  const fds = ["a", "b", "c"].map((name) => openSync(join(folder, name), "w+"));
  try {
    using texts = recordsOf(process.pid);
    const [a = -1, b = -1, c = -1] = fds;
    const one = (fd: number) => texts.read()?.find((each) => each.fd === fd);
    const before = one(b);
    assert.equal(one(b), before);
    setDescriptorFlags(b, 0);
    assert.equal(one(b)?.text?.info.lines[1], readFdInfo(process.pid, b).lines[1]);
    setDescriptorFlags(b, FD_CLOEXEC);
    // The one by which the attributes of its file were asked is of another file now, and the file is asked by another one.
    const twin = dupFrom(a, 0);
    fds.push(twin);
    closeSync(a);
    assert.equal(dupFrom(c, a), a);
    checkAll(texts, process.pid, (fd) => fds.includes(fd));
    assert.equal(one(a)?.file, one(c)?.file);
    assert.notEqual(one(a)?.file, one(twin)?.file);
  } finally {
    for (const fd of fds) closeSync(fd);
    rmSync(folder, { recursive: true });
  }
});

test("processes are in the same namespaces when all links say so", WAYS[1][2], async () => {
  const kinds = ["net", "uts", "ipc", "mount", "cgroup", "user", "time", "pid"]; // the last two for children
  const start = (argv: readonly string[]) => spawn(argv[0] as string, [...argv.slice(1), "sh", "-c", "echo; read x"], { stdio: "pipe" });
  const children = [start(["env"]), ...kinds.map((kind) => start(["unshare", `--${kind}`]))];
  try {
    await Promise.all(children.map(({ stdout }) => once(stdout, "data")));
    const pids = [process.pid, ...children.map(({ pid }) => pid ?? 0)];
    using records = DescriptorRecords.of(pids) as DescriptorRecords;
    // That for children of one in which there is no process yet cannot be read.
    const kindsOf = ["mnt", "net", "ipc", "uts", "user", "pid", "cgroup", "time_for_children"];
    const linksOf = (pid: number) => kindsOf.map((name) => readlinkSync(`/proc/${pid}/ns/${name}`)).join();
    const [ours = "", ...theirs] = pids.map((pid) => records.namespaces.get(pid));
    assert.deepEqual([theirs[0], new Set([ours, ...theirs]).size], [ours, children.length]);
    assert.equal(new Set(pids.map(linksOf)).size, children.length - 1);
  } finally {
    for (const child of children) child.kill("SIGKILL");
  }
});
