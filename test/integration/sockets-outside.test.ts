/** A server is frozen and thawed under load while its client, outside the dump, notices a pause and nothing else. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { compileWorkload } from "../harness/compile.js";
import { floeOfFile } from "../harness/tool.js";
import { casePatienceMs } from "../harness/patience.js";

const floe = floeOfFile();
const skip = process.getuid?.() !== 0 ? "needs root" : "missing" in floe ? floe.missing : false;

/** Runs `steps` in namespaces of its own, with the server (pid $S) and the client (pid $C) under load. */
async function underLoad(steps: string): Promise<{ report: string; status: number | null; folder: string }> {
  if ("missing" in floe) throw new Error(floe.missing);
  const [server, client] = await Promise.all([compileWorkload("sockets/echo"), compileWorkload("sockets/asker")]);
  const folder = mkdtempSync(join(tmpdir(), "floe-outside-"));
  const script = `
    cd ${folder}; mkdir images
    until_line() { for i in $(seq 1200); do grep -q "$1" $2 && return; sleep 0.05; done; echo "no $1 in $2"; exit 9; }
    floe() { ${floe.command.join(" ")} "$@" -D images -v4 --tcp-established || { cat images/*.log; exit 8; }; }
    setsid ${server} 7400 </dev/null >server.out 2>&1 & S=$!
    until_line ready server.out
    ${client} 7400 </dev/null >client.out 2>&1 & C=$!
    until_line ready client.out
    own() { ${floe.command.slice(0, -1).join(" ")} "$@"; }
    dies_at() { FLOE_FAULT=kill:$1 ${floe.command.join(" ")} dump -t $S -D images --tcp-established -o dump.log; echo "died at $1: $?"; }
    ${steps}
    sleep 0.3
    kill -TERM $C; wait $C; echo "client: $?"; cat client.out server.out
    kill -9 $S`;
  writeFileSync(join(folder, "script"), script);
  const run = spawnSync("unshare", ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", join(folder, "script")], {
    encoding: "utf8",
    timeout: casePatienceMs,
  });
  return { report: `${run.stdout}${run.stderr}`, status: run.status, folder };
}

const ways = {
  "left running": "floe dump -t $S --leave-running -o dump.log",
  "killed and restored": "floe dump -t $S -o dump.log; sleep 1; floe restore -d -o restore.log",
};
for (const [name, steps] of Object.entries(ways)) {
  test(`tcp.established, net.lock: a client outside loses no byte, ${name}`, { skip }, async () => {
    const { report, folder } = await underLoad(steps);
    assert.match(report, /client: 0/, report);
    assert.match(readFileSync(join(folder, "client.out"), "utf8"), /PASS/);
    rmSync(folder, { recursive: true, force: true });
  });
}

test("net.lock: none with --network-lock skip, for who silences the connection himself", { skip }, async () => {
  // What is for the server goes nowhere by a rule that comes before that of the machine's own addresses.
  const { report, folder } = await underLoad(`
    ip link set lo up; ip rule add pref 100 lookup local; ip rule del pref 0; ip rule add pref 10 ipproto tcp dport 7400 blackhole
    floe dump -t $S -o dump.log --network-lock skip; own unlock
    floe restore -d -o restore.log --network-lock skip; own unlock
    ip rule del pref 10`);
  assert.match(report, /^No connection is locked\.\nNo connection is locked\.$/m, report);
  assert.match(report, /client: 0/, report);
  rmSync(folder, { recursive: true, force: true });
});

test("net.lock: a dumper that dies leaves no lock; one that is left all the same is found and lifted", { skip }, async () => {
  const { report, folder } = await underLoad(`
    dies_at dump-files; own unlock
    dies_at dump-dying; own unlock; own unlock stale; own unlock
    floe dump -t $S -o dump.log; own unlock; own unlock 7f000001.1-7f000001.2
    floe restore -d -o restore.log; own unlock`);
  assert.match(report, /died at dump-files: 137\nNo connection is locked\.\n/, report);
  const id = "7f000001\\.7400-7f000001\\.\\d+ +127\\.0\\.0\\.1:7400 - 127\\.0\\.0\\.1:\\d+";
  assert.match(
    report,
    new RegExp(`died at dump-dying: 137\n${id} +stale.*\n1 lifted\nNo connection is locked\\.\n${id} +waits for the restore\n`),
    report,
  );
  assert.match(report, /waits for the restore\nNo connection is locked\./, report);
  assert.match(report, /LOCK_UNKNOWN/, report);
  assert.match(report, /client: 0/, report);
  rmSync(folder, { recursive: true, force: true });
});

/** Two machines: network namespaces with a cable between them. The client is on one, the server on the other. */
async function onTwoHosts(steps: string): Promise<{ report: string; folder: string }> {
  if ("missing" in floe) throw new Error(floe.missing);
  const [server, client, halves] = await Promise.all(
    ["sockets/echo", "sockets/asker", "sockets/halves"].map((name) => compileWorkload(name)),
  );
  const folder = mkdtempSync(join(tmpdir(), "floe-hosts-"));
  const script = `
    cd ${folder}; mkdir images
    until_line() { for i in $(seq 1200); do grep -q "$1" $2 && return; sleep 0.05; done; echo "no $1 in $2"; cat $2; exit 9; }
    # Every host is a process that holds a network namespace, beside the one we are in.
    host() { unshare --net sleep 600 & eval "$1=$!"; until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done; }
    on() { local holder=$1; shift; nsenter --net=/proc/$holder/ns/net "$@"; }
    floe() { on $1 ${floe.command.join(" ")} $2 -D images -v4 \${@:3} || { cat images/*.log; exit 8; }; }
    own() { on $1 ${floe.command.slice(0, -1).join(" ")} "\${@:2}"; }
    host A; host B; host SWITCH
    cable() { # host, name of its end in the switch, address
      on $1 ip link add eth0 type veth peer name $2; on $1 ip link set dev $2 netns $SWITCH; on $SWITCH ip link set dev $2 master br0; on $SWITCH ip link set dev $2 up
      on $1 ip addr add $3/24 dev eth0; on $1 ip link set eth0 up; on $1 ip link set lo up; }
    on $SWITCH ip link add br0 type bridge; on $SWITCH ip link set br0 up
    cable $A a 10.77.0.1; cable $B b 10.77.0.2
    server="${server}"; client="${client}"; halves="${halves}"
    ${steps}
    for p in $A $B $SWITCH $C3; do kill $p; done`;
  writeFileSync(join(folder, "script"), script);
  const run = spawnSync("unshare", ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", join(folder, "script")], {
    encoding: "utf8",
    timeout: casePatienceMs,
  });
  return { report: `${run.stdout}${run.stderr}`, folder };
}

const canHaveCables = spawnSync("unshare", ["--net", "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "b"]).status === 0;
const noCables = skip !== false ? skip : canHaveCables ? false : "the kernel has no veth, or there is no ip (iproute2)";

const halvesMeet = `
    nsenter --net=/proc/$B/ns/net setsid $halves server 7410 10.77.0.2 </dev/null >server.out 2>&1 & S=$!; until_line listens server.out
    nsenter --net=/proc/$A/ns/net $halves client 7410 10.77.0.2 </dev/null >client.out 2>&1 & C=$!
    until_line ready client.out; until_line ready server.out`;

test("tcp.established, net.lock: a server stands still under load on one machine, and moves to another", { skip: noCables }, async () => {
  const { report, folder } = await onTwoHosts(`
    export FLOE_ADDRESS=10.77.0.2
    nsenter --net=/proc/$B/ns/net setsid $server 7410 </dev/null >server.out 2>&1 & S=$!; until_line ready server.out
    nsenter --net=/proc/$A/ns/net $client 7410 </dev/null >client.out 2>&1 & C=$!; until_line ready client.out
    # The same machine, after a while.
    floe $B dump -t $S --tcp-established -o dump.log
    sleep 5
    floe $B restore -d --tcp-established -o restore.log
    sleep 0.5
    floe $B dump -t $S --tcp-established -o dump.log
    on $B ip link set eth0 down; on $B ip addr del 10.77.0.2/24 dev eth0
    # The kernel of a third one would answer what the client sends again by a reset: the connection is held back there before the address comes.
    host C3; own $C3 lock images; own $C3 lock images; cable $C3 c 10.77.0.2
    on $A ip neigh flush all
    sleep 1; own $C3 unlock
    floe $C3 restore -d --tcp-established -o restore.log; own $C3 unlock
    sleep 1
    kill -TERM $C; wait $C; echo "client: $?"; cat client.out server.out
    kill -9 $S`);
  assert.match(report, /^1 locked\n0 locked\n0a4d0002\.7410-0a4d0001\.\d+ .*waits for the restore\nNo connection is locked\.$/m, report);
  assert.match(report, /client: 0/, report);
  assert.match(report, /PASS/, report);
  rmSync(folder, { recursive: true, force: true });
});

test("tcp.half-closed: what a client outside has closed, and what it has not, goes on on another machine", { skip: noCables }, async () => {
  const { report, folder } = await onTwoHosts(`${halvesMeet}
    floe $B dump -t $S --tcp-established -o dump.log
    sleep 1
    # A third machine takes the address over.
    on $B ip link set eth0 down; on $B ip addr del 10.77.0.2/24 dev eth0
    host C3; cable $C3 c 10.77.0.2
    on $A ip neigh flush all
    floe $C3 restore -d --tcp-established -o restore.log
    kill -USR1 $S $C
    until_line "PASS\\|FAIL" server.out; until_line "PASS\\|FAIL" client.out; cat server.out client.out`);
  assert.equal(report.match(/PASS/g)?.length, 2, report);
  rmSync(folder, { recursive: true, force: true });
});

test("tcp.tcp-close: connections come back closed, the server listens again", { skip: noCables }, async () => {
  const { report, folder } = await onTwoHosts(`${halvesMeet}
    floe $B dump -t $S --tcp-close -o dump.log
    floe $B restore -d --tcp-close -o restore.log
    on $A bash -c 'exec 3<>/dev/tcp/10.77.0.2/7410 && echo connected'
    kill -9 $S $C`);
  assert.match(report, /^connected$/m, report);
  rmSync(folder, { recursive: true, force: true });
});
