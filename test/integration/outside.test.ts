/**
 * Things that stay outside the images, and others that take their places: --external and --inherit-fd, with the peer both ways.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { compileWorkload, projectRoot } from "../harness/compile.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { findTool, type ToolName } from "../harness/tool.js";

/** Common to both drivers: starts the workload, dumps, restores with what is given, waits for the verdict. */
const COMMON = `
import fcntl, os, socket, struct, subprocess, sys, time
program, dump, restore = sys.argv[1], sys.argv[2].split("\\n"), sys.argv[3].split("\\n")
def report(): return open("out").read() if os.path.exists("out") else ""
plain = sys.argv[4:]
def die(*words): print(*words, report(), flush=True); os._exit(1)
def until(text, seconds=60):
    end = time.time() + seconds
    while text not in report():
        if time.time() > end or "FAIL" in report(): die("no", text)
        time.sleep(0.01)
def start(setup):
    pid = os.fork()
    if pid == 0:
        fd = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.path.abspath("empty"), os.O_RDWR | os.O_CREAT)
        for n in (0, 1, 2): os.dup2(null if n == 0 else fd, n)
        setup()
        os.chdir("work")
        os.execv(program, [program, os.path.abspath("../go")] + plain)
    until("ready")
    return pid
def tool(line, more, fds=()):
    done = subprocess.run(line + more, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=fds, text=True)
    if done.returncode != 0: die(" ".join(line + more), done.returncode, done.stdout)
    return done.stdout
def target(pid): return [str(pid)] if "--output" in dump else ["-t", str(pid)]
def give(keys):
    return [word for fd, key in keys for word in ("--inherit-fd", "fd[%d]:%s" % (fd, key))]
def go():
    open("go.new", "w").write("restored\\n"); os.rename("go.new", "go")
`;

/** A process in the middle of a pipeline, which has a pipe of its own besides. */
const PIPELINE = `
before, after, inside = os.pipe(), os.pipe(), os.pipe()
def middle():
    os.setsid()
    null = os.open(os.path.abspath("empty"), os.O_RDWR | os.O_CREAT)
    for fd, n in ((os.dup(before[0]), 0), (os.dup(after[1]), 1), (null, 2), (os.dup(inside[0]), 3), (os.dup(inside[1]), 4)): os.dup2(fd, n)
    os.closerange(5, 100)
    os.execv("/bin/sleep", ["sleep", "100"])
pid = os.fork()
if pid == 0: middle()
while open("/proc/%d/comm" % pid).read() != "sleep\\n": time.sleep(0.01)
print(tool(dump, target(pid) + ["--leave-running"]), "--- without a writer", flush=True)
os.close(before[1])
images = dump[dump.index("--output") + 1]
for name in os.listdir(images): os.unlink(images + "/" + name)
print(tool(dump, target(pid)))
os.waitpid(pid, 0)
`;

const FILES = `
def nothing(): os.setsid(); os.closerange(3, 200)
pid = start(nothing)
def key(what): return report().split(what + " is ")[1].split("\\n")[0]
tool(dump, target(pid)); os.waitpid(pid, 0)
memory = os.memfd_create("instead"); os.write(memory, b"given" + b"." * 4091); os.lseek(memory, 0, 0)
reader, writer = os.pipe(); os.write(writer, b"given")
ours, theirs = socket.socketpair(); ours.send(b"given")
here, there = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
for s in (here, there): s.bind(("127.0.0.1", 0))
here.connect(there.getsockname()); there.connect(here.getsockname()); here.send(b"given")
file = os.open("instead", os.O_RDWR | os.O_CREAT); os.write(file, b"firstgiven"); os.lseek(file, 5, 0)
fds = [(memory, "/memfd:thing"), (reader, key("pipe")), (file, os.path.abspath("work/file")[1:])]
os.mkfifo("fifo"); fifo = os.open("fifo", os.O_RDWR); os.write(fifo, b"given")
if not plain: fds += [(there.fileno(), key("inet")), (fifo, os.path.abspath("work/fifo")[1:])]
if len(plain) < 2: fds.append((theirs.fileno(), key("unix")))
if os.environ.get("NOTHING"):
    print(subprocess.run(restore + ["--inherit-fd", "fd[99]:x"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout)
    os.truncate(memory, 3)
    print(subprocess.run(restore + give(fds), pass_fds=[f for f, _ in fds], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout)
    os.truncate(memory, 4096); os.pwrite(memory, b"given", 0)
tool(restore, give(fds), [fd for fd, _ in fds])
theirs.close(); there.close()
go(); until("PASS")
print(b"taken" if len(plain) > 1 else ours.recv(9), b"taken" if plain else here.recv(9), os.pread(file, 99, 0), os.pread(memory, 10, 0), os.lseek(file, 0, 1), b"taken" if plain else os.read(fifo, 9))
`;

const TERMINALS = `
def keyOf(fd): st = os.fstat(fd); return "tty[%x:%x]" % (st.st_rdev, st.st_dev)
pairs = [os.openpty() for _ in range(2)]
def terminals():
    os.dup2(pairs[0][1], 0); os.dup2(pairs[1][1], 5); os.closerange(3, 5); os.closerange(6, 200)
pid = start(terminals)
keys = [keyOf(slave) for _, slave in pairs]
if os.environ.get("NOTHING"): print(subprocess.run(dump + target(pid), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout)
tool(dump, target(pid) + [word for key in keys for word in ("--external", key)]); os.waitpid(pid, 0)
if os.environ.get("NOTHING"): print(subprocess.run(restore, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout)
news = [os.openpty() for _ in range(2)]
fds = list(zip([slave for _, slave in news], keys))
tool(restore, give(fds), [fd for fd, _ in fds])
for master, slave in pairs + news: os.close(slave)
for master, slave in news: os.write(master, b"typed\\n")
go(); until("PASS")
print([os.read(master, 99) for master, _ in news])
`;

interface Way {
  readonly dump: ToolName;
  readonly restore: ToolName;
  readonly own?: boolean;
  readonly refusals?: boolean;
}

const usesPeer = (way: Way): boolean => way.dump === "criu" || way.restore === "criu";
/**
 * The peer refuses inet sockets on some kernels and /dev/tty of a terminal that it leaves outside, and its restore hangs when it
 * is given a UNIX socket: without these, then.
 */
const peerArguments = (way: Way): string[] => (way.restore === "criu" ? ["plain", "apart"] : usesPeer(way) ? ["plain"] : []);

/** Runs a driver in a lane, and gives back what it says. */
async function drive(driver: string, workload: string, way: Way): Promise<string> {
  const program = await compileWorkload(workload);
  let said = "";
  await withSubject(Subject.open(), async (subject) => {
    const line = (name: ToolName, words: readonly string[]): string => {
      const tool = findTool(name);
      if ("missing" in tool) throw new Error(tool.missing);
      const directory = way.own === true ? [] : ["-D", subject.images];
      const command = way.own === true ? tool.command.slice(0, -1) : tool.command;
      return [...command, ...words, ...directory, "-W", join(subject.folder, "logs")].join("\n");
    };
    const script = join(subject.folder, "driver.py");
    writeFileSync(script, COMMON + driver);
    const log = way.own === true ? [] : ["-v4", "-o", "tool.log"];
    const dump = line(way.dump, way.own === true ? ["dump", "--output", subject.images] : ["dump", ...log]);
    const restore = line(way.restore, way.own === true ? ["restore", subject.images, "--detach"] : ["restore", "-d", ...log]);
    const environment = way.refusals === true ? ["env", "NOTHING=1"] : [];
    const { exit, text } = await subject.run([...environment, "python3", script, program, dump, restore, ...peerArguments(way)]);
    let logged = "";
    try {
      logged = readFileSync(join(subject.folder, "logs", "tool.log"), "utf8")
        .split("\n")
        .slice(-15)
        .join("\n");
    } catch {
      // Floe's own commands keep no log unless asked.
    }
    assert.equal(exit.code, 0, `${text}\n${logged}`);
    said = text;
    await subject.untilAlone([]);
  });
  return said;
}

const peer = findTool("criu");
const WAYS: readonly (Way & { readonly name: string })[] = [
  { name: "floe", dump: "floe", restore: "floe", refusals: true },
  { name: "floe's own commands", dump: "floe", restore: "floe", own: true },
  { name: "criu to floe", dump: "criu", restore: "floe" },
  { name: "floe to criu", dump: "floe", restore: "criu" },
];

for (const way of WAYS) {
  const skip = !isRoot ? "needs root" : usesPeer(way) && "missing" in peer ? peer.missing : false;
  describe(`things from outside [${way.name}]`, { skip }, () => {
    test("mode.inherit-fd: memfd, pipe, sockets, a file and a fifo are handed over, with their positions", async () => {
      const said = await drive(FILES, "files2/given", way);
      assert.match(said, /b'taken' b'taken' b'firstgiventaken' b'giventaken' 15 b'taken'$/m, said);
      if (way.refusals === true) for (const code of ["OPTION_BAD_VALUE", "EXTERNAL_UNFIT"]) assert.ok(said.includes(`[${code}]`), said);
    });
    test("mode.inherit-fd: terminals are left outside, and others take their places; one is a session's", async () => {
      const said = await drive(TERMINALS, "ttys/outside", way);
      assert.match(said, /own terminal shown.*the other terminal shown/, said);
      if (way.refusals !== true) return;
      for (const words of ["[TERMINAL_FROM_OUTSIDE]", "--external tty[", "[EXTERNAL_MISSING]"]) assert.ok(said.includes(words), said);
    });
  });
}

test("file.pipe: a dump tells of pipes whose other end is outside the tree", { skip: isRoot ? false : "needs root" }, async () => {
  const said = await drive(PIPELINE, "files2/given", { dump: "floe", restore: "floe", own: true });
  const [both = "", one = ""] = said.split("--- without a writer");
  assert.equal(both.match(/an end of a pipe whose other end is open outside/g)?.length, 2, said);
  assert.match(
    both,
    /fd 0 of process \d+ \(sleep\) .* as in process \d+ \(python3[^)]*\): after a restore there is no more to be read/,
    said,
  );
  assert.match(both, /fd 1 of process \d+ \(sleep\) .* as in process \d+ .*SIGPIPE\. .*--inherit-fd fd\[N\]:pipe:\[\d+\]/, said);
  assert.equal(one.match(/an end of a pipe whose other end is open outside/g)?.length, 1, said);
  assert.ok(one.includes("fd 1 of process"), said);
});

const LIBRARY = `
import { closeSync, existsSync, readFileSync, readSync, writeFileSync, writeSync } from "node:fs";
const [library, images, pid, refuses] = process.argv.slice(2);
const { DEFAULT_POLICY, dump, restore, SILENT } = await import(library);
const common = { ...DEFAULT_POLICY, imagesDir: images, workDir: images, displayStats: false };
const forDump = { ...common, tree: Number(pid), leaveRunning: false, leaveStopped: false, timeoutS: 10 };
dump({ ...forDump, orphanPtsMaster: true }, SILENT);
const masters = new Map();
const until = (isSo) => {
  for (const end = Date.now() + 60000; !isSo() && Date.now() < end; ) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
};
until(() => existsSync("closed"));
const forRestore = { ...common, restoreDetached: true, leaveStopped: false, pidfile: undefined, execCmd: undefined };
try {
  restore(forRestore, SILENT);
} catch (error) {
  console.log(error.message);
}
restore({ ...forRestore, takeOrphanMaster: ({ fd, index }) => masters.set(index, fd) }, SILENT);
for (const fd of masters.values()) writeSync(fd, "typed\\n");
writeFileSync("go", "restored\\n");
const report = () => (existsSync("out") ? readFileSync("out", "utf8") : "");
until(() => report().includes("PASS"));
for (const [index, fd] of masters) {
  const text = Buffer.alloc(99);
  console.log(index, JSON.stringify(text.toString("utf8", 0, readSync(fd, text))));
  closeSync(fd);
}
console.log(report());
`;

const ORPHANS = `
def terminals():
    os.dup2(pairs[0][1], 0); os.dup2(pairs[1][1], 5); os.closerange(3, 5); os.closerange(6, 200)
pairs = [os.openpty() for _ in range(2)]
pid = start(terminals)
for master, slave in pairs: os.close(slave)
# The masters close when the old terminals have no user any more: their numbers are wanted again.
line = dump + [str(pid)]
done = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
os.waitpid(pid, 0)
for master, slave in pairs: os.close(master)
open("closed", "w").close()
print(done.communicate()[0], flush=True)
`;

describe("terminals without a master, and those of the machine", { skip: isRoot ? false : "needs root" }, () => {
  test("tty.pty: the library makes new masters for slaves whose masters are outside, and hands them out", async () => {
    const program = await compileWorkload("ttys/outside");
    await withSubject(Subject.open(), async (subject) => {
      writeFileSync(join(subject.folder, "driver.py"), COMMON + ORPHANS);
      writeFileSync(join(subject.folder, "library.mjs"), LIBRARY);
      const library = [process.execPath, join(subject.folder, "library.mjs"), join(projectRoot, "dist", "index.js"), subject.images].join(
        "\n",
      );
      const { text } = await subject.run(["python3", join(subject.folder, "driver.py"), program, library, "", "plain"]);
      assert.match(text, /master side|not part of the dumped tree/, text);
      assert.match(text, /own terminal shown/, text);
      assert.match(text, /the other terminal shown/, text);
      assert.match(text, /^PASS$/m, text);
      await subject.untilAlone([]);
    });
  });

  test("what a master was not told yet is refused, and left as it is, where it cannot be made again", () =>
    withSubject(Subject.withWorkload("ttys/pty", ["untold-literal"]), async (subject) => {
      const { exit, text } = await subject.run(subject.dumpLine());
      assert.ok(exit.code === 1 && text.includes("[TERMINAL_HAS_DATA]") && text.includes("TIOCPKT"), text);
      await subject.judge();
    }));

  const missing = existsSync("/dev/tty9") ? false : "there is no /dev/tty9";
  test("tty.console-vt, tty.ctty: a virtual terminal stays that of its session", { skip: missing }, () =>
    withSubject(Subject.withWorkload("ttys/console", ["controlling"]), async (subject) => {
      await subject.must(subject.dumpLine(["--leave-running"]));
      await subject.dump();
      await subject.restore();
      await subject.judge();
    }),
  );
});
