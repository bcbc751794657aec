/**
 * What is refused about open files, by name, with the process unharmed; and files that are handed over from outside.
 */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
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
      await subject.must(["sh", "-c", `exec "$@" 9<>${other}`, "sh", ...line]);
      await subject.judge();
      assert.equal(readFileSync(other, "utf8"), "seen content!");
    }));
});
