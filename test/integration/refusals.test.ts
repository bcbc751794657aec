/** Refusals that no other test provokes: what is typed wrong, and states of processes and images that do not go. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { coreEntry } from "../../src/resources/tasks/core.schema.js";
import { pstreeEntry } from "../../src/resources/tasks/tree.schema.js";
import { ImageFolder } from "../harness/images.js";
import { refusedDump, withPython } from "../harness/python.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { floeOfFile } from "../harness/tool.js";
import { casePatienceMs } from "../harness/patience.js";

const folder = mkdtempSync(join(tmpdir(), "floe-refusals-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const skip = isRoot ? false : "needs root";
/** A number that no process has: pids are below it. */
const NO_PID = "4194304";

/** `floe WORDS` must fail, and say the code. */
function refusedCommand(words: readonly string[], code: string): void {
  const tool = floeOfFile();
  assert.ok(!("missing" in tool));
  const [program = "", script = ""] = tool.command;
  const { status, stdout, stderr } = spawnSync(program, [script, ...words], { cwd: folder, encoding: "utf8", timeout: casePatienceMs });
  assert.ok(status !== 0, `${stdout}${stderr}`);
  assert.ok(`${stdout}${stderr}`.includes(`[${code}]`), `no ${code} in: ${stdout}${stderr}`);
}

describe("refusals of command lines", { skip, concurrency: 2 }, () => {
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const dump = ["criu", "dump", "-t", NO_PID, "-D", folder];
  const cases: readonly (readonly [code: string, words: () => readonly string[]])[] = [
    ["CRIT_WORDS_WRONG", () => ["crit", "frobnicate"]],
    ["CRIT_FILE_UNUSABLE", () => ["crit", "decode", "-i", join(folder, "is-not-there.img")]],
    ["CRIT_BAD_JSON", () => ["crit", "encode", "-i", file("bad.json", "{ no json"), "-o", join(folder, "out.img")]],
    [
      "CRIT_UNKNOWN_KIND",
      () => ["crit", "encode", "-i", file("kind.json", '{"magic":"NOTHING","entries":[]}'), "-o", join(folder, "o.img")],
    ],
    [
      "CRIT_BAD_VALUE",
      () => [
        "crit",
        "encode",
        "-i",
        file("value.json", '{"magic":"PSTREE","entries":[{"pid":"x","ppid":0}]}'),
        "-o",
        join(folder, "o.img"),
      ],
    ],
    ["OPTION_GONE", () => ["criu", "check", "--ms"]],
    ["NO_SUCH_PROCESS", () => dump],
    ["CLOSE_FAILED", () => [...dump, "--close", "987"]],
    ["WORK_DIR_UNUSABLE", () => [...dump, "-W", join(folder, "is-not-there")]],
    ["STATUS_FD_UNUSABLE", () => ["criu", "page-server", "-D", folder, "--address", "127.0.0.1", "--port", "1", "--status-fd", "987"]],
    ["EXEC_CMD_MISSING", () => ["criu", "restore", "-D", folder, "--exec-cmd"]],
  ];
  for (const [code, words] of cases) test(code, () => refusedCommand(words(), code));

  test("RIGHTS_MISSING", () => {
    const tool = floeOfFile();
    assert.ok(!("missing" in tool));
    const options = { cwd: "/", encoding: "utf8", uid: 65_534, gid: 65_534, timeout: casePatienceMs, env: { HOME: "/tmp" } } as const;
    const { stdout, stderr } = spawnSync(process.execPath, [tool.command[1] ?? "", "criu", "dump", "-t", NO_PID, "-D", "/tmp"], options);
    // A folder that others may not enter, as root's, is no place to run from: then Node says so, and nothing is shown.
    if (/Cannot find module|EACCES/.test(stderr)) assert.match(stderr, /floe\.js/);
    else assert.ok(`${stdout}${stderr}`.includes("[RIGHTS_MISSING]"), `${stdout}${stderr}`);
  });
});

describe("refusals of dumps: the process goes on", { skip, concurrency: 2 }, () => {
  const states: readonly { code: string; script: string; options?: readonly string[] }[] = [
    { code: "FILE_KIND_UNSUPPORTED", script: "os.open('/dev/fuse', os.O_RDWR)" },
    { code: "PIDFD_OUTSIDE", script: "os.pidfd_open(1)" },
    {
      code: "NAMESPACE_FILE_OUTSIDE",
      script: [
        "child = os.fork()",
        "if child == 0:",
        "    ctypes.CDLL(None).unshare(0x4000000); open('left', 'w').close(); time.sleep(1000)",
        "while not os.path.exists('left'): time.sleep(0.01)",
        "held = os.open(f'/proc/{child}/ns/uts', os.O_RDONLY); os.kill(child, 9); os.wait(); os.unlink('left')",
      ].join("\n"),
    },
    {
      code: "TCP_NOT_ACCEPTED",
      script: "s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname())",
      options: ["--tcp-established"],
    },
    {
      code: "EPOLL_TARGET_OUTSIDE",
      // The child that has the watched pipe leaves the tree: it is no child of ours any more.
      script: [
        "import select",
        "e = select.epoll(); r, w = os.pipe(); e.register(r)",
        "if os.fork() == 0:",
        "    if os.fork() == 0: open('apart', 'w').close(); time.sleep(1000)",
        "    os._exit(0)",
        "os.wait(); os.close(r)",
        "while not os.path.exists('apart'): time.sleep(0.01)",
        "os.unlink('apart')",
      ].join("\n"),
    },
  ];
  for (const { code, script, options } of states) {
    test(code, () => withPython(script, (subject) => refusedDump(subject, code, { options })));
  }

  test("DUMPS_ITSELF", async () => {
    const subject = await Subject.open();
    try {
      const line = subject.commandLine(["dump", "-t", "$$"]).map((word) => (word === "$$" ? word : `'${word}'`));
      const { text } = await subject.run(["sh", "-c", `${line.join(" ")}; true`]);
      assert.ok(text.includes("[DUMPS_ITSELF]"), text);
    } finally {
      await subject.close();
    }
  });

  test("PROCESS_IS_DEAD", () =>
    withPython(
      "child = os.fork()\nif child == 0: os._exit(3)\nopen('child', 'w').write(str(child))\nos.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)",
      async (subject) => {
        const { stdout } = spawnSync("cat", [join(subject.folder, "work", "child")], { encoding: "utf8" });
        const { exit, text } = await subject.run(subject.commandLine(["dump", "-t", stdout.trim()]));
        assert.equal(exit.code, 1);
        assert.ok(text.includes("[PROCESS_IS_DEAD]"), text);
      },
    ));

  test("IMAGE_NOT_WRITABLE", () =>
    withSubject(Subject.withWorkload("tree/single"), async (subject) => {
      mkdirSync(join(subject.images, "inventory.img"));
      await refusedDump(subject, "IMAGE_NOT_WRITABLE");
      rmSync(join(subject.images, "inventory.img"), { recursive: true });
      await subject.judge();
    }));
});

describe("refusals of restores: nothing is made", { skip }, () => {
  test("images with a bad core, a bad tree, a bad reference, and pid files that cannot be", () =>
    withSubject(Subject.withWorkload("tree/single"), async (subject) => {
      await subject.dump();
      const images = new ImageFolder(subject.images, join(subject.folder, "intact"));
      const refused = async (code: string, options: readonly string[] = []): Promise<void> => {
        const { exit, text } = await subject.run(subject.restoreLine(options));
        assert.equal(exit.code, 1, text);
        assert.ok(text.includes(`[${code}]`), `no ${code} in: ${text}`);
        await subject.untilAlone([]);
        images.reset();
      };
      images.edit({ kind: "CORE", ids: [subject.pid], type: coreEntry }, (records) => records.map(({ tc: _, ...core }) => core));
      await refused("IMAGE_BAD_CORE");
      images.edit({ kind: "PSTREE", ids: [], type: pstreeEntry }, ([root]) => (root === undefined ? [] : [root, root]));
      await refused("IMAGE_BAD_TREE");
      images.edit({ kind: "CORE", ids: [subject.pid], type: coreEntry }, (records) =>
        records.map((core) => ({ ...core, ...(core.tc && { tc: { ...core.tc, task_state: 77 } }) })),
      );
      await refused("IMAGE_BAD_CORE");
      images.write("files.img", images.intact("files.img").subarray(0, 8));
      await refused("FILE_KIND_UNSUPPORTED");
      await refused("PIDFILE_NOT_WRITABLE", ["--pidfile", join(subject.folder, "is-not-there", "x.pid")]);
      closeSync(openSync(join(subject.folder, "taken.pid"), "w"));
      await refused("PIDFILE_NOT_WRITABLE", ["--pidfile", join(subject.folder, "taken.pid")]);
      await subject.restore();
      await subject.judge();
    }));

  test("UNIX_NAME_TAKEN", () =>
    withPython("s = socket.socket(socket.AF_UNIX); s.bind('name'); s.listen()", async (subject) => {
      await subject.dump();
      const name = join(subject.folder, "work", "name");
      rmSync(name);
      writeFileSync(name, "a file");
      const { exit, text } = await subject.run(subject.restoreLine());
      assert.equal(exit.code, 1, text);
      assert.ok(text.includes("[UNIX_NAME_TAKEN]"), text);
    }));
});
