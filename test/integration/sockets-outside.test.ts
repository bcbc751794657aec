/** A server is frozen and thawed under load while its client, outside the dump, notices a pause and nothing else. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { compileWorkload } from "../harness/compile.js";
import { findTool } from "../harness/tool.js";

const floe = findTool("floe");
const skip = process.getuid?.() !== 0 ? "needs root" : "missing" in floe ? floe.missing : false;

/** Runs `steps` in namespaces of its own, with the server (pid $S) and the client (pid $C) under load. */
async function underLoad(steps: string): Promise<{ report: string; status: number | null; folder: string }> {
  if ("missing" in floe) throw new Error(floe.missing);
  const [server, client] = await Promise.all([compileWorkload("sockets/echo"), compileWorkload("sockets/asker")]);
  const folder = mkdtempSync(join(tmpdir(), "floe-outside-"));
  const script = `
    cd ${folder}; mkdir images
    until_line() { for i in $(seq 200); do grep -q "$1" $2 && return; sleep 0.05; done; echo "no $1 in $2"; exit 9; }
    floe() { ${floe.command.join(" ")} "$@" -D images -v4 --tcp-established || { cat images/*.log; exit 8; }; }
    setsid ${server} 7400 </dev/null >server.out 2>&1 & S=$!
    until_line ready server.out
    ${client} 7400 </dev/null >client.out 2>&1 & C=$!
    until_line ready client.out
    ${steps}
    sleep 0.3
    kill -TERM $C; wait $C; echo "client: $?"; cat client.out server.out
    kill -9 $S`;
  writeFileSync(join(folder, "script"), script);
  const run = spawnSync("unshare", ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", join(folder, "script")], {
    encoding: "utf8",
    timeout: 60_000,
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
