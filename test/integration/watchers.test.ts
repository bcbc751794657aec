/** Real programs that wait for others: a log that is followed, a directory that is watched, a database in a transaction. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { projectRoot } from "../harness/compile.js";
import { withTimeout } from "../harness/lane.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { patienceMs } from "../harness/patience.js";

const lacks = (program: string) =>
  !isRoot ? "needs root" : spawnSync("sh", ["-c", `command -v ${program}`]).status === 0 ? false : `not installed: ${program}`;

async function cycle(subject: Subject, options: readonly string[] = []): Promise<void> {
  await subject.dump(options);
  await subject.restore(options);
  rmSync(subject.images, { recursive: true });
  mkdirSync(subject.images);
}

async function end(subject: Subject): Promise<void> {
  const ended = subject.lane.nextExit(subject.pid);
  subject.lane.kill(subject.pid, "TERM");
  await withTimeout(ended, patienceMs, "The end of the program");
}

describe("programs that wait for others", { concurrency: 2 }, () => {
  for (const follow of ["-f", "-F"] as const) {
    test(`tail ${follow} of a log that is rotated`, { skip: lacks("tail") }, () =>
      withSubject(Subject.open(), async (subject) => {
        const log = join(subject.folder, "work", "log");
        writeFileSync(log, "1\n");
        await subject.start(["tail", "-n", "+1", follow, "log"], () => subject.report() === "1\n");
        const told = () => subject.report().replace(/^tail: .*\n/gm, "");
        appendFileSync(log, "2\n");
        await subject.until(() => told() === "1\n2\n", "the second line is not told");
        await cycle(subject);
        appendFileSync(log, "3\n");
        await subject.until(() => told() === "1\n2\n3\n", "the third line is not told");
        renameSync(log, `${log}.1`);
        writeFileSync(log, follow === "-F" ? "4\n" : "");
        if (follow === "-f") appendFileSync(`${log}.1`, "4\n");
        await subject.until(() => told() === "1\n2\n3\n4\n", "the fourth line is not told");
        await cycle(subject);
        appendFileSync(follow === "-F" ? log : `${log}.1`, "5\n");
        await subject.until(() => told() === "1\n2\n3\n4\n5\n", "the fifth line is not told");
        await end(subject);
      }),
    );
  }

  test("inotifywait goes on telling", { skip: lacks("inotifywait") }, () =>
    withSubject(Subject.open(), async (subject) => {
      const watched = join(subject.folder, "work", "watched");
      mkdirSync(watched);
      const argv = ["inotifywait", "-m", "-r", "--format", "%e %w%f", "-e", "create,close_write,moved_to,delete", "watched"];
      await subject.start(argv, () => subject.report().includes("Watches established"));
      const told = (line: string) => subject.until(() => subject.report().includes(`${line}\n`), `"${line}" is not told`);
      writeFileSync(join(watched, "a"), "a");
      await told("CLOSE_WRITE,CLOSE watched/a");
      for (const name of ["b", "c"]) {
        await cycle(subject);
        writeFileSync(join(watched, name), name);
        await told(`CREATE watched/${name}`);
        await told(`CLOSE_WRITE,CLOSE watched/${name}`);
      }
      renameSync(join(watched, "a"), join(watched, "d"));
      await told("MOVED_TO watched/d");
      await end(subject);
    }),
  );

  test("a transaction of SQLite in WAL mode is committed whole", { skip: lacks("python3") }, () =>
    withSubject(Subject.open(), async (subject) => {
      const argv = ["python3", join(projectRoot, "test", "programs", "transaction.py")];
      await subject.start(argv, () => subject.report().includes("half\n"));
      await subject.must(subject.dumpLine(["--file-locks", "--leave-running"]));
      for (let round = 0; round < 2; round += 1) await cycle(subject, ["--file-locks"]);
      const ended = subject.lane.nextExit(subject.pid);
      writeFileSync(join(subject.folder, "work", "go"), "");
      assert.equal((await withTimeout(ended, patienceMs, "The end of the program")).code, 0, subject.report());
      const squares = Array.from({ length: 4000 }, (_, n) => n * n).reduce((sum, square) => sum + square, 0);
      assert.equal(subject.report(), `half\n(4000, ${squares})\n('ok',)\n`);
    }),
  );
});
