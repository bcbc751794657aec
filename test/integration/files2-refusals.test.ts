/**
 * What is refused about open files, by name, with the process unharmed; and files that are handed over from outside.
 */
import assert from "node:assert/strict";
import { appendFileSync, existsSync, readFileSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { KernelAio } from "../../src/linux/kernel-aio.js";
import { findTool, restoreCommand } from "../harness/tool.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

/** A dump that must fail with `code` and these words, while the workload goes on to PASS. */
async function refusedDump(
  workload: readonly [string, ...string[]],
  expected: { code: string; words: readonly string[]; options?: readonly string[] },
): Promise<void> {
  const [name, ...args] = workload;
  await withSubject(Subject.withWorkload(name, args), async (subject) => {
    const work = join(subject.folder, "work");
    const before = readdirSync(work).sort();
    const { exit, text } = await subject.run(subject.dumpLine(expected.options));
    assert.equal(exit.code, 1, text);
    for (const words of [`[${expected.code}]`, ...expected.words]) assert.ok(text.includes(words), `"${words}" is not in: ${text}`);
    assert.deepEqual(readdirSync(work).sort(), before, "something was left behind");
    assert.deepEqual(readdirSync(subject.images), [], "images were kept");
    await subject.judge();
  });
}

const ringSetting = "/proc/sys/kernel/io_uring_disabled";
const ringsAreOff = !existsSync(ringSetting) || readFileSync(ringSetting, "utf8").trim() === "2";

const seesKernel = isRoot && KernelAio.open() !== undefined;

describe("refusals about files", { skip: isRoot ? false : "needs root" }, () => {
  test("locks without --file-locks name file, range, holder and option", () =>
    refusedDump(["files2/locks"], { code: "FILE_LOCK", words: ["(locks)", "bytes 1000 to the end", "work/posix", "--file-locks"] }));
  test("leases without --file-locks", () =>
    refusedDump(["files2/leases"], { code: "FILE_LOCK", words: ["a lease (write) on the whole file", "work/writing"] }));
  test("a deleted file above --ghost-limit names file, size and option", () =>
    refusedDump(["files2/sparse"], {
      code: "GHOST_FILE_TOO_LARGE",
      words: ["work/sparse", "12288 bytes", "--ghost-limit 12288"],
      options: ["--ghost-limit", "8K"],
    }));
  test("a BPF map that is no plain data", () => refusedDump(["events/bpf", "ring"], { code: "BPF_MAP_KIND", words: ["fd 3", "type 27"] }));
  test("secret memory, open and mapped", () =>
    refusedDump(["memory3/secret"], { code: "SECRET_MEMORY", words: ["fd 3", "mapping ", "memfd_secret"] }));
  test("polls in a context of kernel asynchronous I/O", { skip: seesKernel ? false : "no BTF, or no right to load BPF programs" }, () =>
    refusedDump(["memory3/aio-poll"], { code: "AIO_WAITING", words: ["asynchronous I/O context", "2 of its requests wait"] }),
  );
  for (const [how, code, words] of [
    ["busy", "IO_URING_BUSY", ["(io-uring)", "fd 3", "1 more requests were made than completed", "1 wait for a file", "UV_USE_IO_URING=0"]],
    ["sqpoll", "IO_URING", ["fd 3", "a thread of the kernel serves it"]],
    ["eventfd", "IO_URING", ["fd 3", "an eventfd is registered"]],
    ["file", "IO_URING_FILE", ["fd 3", "registered file 0 (", "work/registered)"]],
  ] as const) {
    test(`a ring of io_uring (${how})`, { skip: ringsAreOff ? "kernel.io_uring_disabled is set" : false }, () =>
      refusedDump(["events/io-uring", how], { code, words }),
    );
  }
  test("several userfaultfds in a tree of several memories", () =>
    refusedDump(["events/userfaultfd", "unclear"], { code: "USERFAULTFD_UNCLEAR", words: ["fd 4", "fd 5"] }));
  test("memory whose faults are handled outside the tree", () =>
    withSubject(Subject.withWorkload("events/userfaultfd", ["outside"]), async (subject) => {
      const [, child = ""] = /child (\d+)$/m.exec(subject.report()) ?? [];
      const { exit, text } = await subject.run(subject.commandLine(["dump", "-t", child]));
      assert.ok(exit.code === 1 && text.includes("[USERFAULTFD_OUTSIDE]") && text.includes("the mapping at 0x"), text);
      await subject.judge();
    }));
  const peer = findTool("criu");
  const withoutPeer = "missing" in peer ? peer.missing : false;
  for (const [what, workload, how, skip] of [
    ["a userfaultfd", "events/userfaultfd", [], withoutPeer],
    ["a ring of io_uring", "events/io-uring", ["plain"], ringsAreOff ? "kernel.io_uring_disabled is set" : withoutPeer],
  ] as const)
    test(`the peer refuses images with ${what}`, { skip }, () =>
      withSubject(Subject.withWorkload(workload, [...how]), async (subject) => {
        await subject.dump();
        const request = { images: subject.images, logFile: join(subject.folder, "logs", "peer.log"), options: [] };
        const { exit } = await subject.run("missing" in peer ? [] : restoreCommand(peer, request));
        assert.notEqual(exit.code, 0);
        await subject.untilAlone([]);
        await subject.restore();
        await subject.judge();
      }),
    );
  for (const [what, words] of [
    ["file", ["fd 3", 'work/place/file"', "--external file["]],
    ["map", ["map_files/", 'work/place/file"']],
    ["cwd", ["cwd", 'work/place"']],
    ["unmounted", ["fd 3", 'the file "/file"']],
  ] as const)
    test(`what another mount hides: ${what}`, () => refusedDump(["files2/hidden", what], { code: "FILE_HIDDEN", words }));
  for (const [how, what] of [
    ["long", "fd 4: its name has more than 4095 bytes"],
    ["long-cwd", "the working directory: its name has more than 4095 bytes"],
  ] as const)
    test(`a name that is longer than a path may be: ${how}`, () =>
      refusedDump(["files2/hidden", how], { code: "FILE_NAME_TOO_LONG", words: ["(hidden)", what, "work/locked", "[FILE_LOCK]"] }));
  test("the link in /proc of a descriptor of a process that is gone", () =>
    refusedDump(["events/procfs", "gone-link"], { code: "FILE_KIND_UNSUPPORTED", words: ["fd 3", "/fd/1", "a process that is gone"] }));
  for (const how of ["queue", "queue-deleted"])
    test(`a POSIX message queue: ${how}`, () =>
      refusedDump(["files2/hidden", how], { code: "FILE_KIND_UNSUPPORTED", words: ["fd 3", "floe-hidden", "POSIX message queue"] }));
  test("names that are gone without --link-remap", () =>
    refusedDump(["files2/hard-links"], { code: "FILE_NAME_GONE", words: ["work/name", "work/directory/name", "--link-remap"] }));
});

describe("files that changed", { skip: isRoot ? false : "needs root" }, () => {
  for (const [policy, more, accepted] of [
    ["strict", "longer", false],
    ["grown", "longer", true],
    ["ignore", "longer", true],
    ["grown", "", false],
    ["strict,PATH=ignore", "", true],
    ["ignore,PATH=strict", "longer", false],
  ] as const) {
    test(`--file-policy ${policy} ${accepted ? "accepts" : "refuses"} a file that got ${more === "" ? "shorter" : more}`, () =>
      withSubject(Subject.withWorkload("files2/external"), async (subject) => {
        const end = subject.lane.nextExit(subject.pid);
        await subject.must(subject.dumpLine());
        assert.equal((await end).signal, 9);
        const path = join(subject.folder, "work", "file");
        if (more === "") truncateSync(path, 12);
        else appendFileSync(path, more);
        const { exit, text } = await subject.run(subject.restoreLine(["--file-policy", policy.replace("PATH", path)]));
        assert.equal(exit.code, accepted ? 0 : 1, text);
        if (!accepted) assert.ok(text.includes("[FILE_CHANGED]") && text.includes(path) && text.includes("--file-policy"), text);
        // What it would read from the shorter file is not what it knew: that was asked for.
        if (more !== "" && accepted) await subject.judge();
      }));
  }
});

describe("files from outside", { skip: isRoot ? false : "needs root" }, () => {
  test("an external file is handed over at restore, and missed otherwise", () =>
    withSubject(Subject.withWorkload("files2/external"), async (subject) => {
      const { folder } = subject;
      const inside = /external (\d+) (\d+)$/m.exec(subject.report());
      assert.ok(inside !== null);
      const key = `file[${Number(inside[1]).toString(16)}:${BigInt(inside[2] ?? 0).toString(16)}]`;
      const end = subject.lane.nextExit(subject.pid);
      await subject.must(subject.dumpLine(["--external", key]));
      assert.equal((await end).signal, 9);
      await subject.untilAlone([]);
      const other = join(folder, "other");
      writeFileSync(other, "that content!", { mode: 0o600 });
      const missed = await subject.run(subject.restoreLine());
      assert.equal(missed.exit.code, 1);
      assert.ok(missed.text.includes("[EXTERNAL_MISSING]") && missed.text.includes(key), missed.text);
      const line = subject.restoreLine(["--inherit-fd", `fd[9]:${key}`]);
      await subject.must(["sh", "-c", `exec 9<>${other}; head -c 6 <&9; exec "$@"`, "sh", ...line]);
      await subject.judge();
      assert.equal(readFileSync(other, "utf8"), "seen content!");
    }));
});
