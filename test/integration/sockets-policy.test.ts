/** What the user decides about sockets: --tcp-policy, --map-ip; and what a restore says before it makes anything. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { compileWorkload } from "../harness/compile.js";
import { floeOfFile } from "../harness/tool.js";
import { casePatienceMs } from "../harness/patience.js";

const floe = floeOfFile();
const skip = process.getuid?.() !== 0 ? "needs root" : "missing" in floe ? floe.missing : false;

/** Runs `steps` in namespaces of its own; the machine has the addresses 10.77.0.1 to 3. */
async function run(steps: string): Promise<{ report: string; folder: string }> {
  if ("missing" in floe) throw new Error(floe.missing);
  const workload = await compileWorkload("sockets/policies");
  const folder = mkdtempSync(join(tmpdir(), "floe-policy-"));
  const script = `
    cd ${folder}; mkdir images
    until_line() { for i in $(seq 1200); do grep -q "$1" $2 && return; sleep 0.05; done; echo "no $1 in $2"; cat $2; exit 9; }
    floe() { ${floe.command.join(" ")} "$1" -D images -v4 "\${@:2}" || { cat images/*.log; exit 8; }; }
    # A restore that is refused.
    refused() { ${floe.command.join(" ")} restore -d -D images -o refused.log "$@"; echo "refused: $?"; }
    ip link set lo up; for i in 1 2 3; do ip addr add 10.77.0.$i/32 dev lo; done
    policies="${workload}"
    ${steps}`;
  writeFileSync(join(folder, "script"), script);
  const done = spawnSync("unshare", ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", join(folder, "script")], {
    encoding: "utf8",
    timeout: casePatienceMs,
  });
  return { report: `${done.stdout}${done.stderr}`, folder };
}

const meet = `
    $policies server 7420 </dev/null >server.out 2>&1 & S=$!; until_line listens server.out
    setsid $policies client 10.77.0.1 7420 </dev/null >client.out 2>&1 & C=$!
    until_line ready client.out; until_line ready server.out`;
const POLICY = "--tcp-policy close,7420=keep --tcp-policy 7422=reset";

for (const [name, steps] of Object.entries({
  "at the dump": `floe dump -t $C -o dump.log ${POLICY}; floe restore -d -o restore.log ${POLICY}`,
  "at the restore": `floe dump -t $C -o dump.log --tcp-established; floe restore -d -o restore.log ${POLICY}`,
})) {
  test(`tcp.tcp-close: a policy for each connection, ${name}`, { skip }, async () => {
    const { report, folder } = await run(`${meet}
      ${steps}
      kill -USR1 $C; until_line "PASS\\|FAIL" client.out; until_line "PASS\\|FAIL" server.out; cat server.out client.out`);
    assert.equal(report.match(/^PASS$/gm)?.length, 2, report);
    rmSync(folder, { recursive: true, force: true });
  });
}

test("tcp.established: connections inside the tree need no option, others are refused by name", { skip }, async () => {
  const { report, folder } = await run(`${meet}
    ${"missing" in floe ? "" : floe.command.join(" ")} dump -t $C -D images -o dump.log; echo "dump: $?"; grep -ao "(10.*\\[TCP_CONNECTED\\]\\|fd [0-9]*, the IPv4 TCP.*" images/dump.log
    kill -9 $S $C`);
  assert.match(report, /dump: 1/, report);
  const refused = report.match(/^fd \d+, the IPv4 TCP.*$/gm) ?? [];
  assert.equal(refused.length, 3, report);
  for (const port of [7420, 7421, 7422])
    assert.ok(
      refused.some((line) => line.includes(`10.77.0.1:${port})`)),
      report,
    );
  rmSync(folder, { recursive: true, force: true });
});

test("tcp.listen, sk.udp, tcp.established: everything at one address comes back at another", { skip }, async () => {
  const { report, folder } = await run(`
    setsid $policies moved 10.77.0.2 7430 10.77.0.3 </dev/null >moved.out 2>&1 & M=$!; until_line ready moved.out
    floe dump -t $M -o dump.log
    ip addr del 10.77.0.2/32 dev lo
    refused
    floe restore -d -o restore.log --map-ip 10.77.0.2=10.77.0.3
    kill -USR1 $M; until_line "PASS\\|FAIL" moved.out; cat moved.out`);
  assert.match(report, /^PASS$/m, report);
  // Every difference is named at once: the listening socket, both ends of the connection, both datagram sockets.
  assert.match(report, /^refused: 1$/m, report);
  assert.equal(report.match(/no interface has its address/g)?.length, 5, report);
  rmSync(folder, { recursive: true, force: true });
});

test("tcp.closed: a connection that is over comes back where its address is gone", { skip }, async () => {
  const { report, folder } = await run(`
    setsid $policies over 10.77.0.2 7460 127.0.0.1 </dev/null >over.out 2>&1 & O=$!; until_line ready over.out
    floe dump -t $O -o dump.log
    ip addr del 10.77.0.2/32 dev lo
    floe restore -d -o restore.log
    kill -USR1 $O; until_line "PASS\\|FAIL" over.out; cat over.out`);
  assert.match(report, /^PASS$/m, report);
  rmSync(folder, { recursive: true, force: true });
});

test("tcp.closed: one that waits (TIME-WAIT) comes back at another address", { skip }, async () => {
  const { report, folder } = await run(`
    setsid $policies over 10.77.0.2 7460 10.77.0.3 </dev/null >over.out 2>&1 & O=$!; until_line ready over.out
    grep -c " 06 " /proc/net/tcp; floe dump -t $O -o dump.log
    floe restore -d -o restore.log --map-ip 10.77.0.2=10.77.0.3
    kill -USR1 $O; until_line "PASS\\|FAIL" over.out; cat over.out`);
  assert.match(report, /^1$/m, `it does not wait: ${report}`);
  assert.match(report, /^PASS$/m, report);
  rmSync(folder, { recursive: true, force: true });
});

test("tcp.listen, tcp.syn-in-flight: connections that are not accepted are left out by --skip-in-flight", { skip }, async () => {
  const { report, folder } = await run(`
    setsid $policies skipped 7450 </dev/null >skipped.out 2>&1 & S=$!; until_line ready skipped.out
    floe dump -t $S -o dump.log --tcp-established --skip-in-flight
    floe restore -d -o restore.log --tcp-established
    kill -USR1 $S; until_line "PASS\\|FAIL" skipped.out; cat skipped.out`);
  assert.match(report, /^PASS$/m, report);
  rmSync(folder, { recursive: true, force: true });
});

test("tcp.established: IPv6, IPv4 within it, and an address of a link whose device has another number then", { skip }, async () => {
  const { report, folder } = await run(`
    device() { ip link add fv0 type veth peer name fv1; ip link set fv0 up; ip link set fv1 up; ip addr add fe80::77/64 dev fv0 nodad; }
    for i in 1 2; do ip addr add fd00::$i/128 dev lo nodad; done; device
    setsid $policies moved6 fv0 fd00::1 ::ffff:10.77.0.2 fd00::2 ::ffff:10.77.0.3 </dev/null >moved.out 2>&1 & M=$!; until_line ready moved.out
    floe dump -t $M -o dump.log
    ip addr del fd00::1/128 dev lo; ip addr del 10.77.0.2/32 dev lo; ip link del fv0; ip link add other type veth peer name one; device
    floe restore -d -o restore.log --map-ip fd00::1=fd00::2 --map-ip 10.77.0.2=10.77.0.3
    kill -USR1 $M; until_line "PASS\\|FAIL" moved.out; cat moved.out`);
  assert.match(report, /^PASS$/m, report);
  rmSync(folder, { recursive: true, force: true });
});

test("tcp.established: addresses, routes and devices are looked at before anything is made", { skip }, async () => {
  const { report, folder } = await run(`${meet}
    floe dump -t $C -o dump.log --tcp-established
    kill -9 $S; refused --tcp-established --map-ip 10.77.0.1=10.77.0.2
    ip addr flush dev lo; ip addr add 127.0.0.1/8 dev lo; refused --tcp-established`);
  assert.equal(report.match(/\[TCP_MOVED\]/g)?.length, 3, report);
  assert.match(report, /\[ADDRESS_UNAVAILABLE\]/, report);
  assert.match(report, /\[ROUTE_MISSING\]/, report);
  rmSync(folder, { recursive: true, force: true });
});

const COMMAND = "missing" in floe ? "" : floe.command.join(" ");

test("net.lock: without the program iptables its lock is refused by name", { skip }, async () => {
  const { report, folder } = await run(`${meet}
    CR_IPTABLES=/nowhere ${COMMAND} dump -t $C -D images -o dump.log --tcp-established --network-lock iptables; echo "dump: $?"; cat images/dump.log
    kill -9 $S $C`);
  assert.match(report, /^dump: 1$/m, report);
  assert.match(report, /Install iptables/, report);
  assert.match(report, /\[NETWORK_LOCK_FAILED\]/, report);
  rmSync(folder, { recursive: true, force: true });
});

const noIptables =
  skip !== false ? skip : spawnSync("iptables", ["--version"]).status === 0 ? false : "there is no iptables on this machine";

test("net.lock: by iptables where it is asked for; gone after a failure, a restore, and by floe unlock", { skip: noIptables }, async () => {
  const { report, folder } = await run(`${meet}
    rules() { iptables -w -S | grep -c "^-A floe-lock-.*DROP"; }
    dump() { ${COMMAND} dump -t $C -D images -o dump.log ${POLICY} --network-lock iptables; }
    floe_lock() { ${COMMAND.replace(/ criu$/, "")} lock images; }
    floe_unlock() { ${COMMAND.replace(/ criu$/, "")} unlock "$@"; }
    FLOE_FAULT=dump-written dump; echo "failed: $(rules)"
    FLOE_FAULT=kill:dump-written dump; echo "killed: $(rules)"
    floe_unlock >unlock.out; floe_unlock $(grep -o "[0-9a-f]\\{8\\}[.][0-9]*-[0-9a-f]\\{8\\}[.][0-9]*" unlock.out | head -1); echo "lifted: $(rules)"
    dump || cat images/dump.log; echo "locked: $(rules)"
    floe_unlock $(floe_unlock | cut -d" " -f1) && floe_lock && floe_lock; echo "as on another machine: $(rules)"
    floe restore -d -o restore.log ${POLICY}; echo "restored: $(rules)"; iptables -w -S | grep -c floe
    kill -USR1 $C; until_line "PASS\\|FAIL" client.out; until_line "PASS\\|FAIL" server.out; cat server.out client.out unlock.out`);
  assert.match(report, /^failed: 0$/m, report);
  assert.match(report, /^killed: 2$/m, report);
  assert.match(report, /^lifted: 0$/m, report);
  assert.match(report, /^locked: 2$/m, report);
  assert.match(report, /^1 lifted\n1 locked\n0 locked\nas on another machine: 2$/m, report);
  assert.match(report, /^restored: 0\n0$/m, report);
  assert.equal(report.match(/^PASS$/gm)?.length, 2, report);
  rmSync(folder, { recursive: true, force: true });
});
