/** Floe itself under rules that it cannot change: seccomp filters that refuse calls, or that it hands on to what it restores. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

/** Number of pidfd_getfd(2), and of a call that nobody makes. */
const PIDFD_GETFD = 438;
const NOBODYS = 183;
const EPERM = 1;
const ENOSYS = 38;

/** Runs a command under a filter by which a system call fails; "nnp": with no_new_privs. */
const confined = (number: number, errno: number, nnp = ""): string[] => [
  "python3",
  "-c",
  `
import ctypes, os, struct, sys
rows = [(0x20, 0, 0, 0), (0x15, 0, 1, ${number}), (6, 0, 0, 0x50000 | ${errno}), (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
program = struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(code))
libc = ctypes.CDLL(None)
if "${nnp}": assert libc.prctl(38, 1, 0, 0, 0) == 0
else: assert libc.prctl(22, 2, program, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
`,
];

describe("Floe under a filter", { skip: isRoot ? false : "needs root", concurrency: 2 }, () => {
  for (const [name, errno] of [
    ["EPERM", EPERM],
    ["ENOSYS", ENOSYS],
  ] as const) {
    test(`DESCRIPTORS_UNREACHABLE: pidfd_getfd gives ${name}: neither dump nor restore begins`, () =>
      withSubject(Subject.withWorkload("files/regular"), async (subject) => {
        const under = confined(PIDFD_GETFD, errno);
        const dumped = await subject.run([...under, ...subject.dumpLine()]);
        assert.equal(dumped.exit.code, 1, dumped.text);
        assert.match(dumped.text, new RegExp(`${name}.*\\[DESCRIPTORS_UNREACHABLE\\]`, "s"));
        assert.deepEqual(readdirSync(subject.images), [], "images were kept");
        await subject.dump();
        const restored = await subject.run([...under, ...subject.restoreLine()]);
        assert.equal(restored.exit.code, 1, restored.text);
        assert.ok(restored.text.includes("[DESCRIPTORS_UNREACHABLE]"), restored.text);
        await subject.untilAlone([]);
        await subject.restore();
        await subject.judge();
      }));
  }

  test("TRACING_FORBIDDEN: on a machine that allows nobody to trace nothing begins", () =>
    withSubject(Subject.withWorkload("files/regular"), async (subject) => {
      // As such a machine looks: the value itself could not be changed back.
      const place = join(subject.folder, "kernel", "yama");
      mkdirSync(place, { recursive: true });
      writeFileSync(join(place, "ptrace_scope"), "3\n");
      const masked = ["unshare", "-m", "sh", "-c", 'mount --bind kernel /proc/sys/kernel && exec "$@"', "sh"];
      const { exit, text } = await subject.run([...masked, ...subject.dumpLine()]);
      assert.equal(exit.code, 1, text);
      assert.ok(text.includes("[TRACING_FORBIDDEN]"), text);
      await subject.judge();
    }));

  test("a restore warns that the filter is handed on, and does it", () =>
    withSubject(Subject.withWorkload("files/regular"), async (subject) => {
      await subject.dump();
      await subject.must([...confined(NOBODYS, EPERM), ...subject.restoreLine()]);
      assert.match(subject.logs(), /Floe runs under 1 seccomp filter\(s\), which the kernel hands on/);
      assert.doesNotMatch(subject.logs(), /no_new_privs/);
      await subject.lane.sweep();
    }));

  test("a restore without a filter says nothing of it", () =>
    withSubject(Subject.withWorkload("files/regular"), async (subject) => {
      await subject.dump();
      await subject.restore();
      assert.doesNotMatch(subject.logs(), /which the kernel hands on/);
      await subject.judge();
    }));

  test("a restore warns that no_new_privs is handed on", () =>
    withSubject(Subject.withWorkload("files/regular"), async (subject) => {
      await subject.dump();
      await subject.must([...confined(NOBODYS, EPERM, "nnp"), ...subject.restoreLine()]);
      assert.match(subject.logs(), new RegExp(`no_new_privs, which the kernel hands on: processes ${subject.pid} did not have it`));
      await subject.lane.sweep();
    }));

  test("SECCOMP_NOT_SUSPENDED: a process with filters of its own is not restored from under one", () =>
    withSubject(Subject.withWorkload("seccomp/filters", ["chain"]), async (subject) => {
      await subject.dump();
      const { exit, text } = await subject.run([...confined(NOBODYS, EPERM), ...subject.restoreLine()]);
      assert.equal(exit.code, 1, text);
      assert.ok(text.includes("[SECCOMP_NOT_SUSPENDED]"), text);
      await subject.untilAlone([]);
      await subject.restore();
      await subject.judge();
    }));
});
