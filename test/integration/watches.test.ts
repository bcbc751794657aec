/** Watches whose events nobody has read: what becomes of them when a dump leaves the program running, fails, or is cut short. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { projectRoot } from "../harness/compile.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { patienceMs } from "../harness/patience.js";

const noTypes = existsSync("/sys/kernel/btf/vmlinux") ? false : "the kernel has no BTF";

/** Runs a command for which bpf(2) fails with EPERM: a filter of seccomp(2), which loads the number of the call and compares. */
const WITHOUT_BPF = `
import ctypes, os, struct, sys
rows = [(0x20, 0, 0, 0), (0x15, 0, 1, 321), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
program = struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(code))
assert ctypes.CDLL(None).prctl(22, 2, program, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
`;

const queues = (subject: Subject): string[] =>
  readdirSync(subject.images)
    .filter((name) => name.startsWith("floe-inotify-"))
    .map((name) => join(subject.images, name));

describe("unread events", { skip: isRoot ? false : "needs root", concurrency: 2 }, () => {
  for (const how of ["kinds", "refilled"])
    test(`are in the images of a dump that left the program running, and stay with it: ${how}`, { skip: noTypes }, () =>
      withSubject(Subject.withWorkload("events/inotify-unread", [how]), async (subject) => {
        await subject.must(subject.dumpLine(["--leave-running"]));
        // The first dump took nothing away.
        for (const name of readdirSync(subject.images)) rmSync(join(subject.images, name));
        await subject.must(subject.dumpLine(["--leave-running"]));
        assert.equal(queues(subject).length, 2);
        await subject.bringBack();
      }),
    );

  test("are in images that go over a stream", { skip: noTypes }, () =>
    withSubject(Subject.withWorkload("events/inotify-unread", ["kinds"]), async (subject) => {
      const stream = join(subject.folder, "stream");
      const end = subject.lane.nextExit(subject.pid);
      const own = [process.execPath, join(projectRoot, "dist", "floe.js")];
      await subject.must(["sh", "-c", 'out=$1; shift; exec "$@" > "$out"', "sh", stream, ...own, "dump", String(subject.pid), "-o", "-"]);
      await end;
      await subject.untilAlone([]);
      await subject.must(["sh", "-c", 'in=$1; shift; exec "$@" < "$in"', "sh", stream, ...own, "restore", "-", "--detach"]);
      subject.wasRestoredByOther();
      await subject.judge();
    }),
  );

  test("stay with a program that runs on, and are an overflow in the images, where BPF is not allowed", () =>
    withSubject(Subject.withWorkload("events/inotify-unread", ["left"]), async (subject) => {
      await subject.must(["python3", "-c", WITHOUT_BPF, ...subject.dumpLine(["--leave-running"])]);
      const logs = readdirSync(join(subject.folder, "logs")).map((name) => readFileSync(join(subject.folder, "logs", name), "utf8"));
      assert.ok(logs.join("").includes("inotify events nobody has read stay with it"), logs.join(""));
      assert.deepEqual(queues(subject), []);
      await subject.bringBack();
    }));

  test("are still there after a dump that fails right before the end", () =>
    withSubject(Subject.withWorkload("events/inotify-unread", ["kinds"]), async (subject) => {
      const { exit } = await subject.run(subject.dumpLine([], { fault: "dump-dying" }));
      assert.equal(exit.code, 1);
      assert.deepEqual(readdirSync(subject.images), []);
      await subject.judge();
    }));

  test("are an overflow when the dumper was killed before it could ask for them", () =>
    withSubject(Subject.withWorkload("events/inotify-unread", ["left"]), async (subject) => {
      await subject.dump();
      const [unread = "", ...others] = queues(subject).sort((a, b) => statSync(b).size - statSync(a).size);
      assert.equal(others.length, 1);
      truncateSync(unread, 0);
      await subject.restore();
      await subject.judge();
    }));

  test("are refused when their image is damaged", () =>
    withSubject(Subject.withWorkload("events/inotify-unread", ["left"]), async (subject) => {
      await subject.dump();
      const [unread = ""] = queues(subject).sort((a, b) => statSync(b).size - statSync(a).size);
      truncateSync(unread, statSync(unread).size - 1);
      const { exit, text } = await subject.run(subject.restoreLine());
      assert.ok(exit.code === 1 && text.includes("[IMAGE_BAD_EVENTS]"), text);
      rmSync(unread);
      await subject.restore();
      await subject.judge();
    }));
});

describe("groups that decide about files", { skip: isRoot ? false : "needs root", concurrency: 2 }, () => {
  const refused = (how: string, words: readonly string[], meanwhile: (subject: Subject) => Promise<unknown> = () => Promise.resolve()) =>
    withSubject(Subject.withWorkload("events/fanotify", [how]), async (subject) => {
      await meanwhile(subject);
      const { exit, text } = await subject.run(subject.dumpLine());
      assert.equal(exit.code, 1, text);
      for (const word of ["[FANOTIFY_PERMISSION]", ...words]) assert.ok(text.includes(word), text);
      await subject.judge();
    });

  test("are refused where the images are to go", () => refused("images", ["fd 4 (fanotify)", "/images"]));
  test("are refused when a deleted file would have to be read", () => refused("deleted", ["fd 3", "work/held"]));
  test("are refused while somebody waits for an answer", () =>
    refused("waiting", ["waits for an answer"], async (subject) => {
      const argv = ["cat", join(subject.folder, "work", "held")];
      const pid = await subject.lane.spawn({ argv, cwd: subject.folder, output: join(subject.folder, "cat") });
      const wchan = () =>
        subject.lane.run({ argv: ["cat", `/proc/${pid}/wchan`], cwd: subject.folder, output: join(subject.folder, "wchan") }, patienceMs);
      for (let tries = 0; tries < 500; tries++) {
        await wchan();
        // Each look is added to the file.
        if (readFileSync(join(subject.folder, "wchan"), "utf8").includes("fanotify")) return;
      }
      assert.fail("nobody waits");
    }));
});

describe("watched files that have to be searched for", { skip: isRoot ? false : "needs root", concurrency: 2 }, () => {
  const overlay = () => Subject.withWorkload("events/inotify-overlay");
  /** The overlay stays mounted meanwhile, which Subject.dump would take for something left behind. */
  async function dump(subject: Subject, options: readonly string[] = []): Promise<void> {
    const end = subject.lane.nextExit(subject.pid);
    await subject.must(subject.dumpLine(options));
    await end;
  }
  const work = (subject: Subject) => join(subject.folder, "work");

  test("are found below --irmap-scan-path, and named where they are not", () =>
    withSubject(overlay(), async (subject) => {
      const { exit, text } = await subject.run(subject.dumpLine());
      assert.equal(exit.code, 1, text);
      for (const words of ["[WATCHED_FILE_UNKNOWN]", "watch 1", "watch 2", "--irmap-scan-path"]) assert.ok(text.includes(words), text);
      await dump(subject, ["--irmap-scan-path", work(subject)]);
      await subject.restore();
      await subject.judge();
    }));

  test("are found by a pre-dump, which leaves the names to the dump", () =>
    withSubject(overlay(), async (subject) => {
      const first = join(subject.folder, "images", "1");
      mkdirSync(first);
      const line = subject.commandLine(["pre-dump", "-t", String(subject.pid), "--irmap-scan-path", work(subject)]);
      await subject.must(line.map((word) => (word === subject.images ? first : word)));
      const cache = join(subject.folder, "logs", "irmap-cache");
      const decoded = await subject.must([process.execPath, join(projectRoot, "dist", "floe.js"), "crit", "decode", "-i", cache]);
      const entries = (JSON.parse(decoded) as { magic: string; entries: { path: string }[] }).entries;
      // The file in it is left to the dump: its directory would tell of the search.
      assert.deepEqual(
        entries.map(({ path }) => path),
        [join(work(subject), "merged/a/b")],
      );
      await dump(subject);
      await subject.restore();
      await subject.judge();
    }));

  test("a damaged cache is no use, and does no harm", () =>
    withSubject(overlay(), async (subject) => {
      writeFileSync(join(subject.folder, "logs", "irmap-cache"), "no cache");
      await dump(subject, ["--irmap-scan-path", work(subject)]);
      await subject.restore();
      await subject.judge();
    }));

  test("--force-irmap searches for all of them, and nobody is told of the search", () =>
    withSubject(Subject.withWorkload("events/inotify", ["named"]), async (subject) => {
      await subject.must(subject.dumpLine(["--force-irmap", "--irmap-scan-path", work(subject), "--leave-running"]));
      await subject.dump(["--force-irmap", "--irmap-scan-path", work(subject)]);
      await subject.restore();
      await subject.judge();
    }));
});
