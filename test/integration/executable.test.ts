/** The stand-alone executable: it answers to three names, and freezes and brings back without Node. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { projectRoot } from "../harness/compile.js";
import { casePatienceMs } from "../harness/patience.js";

const executable = join(projectRoot, "dist", "floe");

/** What scripts wait with, for process $pid. */
const WAITS = `
# Until file $1 has $2; fails when the process has ended without saying it.
says() { until grep -q "$2" $1; do kill -0 $pid 2> /dev/null || { grep -q "$2" $1; return; }; sleep 0.05; done; }
# Until file $1 has more than $2 lines.
grows() { until [ $(wc -l < $1) -gt $2 ]; do kill -0 $pid || exit 10; sleep 0.05; done; }
# Until it is the program $1, and not setsid(1) or the shell any more, and sleeps.
becomes() { until [ "$(ps -o comm=,stat= -p $pid | tr -s ' ' | cut -c-$((\${#1} + 2)))" = "$1 S" ]; do sleep 0.05; done; }
# Its state once that is $1, or after a minute.
state() { for i in $(seq 1200); do [ "$(ps -o stat= -p $pid | cut -c1)" = $1 ] && break; sleep 0.05; done; ps -o stat= -p $pid | cut -c1; }
`;

/** Runs a script in a pid namespace of its own, with the executable's names in PATH. */
function inNamespace(folder: string, script: string): { status: number | null; stdout: string; stderr: string } {
  const command = ["--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", `${WAITS}\n${script}`];
  const env = { PATH: `${folder}:/usr/sbin:/usr/bin:/sbin:/bin`, HOME: folder };
  return spawnSync("unshare", command, { cwd: folder, env, encoding: "utf8", timeout: casePatienceMs });
}

/** A folder with everything by which Bun or Node can be made to run something. */
function placeOfOthers(folder: string): string {
  const place = mkdtempSync(join(folder, "place-"));
  const preload = 'require("node:fs").writeFileSync("was-run", "");\n';
  const variables = "BUN_OPTIONS=--preload=./preload.js\nNODE_OPTIONS=--require=./preload.js\n";
  for (const name of [".env", ".env.local", ".env.production"]) writeFileSync(join(place, name), variables);
  for (const name of ["bunfig.toml", ".bunfig.toml"]) writeFileSync(join(place, name), 'preload = ["./preload.js"]\n');
  for (const name of ["preload.js", "floe.js", "index.js", "koffi.js"]) writeFileSync(join(place, name), preload);
  writeFileSync(join(place, "package.json"), '{ "main": "./preload.js", "imports": { "#x": "./preload.js" } }\n');
  writeFileSync(join(place, "tsconfig.json"), '{ "compilerOptions": { "baseUrl": ".", "paths": { "*": ["./preload.js"] } } }\n');
  return place;
}

describe("the executable", () => {
  let folder: string;

  before(async () => {
    // Built once by `npm test`, and in use by others.
    const isBuilt = process.env["FLOE_TEST_EXE"] === executable;
    const built = isBuilt ? spawn("true") : spawn(process.execPath, ["tools/build.mjs", "--exe"], { cwd: projectRoot, stdio: "ignore" });
    const status = await new Promise((resolve) => built.on("exit", resolve));
    assert.equal(status, 0, "npm run build:exe failed");
    folder = mkdtempSync(join(tmpdir(), "floe-exe-"));
    for (const name of ["floe", "criu", "crit"]) symlinkSync(executable, join(folder, name));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("goes by the name it is called by", () => {
    const { stdout, stderr } = inNamespace(folder, "floe --version; criu --version; crit --help");
    assert.match(stdout, /^Floe \d+\.\d+\.\d+\nVersion: 4\.\d/);
    assert.match(stdout + stderr, /decode/);
  });

  test("takes nothing from the folder it is started in", () => {
    const place = placeOfOthers(folder);
    for (const words of [["--version"], ["check"], ["criu", "check"]]) {
      const { status, stdout, stderr } = spawnSync(executable, words, { cwd: place, encoding: "utf8" });
      assert.equal(status, 0, stderr);
      assert.match(stdout, /^(Floe |Looks good)/);
      assert.ok(!existsSync(join(place, "was-run")), "something of the folder was run");
    }
  });

  test("takes nothing that is meant for the runtime from the environment", () => {
    const place = placeOfOthers(folder);
    const settings = [
      { BUN_OPTIONS: "--preload=./preload.js" },
      { BUN_BE_BUN: "1" },
      { BUN_JSC_useJIT: "0" },
      { BUN_INSPECT_PRELOAD: "./preload.js", BUN_CONFIG_PRELOAD: "./preload.js" },
      { NODE_OPTIONS: "--require=./preload.js", NODE_PATH: place },
      {},
    ];
    for (const env of settings) {
      const { status, stdout, stderr } = spawnSync(executable, ["check"], { cwd: place, env, encoding: "utf8" });
      assert.equal(status, 0, stderr);
      assert.match(stdout, /^Looks good/, JSON.stringify(env));
      assert.ok(!existsSync(join(place, "was-run")), JSON.stringify(env));
    }
  });

  test("memory stays where its address was taken", async () => {
    const bundler = join(projectRoot, "tools", "bundle.mjs");
    const { findBun } = (await import(bundler)) as { findBun(): string };
    const script = `
      const { default: ffi } = await import(${JSON.stringify(join(projectRoot, "tools", "embedded-ffi.mjs"))});
      for (const size of [1, 8, 100, 5000]) {
        const memory = Buffer.alloc(size);
        const before = ffi.address(memory);
        new DataView(memory.buffer, memory.byteOffset, 1).getUint8(0);
        if (ffi.address(memory) !== before) throw new Error("moved: " + size);
      }`;
    writeFileSync(join(folder, "moves.mjs"), script);
    const { status, stderr } = spawnSync(findBun(), [join(folder, "moves.mjs")], { cwd: folder, encoding: "utf8" });
    assert.equal(status, 0, stderr);
  });

  test("has all the native functions that the source calls", () => {
    const shim = readFileSync(join(projectRoot, "tools", "embedded-ffi.mjs"), "utf8");
    const door = readFileSync(join(projectRoot, "src", "linux", "ffi", "native.unsafe.ts"), "utf8");
    const called = [...door.matchAll(/libc\.func\("\w+ \*?(\w+)\(/g)].map(([, name]) => name ?? "");
    assert.ok(called.includes("posix_spawn") && called.length >= 3, called.join(" "));
    for (const name of called.filter((one) => one !== "syscall")) assert.match(shim, new RegExp(`^  ${name}: \\{`, "m"));
  });

  test("freezes and brings back a process with much memory, copied and filled by several lanes", () => {
    const program = [
      "import array, sys, time",
      "a = bytearray(b''.join(i.to_bytes(8, 'big') * 512 for i in range(24576)))",
      "print('ready', flush=True)",
      "while not __import__('os').path.exists('go'): time.sleep(0.02)",
      "print('same' if a == b''.join(i.to_bytes(8, 'big') * 512 for i in range(24576)) else 'DIFFERS', flush=True)",
    ];
    writeFileSync(join(folder, "large.py"), program.join("\n"));
    const { status, stdout, stderr } = inNamespace(
      folder,
      `setsid python3 large.py < /dev/null > large.out 2>&1 & pid=$!
       says large.out ready; mkdir large
       criu dump -t $pid -D large -o dump.log -v4 || exit 11
       wait $pid
       criu restore -d -D large -o restore.log -v4 || exit 12
       touch go; says large.out "same\\|DIFFERS"; cat large.out; rm go`,
    );
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.equal(stdout, "ready\nsame\n");
  });

  test("restores where userfaultfd(2) is refused, and where processes may not take descriptors from Floe", () => {
    const program = [
      "import os, sys, time",
      "a = bytearray(b''.join(i.to_bytes(8, 'big') * 512 for i in range(4096)))",
      "files = [open('kept-%d' % i, 'w+') for i in range(40)]",
      "for i, f in enumerate(files): f.write(str(i)); f.flush()",
      "os.chdir('/')",
      "child = os.fork()",
      "print('ready', flush=True)",
      "while not os.path.exists(sys.argv[1]): time.sleep(0.02)",
      "whole = a == b''.join(i.to_bytes(8, 'big') * 512 for i in range(4096)) and os.getcwd() == '/'",
      "if child == 0: os._exit(0 if whole else 1)",
      "whole = whole and os.waitpid(child, 0)[1] == 0",
      "whole = whole and all((f.seek(0), f.read())[1] == str(i) for i, f in enumerate(files))",
      "print('same' if whole else 'DIFFERS', flush=True)",
    ];
    writeFileSync(join(folder, "refused.py"), program.join("\n"));
    // A filter of seccomp(2): EPERM for call 323 of x86-64, userfaultfd.
    const filter = [
      "import ctypes, os, struct, sys",
      "program = [(0x20, 0, 0, 0), (0x15, 0, 1, 323), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)]",
      "code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *one) for one in program))",
      "filter = struct.pack('HxxxxxxQ', len(program), ctypes.addressof(code))",
      "assert ctypes.CDLL(None).prctl(22, 2, filter, 0, 0) == 0",
      "os.execvp(sys.argv[1], sys.argv[1:])",
    ];
    writeFileSync(join(folder, "filter.py"), filter.join("\n"));
    const { status, stdout, stderr } = inNamespace(
      folder,
      `setsid python3 refused.py $PWD/told < /dev/null > refused.out 2>&1 & pid=$!
       says refused.out ready; mkdir refused
       criu dump -t $pid -D refused -o dump.log || exit 11
       wait $pid
       FLOE_FAULT=refuse:lending python3 filter.py criu restore -d -D refused -o restore.log || exit 12
       touch told; says refused.out "same\\|DIFFERS"; tail -1 refused.out`,
    );
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.equal(stdout, "same\n", stderr);
  });

  test("dumps to its standard output, and restores from its standard input", () => {
    writeFileSync(join(folder, "streamed.sh"), "echo ready; until [ -e on ]; do sleep 0.05; done; echo on");
    const { status, stdout, stderr } = inNamespace(
      folder,
      `setsid sh streamed.sh < /dev/null > streamed.out 2>&1 & pid=$!
       says streamed.out ready
       floe dump $pid -o - > stream || exit 11
       wait $pid
       floe restore - --detach < stream > /dev/null || exit 12
       touch on; says streamed.out on || exit 13; cat streamed.out`,
    );
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.equal(stdout, "ready\non\n");
  });

  test("freezes and brings back a counting shell, and leaves a pid file", () => {
    writeFileSync(join(folder, "count.sh"), "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done");
    const { status, stdout, stderr } = inNamespace(
      folder,
      `setsid sh count.sh < /dev/null > numbers 2>&1 & pid=$!
       grows numbers 3; mkdir images
       criu dump -t $pid -D images -o dump.log -v4 || exit 11
       wait $pid; cp numbers before
       criu restore -d -D images -o restore.log -v4 --pidfile root.pid || exit 12
       grows numbers $(($(wc -l < before) + 3)); kill -STOP $pid; echo $pid; cat images/root.pid; echo; crit show images/pstree.img; kill -KILL $pid`,
    );
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    const [pid, pidfile] = stdout.split("\n");
    assert.equal(pidfile, pid);
    assert.match(stdout, new RegExp(`"pid": ${pid},`));
    const numbers = readFileSync(join(folder, "numbers"), "utf8").trimEnd().split("\n").map(Number);
    const before = readFileSync(join(folder, "before"), "utf8").trimEnd().split("\n").length;
    assert.ok(numbers.length > before + 3, "the shell did not go on counting");
    assert.deepEqual(
      numbers,
      [...numbers.keys()].map((n) => n + 1),
    );
    assert.equal(statSync(join(folder, "images", "root.pid")).mode & 0o777, 0o600);
  });

  test("memory that the kernel or a lane uses is not collected: not in a dump that collects garbage all the time", async () => {
    // The executable itself takes no options of its engine from the environment.
    const { takeEngineOptions } = (await import(join(projectRoot, "tools", "engine-options.mjs"))) as {
      takeEngineOptions(path: string): void;
    };
    mkdirSync(join(folder, "plain"));
    copyFileSync(executable, join(folder, "plain", "criu"));
    takeEngineOptions(join(folder, "plain", "criu"));
    const told = spawnSync(join(folder, "plain", "criu"), ["--version"], { env: { BUN_JSC_dumpOptions: "1" }, encoding: "utf8" });
    assert.match(told.stdout + told.stderr, /dumpOptions=1/, "the engine does not take its options");
    // Descriptors and connections are asked by tables of prepared calls, whose memory was collected once.
    const program = [
      "import socket, sys, time",
      "server = socket.create_server(('127.0.0.1', 0))",
      "pairs = [(socket.create_connection(server.getsockname()), server.accept()[0]) for _ in range(30)]",
      "print('ready', flush=True)",
      "while not __import__('os').path.exists('tell'): time.sleep(0.02)",
      "for a, b in pairs: a.sendall(b'x'); assert b.recv(1) == b'x'",
      "print('same', flush=True)",
    ];
    writeFileSync(join(folder, "connected.py"), program.join("\n"));
    const { status, stdout, stderr } = inNamespace(
      folder,
      `unshare --net bash -c 'ip link set lo up; exec setsid python3 connected.py' < /dev/null > connected.out 2>&1 & pid=$!
       says connected.out ready; pid=$(pgrep -f "^python3 connected.py"); export PATH=${folder}/plain:$PATH BUN_JSC_slowPathAllocsBetweenGCs=40
       for i in 1 2 3 4 5; do rm -rf garbage; mkdir garbage
         nsenter --net --target $pid criu dump -t $pid -D garbage -o dump.log --tcp-established --leave-running || exit 11; done
       touch tell; says connected.out same || exit 12; cat connected.out`,
    );
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.equal(stdout, "ready\nsame\n");
  });

  test("leaves stopped what it is asked to, after a dump and after a restore", () => {
    const { status, stdout, stderr } = inNamespace(
      folder,
      `setsid sleep 100 < /dev/null > /dev/null 2>&1 & pid=$!
       becomes sleep; mkdir stopped
       criu dump -t $pid -D stopped -o dump.log --leave-stopped || exit 11
       state T; kill -CONT $pid; state S
       kill -KILL $pid; wait $pid 2> /dev/null
       criu restore -d -D stopped -o restore.log --leave-stopped || exit 12
       state T; kill -CONT $pid; state S; kill -KILL $pid`,
    );
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.deepEqual(stdout.split("\n").slice(0, 4), ["T", "S", "T", "S"]);
  });

  test("waits for the restored tree unless told not to, and --exec-cmd becomes its parent", () => {
    writeFileSync(join(folder, "ticks.sh"), "until [ -e end ]; do mkdir -p ticks; sleep 0.05; done");
    const { status, stdout, stderr } = inNamespace(
      folder,
      `setsid sh ticks.sh < /dev/null > /dev/null 2>&1 & pid=$!
       until [ -e ticks ]; do sleep 0.05; done; mkdir waits
       criu dump -t $pid -D waits -o dump.log || exit 11
       wait $pid 2> /dev/null
       rmdir ticks; criu restore -D waits -o restore.log & floe=$!
       until [ -e ticks ]; do kill -0 $floe || exit 12; sleep 0.05; done; kill -0 $floe && echo waits
       touch end; wait $floe; echo "waited $?"; ps -o pid= -p $pid; rm end
       criu restore -D waits -o again.log --exec-cmd -- sh -c 'echo parent $$; ps -o ppid= -p '$pid'; env'`,
    );
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.doesNotMatch(stdout, /BUN_/, "what the executable tells its own engine is not passed on");
    const [waits, waited, parent, ppid] = stdout.split("\n").filter((line) => line.trim() !== "");
    assert.deepEqual([waits, waited], ["waits", "waited 0"]);
    assert.equal(ppid?.trim(), parent?.replace("parent ", ""));
  });

  test("a dump for which there is no room fails and leaves nothing open in the process", () => {
    const { status, stdout, stderr } = inNamespace(
      folder,
      `setsid python3 -c 'b = b"x" * (64 << 20); import time; print("ready", flush=True); time.sleep(1000)' < /dev/null > full.out 2>&1 & pid=$!
       says full.out ready; becomes python3; mkdir full; open() { echo $(ls /proc/$pid/fd); }; before=$(open)
       for when in never always; do
         unshare --mount bash -c "mount -t tmpfs -o size=4m t full && mkdir full/i && criu dump -t $pid -D full/i -o d.log --pre-copy $when"
         echo "$when $?"; [ "$(open)" = "$before" ] && echo same
       done
       state S; kill -KILL $pid`,
    );
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.deepEqual(stdout.trim().split("\n"), ["never 1", "same", "always 1", "same", "S"], stderr);
    assert.match(stderr, /ENOSPC/);
  });

  test("needs nothing beside itself", () => {
    assert.ok(existsSync(executable));
    const { stdout } = spawnSync("ldd", [executable], { encoding: "utf8" });
    assert.doesNotMatch(stdout, /not found/);
  });
});
