/** UNIX sockets: what is refused, by name and with the process unharmed, and what an administrator decides. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { compileWorkload } from "../harness/compile.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { floeOfFile } from "../harness/tool.js";
import { casePatienceMs } from "../harness/patience.js";

const skip = isRoot ? false : "needs root";
const MAGIC_BYTES = 8;

/** A dump that must fail with these codes, while the workload goes on to PASS. `hidden`: a file that the dumper does not see. */
async function refusedDump(
  workload: readonly [string, ...string[]],
  codes: readonly string[],
  options: readonly string[],
  hidden?: string,
): Promise<void> {
  const [name, ...args] = workload;
  await withSubject(Subject.withWorkload(name, args), async (subject) => {
    if (hidden !== undefined) await subject.must(["mount", "--bind", "/dev/null", hidden]);
    const { exit, text } = await subject.run(subject.dumpLine(options));
    if (hidden !== undefined) await subject.must(["umount", hidden]);
    assert.equal(exit.code, 1, text);
    for (const code of codes) assert.ok(text.includes(`[${code}]`), `${code} is not in: ${text}`);
    await subject.judge();
  });
}

describe("connections that are not accepted", { skip }, () => {
  test("unix.in-flight-connect: without a look at the kernel's memory they need a tree that ends, and descriptors are refused", () =>
    refusedDump(
      ["sockets/unix-unaccepted", "rights"],
      ["UNIX_CLIENT_GONE", "UNIX_DATA_UNACCEPTED", "UNIX_DESCRIPTORS_UNACCEPTED"],
      ["--leave-running"],
      "/sys/kernel/btf/vmlinux",
    ));

  test("unix.in-flight-connect: images of a tree that ran on have what clients had sent", () =>
    withSubject(Subject.withWorkload("sockets/unix-unaccepted"), async (subject) => {
      await subject.must(subject.dumpLine(["--leave-running"]));
      await subject.bringBack();
    }));

  test("unix.in-flight-connect: descriptors that were sent and that nobody else has are refused", () =>
    refusedDump(["sockets/unix-unaccepted", "lost"], ["UNIX_DESCRIPTORS_UNACCEPTED"], []));

  test("unix.in-flight-connect: a dumper that dies at the last moment has taken nothing", () =>
    withSubject(Subject.withWorkload("sockets/unix-unaccepted"), async (subject) => {
      assert.notEqual((await subject.run(subject.dumpLine([], { fault: "kill:dump-dying" }))).exit.code, 0);
      await subject.dump();
      await subject.restore();
      await subject.judge();
    }));

  test("unix.in-flight-connect: images that a killed dumper left incomplete are refused", () =>
    withSubject(Subject.withWorkload("sockets/unix-unaccepted"), async (subject) => {
      await subject.dump();
      const image = join(subject.images, "floe-unix-backlog.img");
      const whole = readFileSync(image);
      writeFileSync(image, whole.subarray(0, MAGIC_BYTES));
      const { exit, text } = await subject.run(subject.restoreLine());
      assert.equal(exit.code, 1, text);
      assert.match(text, /it has 0 of 6 connections.*\n(.*\n)*.*\[IMAGE_INCOMPLETE\]/);
      writeFileSync(image, whole);
      await subject.restore();
      await subject.judge();
    }));
});

describe("looking into queues", { skip }, () => {
  test("unix.shutdown: messages behind an error are not looked at in a tree that runs on, but in the kernel's memory", () =>
    refusedDump(["sockets/unix-ends", "error"], ["UNIX_ERROR_PENDING"], ["--leave-running"], "/sys/kernel/btf/vmlinux"));

  for (const point of ["dump-peeking", "dump-peeking-in-flight"])
    test(`unix.scm-rights: a dumper that dies there (${point}) leaves no offset of its own`, () =>
      withSubject(Subject.withWorkload("sockets/unix-carriers"), async (subject) => {
        assert.notEqual((await subject.run(subject.dumpLine([], { fault: `kill:${point}` }))).exit.code, 0);
        await subject.dump();
        await subject.restore();
        await subject.judge();
      }));
});

const floe = floeOfFile();

/** Runs `steps` in namespaces of its own, with $outside and $orphan the programs. */
async function script(steps: string): Promise<string> {
  if ("missing" in floe) throw new Error(floe.missing);
  const [program, orphan] = await Promise.all(["sockets/unix-outside", "sockets/unix-orphan"].map(compileWorkload));
  const folder = mkdtempSync(join(tmpdir(), "floe-unix-"));
  const text = `
    cd ${folder}; mkdir images
    until_line() { for i in $(seq 1200); do grep -q "$1" $2 && return; sleep 0.05; done; echo "no $1 in $2"; cat $2; exit 9; }
    floe() { ${floe.command.join(" ")} "$1" -D images -v4 "\${@:2}" || { cat images/*.log; exit 8; }; }
    refused() { ${floe.command.join(" ")} "$1" -D images -o refused.log "\${@:2}"; echo "refused: $?"; }
    outside="${program}"; orphan="${orphan}"; programs=${join(import.meta.dirname, "../programs")}
    ${steps}`;
  writeFileSync(join(folder, "script"), text);
  const done = spawnSync("unshare", ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", join(folder, "script")], {
    encoding: "utf8",
    timeout: casePatienceMs,
  });
  rmSync(folder, { recursive: true, force: true });
  return `${done.stdout}${done.stderr}`;
}

test("unix.external: peers outside are connected again by name, closed, or missed, as the user says", { skip }, async () => {
  const report = await script(`
    $outside server $PWD </dev/null >server.out 2>&1 & S=$!; until_line ready server.out
    setsid $outside client $PWD </dev/null >client.out 2>&1 & C=$!; until_line ready client.out
    set -- $(sed -n 's/accepted //p' server.out); echo "server $S"
    refused dump -t $C
    floe dump -t $C -o dump.log --external "unix[$1]" --external "unix[$2]:close" -x
    kill $S; wait $S
    refused restore -d
    $outside server $PWD </dev/null >server.out 2>&1 & S=$!; until_line ready server.out
    floe restore -d -o restore.log
    kill -USR1 $C; until_line "PASS\\|FAIL" client.out; cat client.out; until_line "datagram by name" server.out; echo heard
    kill $S`);
  assert.match(report, /^PASS$/m, report);
  assert.match(report, /^heard$/m, report);
  assert.equal(report.match(/\[UNIX_PEER_OUTSIDE\]/g)?.length, 3, report);
  const [, server] = /^server (\d+)$/m.exec(report) ?? [];
  assert.match(report, new RegExp(`outside the tree; that one is open in process ${server} \\(`), report);
  assert.equal(report.match(/\[UNIX_PEER_MISSING\]/g)?.length, 2, report);
});

test("unix.peercred: where the number of a dead maker is somebody else's now, the peer is one that is gone, and all else stays", {
  skip,
}, async () => {
  const report = await script(`
    $orphan </dev/null >out 2>&1; until_line ready out
    set -- $(sed -n 's/ready //p' out)
    floe dump -t $1 -o dump.log
    echo $(($2 - 1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 & O=$!; echo 300 >/proc/sys/kernel/ns_last_pid
    echo "taken: $(($O - $2))"
    floe restore -d -o restore.log; grep -ao "connected by process.*" images/restore.log
    kill -USR1 $1; until_line "PASS\\|FAIL" out; cat out; kill $O`);
  assert.match(report, /^taken: 0$/m, report);
  assert.match(report, /connected by process \d+, which is not of the tree, and its number is in use/, report);
  const [, maker] = /^ready \d+ (\d+)$/m.exec(report) ?? [];
  const [, peer] = /^peer (\d+) user 0$/m.exec(report) ?? [];
  assert.ok(peer !== undefined && peer !== maker, report);
  assert.match(report, /^PASS$/m, report);
});

const BUS = `<busconfig><type>session</type><listen>unix:path=FOLDER/bus</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`;
const canBus = ["dbus-daemon", "dbus-send", "python3"].every((program) => spawnSync("which", [program]).status === 0);
const noBus = skip !== false ? skip : canBus ? false : "needs dbus-daemon (dbus) and python3";

test("unix.peercred, unix.stream-named: a D-Bus daemon and a client that checks every answer go on", { skip: noBus }, async () => {
  const report = await script(`
    sed "s|FOLDER|$PWD|" >bus.conf <<'END'
${BUS}
END
    setsid bash -c 'dbus-daemon --config-file=bus.conf --nofork 2>bus.log & until [ -S bus ]; do sleep 0.05; done
      python3 '$programs'/bus.py $PWD/bus & wait %2; echo "client: $?"; kill %1; wait' </dev/null >out 2>&1 & T=$!
    until_line ready out
    for round in 1 2; do
      floe dump -t $T -o dump.log
      floe restore -d -o restore.log
    done
    dbus-send --bus=unix:path=$PWD/bus --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetId | grep -c string
    kill $(pgrep -x python3); until_line "client: " out; cat out`);
  assert.match(report, /^1$/m, report);
  assert.match(report, /^PASS \d+$/m, report);
  assert.match(report, /^client: 0$/m, report);
});
