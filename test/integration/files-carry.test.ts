/** Files whose contents go with the process (`--file-policy carry`), and what is refused about files that changed. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { compileWorkload } from "../harness/compile.js";
import { findTool } from "../harness/tool.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

/** Head of a note: length of the owner's name, of the id, and the type 3 (NT_GNU_BUILD_ID); the name. Then comes the id. */
const BUILD_ID = Buffer.from("040000001400000003000000474e5500", "hex");
const CARRY = ["--file-policy", "carry"];

/** The workload, run from a copy of its program in its folder. */
async function carried(): Promise<Subject> {
  const program = await compileWorkload("files2/carried");
  const subject = await Subject.open();
  try {
    const own = join(subject.folder, "program");
    copyFileSync(program, own);
    await subject.start([own, join(subject.folder, "go")], () => /^ready$/m.test(subject.report()));
    return subject;
  } catch (error) {
    await subject.close();
    throw error;
  }
}

const data = (subject: Subject) => join(subject.folder, "work", "data");
const files = (folder: string) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((n) => statSync(join(folder, n)).isFile());

describe("carried files", { skip: isRoot ? false : "needs root", concurrency: 2 }, () => {
  test("files and a program that are gone are made again", () =>
    withSubject(carried(), async (subject) => {
      await subject.dump(CARRY);
      // read and twin are alike: their contents are there once.
      const contents = readdirSync(subject.images).filter((name) => /^floe-carried-\d+\.img$/.test(name));
      const sizes = contents.map((name) => statSync(join(subject.images, name)).size);
      assert.equal(sizes.filter((bytes) => bytes === 300_000).length, 1, `${sizes}`);
      assert.ok(
        sizes.every((bytes) => bytes < 2 << 20),
        "holes were written",
      );
      rmSync(data(subject), { recursive: true });
      rmSync(join(subject.folder, "program"));
      await subject.restore();
      await subject.judge();
      assert.equal(readFileSync(join(data(subject), "deep", "written"), "utf8"), "first second");
      assert.equal(statSync(data(subject)).mode & 0o7777, 0o750);
    }));

  test("other files under the same names are left alone, and a private copy is carried again", () =>
    withSubject(carried(), async (subject) => {
      await subject.dump(CARRY);
      for (const name of files(data(subject))) writeFileSync(join(data(subject), name), `other ${name}`);
      writeFileSync(join(subject.folder, "program"), "another program");
      await subject.restore();
      rmSync(subject.images, { recursive: true });
      mkdirSync(subject.images);
      // The copies have no other place than this process: a later dump takes them without being asked.
      await subject.dump();
      await subject.restore();
      await subject.judge();
      for (const name of files(data(subject)))
        assert.equal(
          readFileSync(join(data(subject), name), "utf8"),
          `other ${basename(name) === "two" || name === "one" ? readFileSync(join(data(subject), "one"), "utf8").slice(6) : name}`,
        );
      assert.equal(readFileSync(join(subject.folder, "program"), "utf8"), "another program");
    }));

  test("files that are the same are used as they are, also where they were copied to", () =>
    withSubject(carried(), async (subject) => {
      await subject.must(subject.dumpLine([...CARRY, "--leave-running"]));
      await subject.dump(CARRY);
      const moved = `${data(subject)}.moved`;
      renameSync(data(subject), moved);
      spawnSync("cp", ["-a", moved, data(subject)]);
      const before = statSync(join(data(subject), "deep", "written")).ino;
      await subject.restore();
      await subject.judge();
      const after = statSync(join(data(subject), "deep", "written"));
      assert.deepEqual([after.ino, after.size], [before, 12]);
    }));

  test("a policy for one path, and strict at the restore", () =>
    withSubject(carried(), async (subject) => {
      const path = join(data(subject), "twin");
      await subject.dump(["--file-policy", `${path}=carry`]);
      assert.equal(readdirSync(subject.images).filter((name) => /^floe-carried-\d+\.img$/.test(name)).length, 1);
      rmSync(path);
      const refused = await subject.run(subject.restoreLine(["--file-policy", "strict"]));
      assert.ok(refused.exit.code === 1 && refused.text.includes("[FILE_GONE]") && refused.text.includes(path), refused.text);
      assert.ok(!existsSync(path));
      await subject.restore();
      await subject.judge();
    }));

  test("a restore that fails takes back what it has made", () =>
    withSubject(carried(), async (subject) => {
      await subject.dump(CARRY);
      rmSync(data(subject), { recursive: true });
      const failed = await subject.run(subject.restoreLine([], { fault: "restore-ready" }));
      assert.equal(failed.exit.code, 1, failed.text);
      assert.ok(!existsSync(data(subject)));
      await subject.restore();
      await subject.judge();
    }));

  test("damaged contents are noticed before anything is made", () =>
    withSubject(carried(), async (subject) => {
      await subject.dump(CARRY);
      const [first] = readdirSync(subject.images).filter((name) => /^floe-carried-\d+\.img$/.test(name));
      const path = join(subject.images, first ?? "");
      truncateSync(path, Math.max(0, statSync(path).size - 1));
      const cut = await subject.run(subject.restoreLine());
      assert.ok(cut.exit.code === 1 && cut.text.includes("[IMAGE_BAD_CARRIED]"), cut.text);
      rmSync(path);
      const gone = await subject.run(subject.restoreLine());
      assert.ok(gone.exit.code === 1 && gone.text.includes("[IMAGE_MISSING]"), gone.text);
    }));

  test("every difference is named at once: gone, shorter, longer, another mode, another build", () =>
    withSubject(carried(), async (subject) => {
      await subject.dump();
      const at = (name: string) => join(data(subject), name);
      rmSync(at("read"));
      truncateSync(at("twin"), 1);
      appendFileSync(at("sparse"), "more");
      spawnSync("chmod", ["600", at("empty")]);
      const program = join(subject.folder, "program");
      const build = readFileSync(program);
      const id = build.indexOf(BUILD_ID) + BUILD_ID.length;
      build[id] = (build[id] ?? 0) ^ 0xff;
      writeFileSync(program, build);
      const { exit, text } = await subject.run(subject.restoreLine());
      assert.equal(exit.code, 1);
      for (const [code, name] of [
        ["FILE_GONE", at("read")],
        ["FILE_CHANGED", at("twin")],
        ["FILE_CHANGED", at("sparse")],
        ["FILE_MODE_CHANGED", at("empty")],
        ["FILE_CHANGED", program],
      ] as const)
        assert.ok(text.includes(`[${code}]`) && text.includes(`"${name}"`), `${code} ${name}: ${text}`);
    }));
});

describe("carried files and others", { skip: isRoot ? false : "needs root", concurrency: 2 }, () => {
  test("a file under a lease for writing cannot be read, and is named", () =>
    withSubject(Subject.withWorkload("files2/leases"), async (subject) => {
      const { exit, text } = await subject.run(subject.dumpLine(["--file-locks", ...CARRY]));
      assert.ok(exit.code === 1 && text.includes("[FILE_NOT_CARRIED]") && text.includes("work/writing"), text);
      await subject.judge();
    }));

  const peer = findTool("criu");
  test("the peer restores such images where the files are there", { skip: "missing" in peer ? peer.missing : false }, () =>
    withSubject(carried(), async (subject) => {
      await subject.dump(CARRY);
      const log = join(subject.folder, "logs", "peer.log");
      const words = ["restore", "-d", "-D", subject.images, "-W", join(subject.folder, "logs"), "-o", log];
      if (!("missing" in peer)) await subject.must([...peer.command, ...words]);
      await subject.judge();
    }),
  );
});

describe("files that seem unchanged", { skip: isRoot ? false : "needs root", concurrency: 2 }, () => {
  /** Changes one byte and keeps everything else. */
  function touch(path: string, at: number): void {
    const bytes = readFileSync(path);
    bytes[at] = (bytes[at] ?? 0) ^ 0xff;
    writeFileSync(path, bytes);
  }

  test("another file of the same size is told by its checksum, unless sizes are all that counts", () =>
    withSubject(carried(), async (subject) => {
      await subject.dump();
      const path = join(data(subject), "read");
      touch(path, 299_999);
      const { exit, text } = await subject.run(subject.restoreLine());
      assert.ok(exit.code === 1 && text.includes("[FILE_CHANGED]") && text.includes(`"${path}": it has other contents`), text);
      await subject.must(subject.restoreLine(["--file-validation", "filesize"]));
    }));

  test("what is only read may have changed, and so may what is mapped where sizes are all that a dump notes", () =>
    withSubject(carried(), async (subject) => {
      await subject.dump(["--file-validation", "filesize"]);
      touch(join(data(subject), "twin"), 5);
      touch(join(data(subject), "read"), 5);
      await subject.must(subject.restoreLine());
    }));

  test("another build is accepted with --file-validation filesize, other permissions with --skip-file-rwx-check", () =>
    withSubject(carried(), async (subject) => {
      await subject.dump();
      const program = join(subject.folder, "program");
      touch(program, readFileSync(program).indexOf(BUILD_ID) + BUILD_ID.length);
      spawnSync("chmod", ["600", join(data(subject), "empty")]);
      await subject.must(subject.restoreLine(["--file-validation", "filesize", "--skip-file-rwx-check"]));
    }));
});

const python = spawnSync("python3", ["-c", "import sys, zlib; print(sys.executable)"], { encoding: "utf8" }).stdout?.trim();
const noPython = !isRoot ? "needs root" : python ? false : "not installed: python3";

/** Counts, and says each second number from a file that it has open. */
const COUNT = `
import os, sys, time, json, ctypes, decimal
log = open("log", "a+")
n = 0
print("ready", flush=True)
while not os.path.exists("stop"):
    n += 1
    log.write(json.dumps({"n": str(decimal.Decimal(n))}) + "\\n"); log.flush()
    time.sleep(0.01)
log.seek(0)
lines = [json.loads(line) for line in log]
assert [int(line["n"]) for line in lines] == list(range(1, n + 1)), lines
print("PASS", flush=True)
`;

describe("a real program on a machine without it", { skip: noPython, concurrency: 2 }, () => {
  async function counting(argv: (folder: string) => string[]): Promise<Subject> {
    const subject = await Subject.open();
    try {
      writeFileSync(join(subject.folder, "work", "count.py"), COUNT);
      await subject.start([...argv(subject.folder), "count.py"], () => subject.report().includes("ready"));
      return subject;
    } catch (error) {
      await subject.close();
      throw error;
    }
  }
  async function ends(subject: Subject): Promise<void> {
    const lines = () => readFileSync(join(subject.folder, "work", "log"), "utf8").split("\n").length;
    const before = lines();
    await subject.until(() => lines() > before + 5, "it does not go on counting");
    const end = subject.lane.nextExit(subject.pid);
    writeFileSync(join(subject.folder, "work", "stop"), "");
    assert.equal((await end).code, 0, subject.report());
    assert.ok(subject.report().endsWith("PASS\n"), subject.report());
  }

  test("python3 with loader and libraries of its own, all of them moved away", () =>
    withSubject(
      counting((folder) => {
        const own = join(folder, "own");
        mkdirSync(own);
        const listed = spawnSync("ldd", [python ?? ""], { encoding: "utf8" }).stdout;
        const paths = [...listed.matchAll(/(\/\S+) \(0x/g)].map((found) => found[1] ?? "");
        for (const path of [python ?? "", ...paths]) copyFileSync(path, join(own, basename(path)));
        const loader = paths.find((path) => path.includes("ld-linux")) ?? "";
        return [join(own, basename(loader)), "--library-path", own, join(own, basename(python ?? ""))];
      }),
      async (subject) => {
        const own = join(subject.folder, "own");
        const names = readdirSync(own).sort();
        await subject.dump(CARRY);
        renameSync(own, `${own}.moved`);
        const missing = await subject.run(subject.restoreLine(["--file-policy", "strict"]));
        assert.ok(missing.exit.code === 1 && names.every((name) => missing.text.includes(`/own/${name}"`)), missing.text);
        await subject.restore();
        assert.deepEqual(readdirSync(own).sort(), names);
        await ends(subject);
      },
    ));

  test("python3 where another program has its name, and its modules are gone", () =>
    withSubject(
      counting(() => [python ?? ""]),
      async (subject) => {
        await subject.dump(CARRY);
        const program = readlinkSync("/proc/self/exe") && spawnSync("readlink", ["-f", python ?? ""], { encoding: "utf8" }).stdout.trim();
        const library = spawnSync(python ?? "", ["-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"], {
          encoding: "utf8",
        }).stdout.trim();
        const hide = `mount -t tmpfs none ${library} && mount --bind /bin/true ${program} && exec "$@"`;
        const line = subject.restoreLine();
        await subject.must(["unshare", "-m", "sh", "-c", hide, "sh", ...line]);
        await ends(subject);
      },
    ));
});
