/** What the user decides about sockets: --tcp-policy, --map-ip; and what a restore says before it makes anything. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { compileWorkload } from "../harness/compile.js";
import { findTool } from "../harness/tool.js";

const floe = findTool("floe");
const skip = process.getuid?.() !== 0 ? "needs root" : "missing" in floe ? floe.missing : false;

/** Runs `steps` in namespaces of its own; the machine has the addresses 10.77.0.1 to 3. */
async function run(steps: string): Promise<{ report: string; folder: string }> {
  if ("missing" in floe) throw new Error(floe.missing);
  const workload = await compileWorkload("sockets/policies");
  const folder = mkdtempSync(join(tmpdir(), "floe-policy-"));
  const script = `
    cd ${folder}; mkdir images
    until_line() { for i in $(seq 200); do grep -q "$1" $2 && return; sleep 0.05; done; echo "no $1 in $2"; cat $2; exit 9; }
    floe() { ${floe.command.join(" ")} "$1" -D images -v4 "\${@:2}" || { cat images/*.log; exit 8; }; }
    # A restore that is refused.
    refused() { ${floe.command.join(" ")} restore -d -D images -o refused.log "$@"; echo "refused: $?"; }
    ip link set lo up; for i in 1 2 3; do ip addr add 10.77.0.$i/32 dev lo; done
    policies="${workload}"
    ${steps}`;
  writeFileSync(join(folder, "script"), script);
  const done = spawnSync("unshare", ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", join(folder, "script")], {
    encoding: "utf8",
    timeout: 60_000,
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
