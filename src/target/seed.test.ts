import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

/** Starts a seed that nobody traces, tells its pid, and is killed. */
const PARENT = `
  const { startIdle } = await import(process.env.SEED_MODULE);
  const pid = startIdle({ region: 0x10000000n, regionBytes: 65536 });
  process.stdout.write(String(pid) + "\\n", () => process.kill(process.pid, "SIGKILL"));
`;

/** Gone, or dead and waiting for somebody who takes note of it. */
function hasEnded(pid: number): boolean {
  if (!existsSync(`/proc/${pid}`)) return true;
  try {
    return /\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return true;
  }
}

test("a seed that is not traced yet ends when we are killed", async () => {
  const parent = spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", PARENT], {
    encoding: "utf8",
    env: { ...process.env, SEED_MODULE: new URL("./seed.ts", import.meta.url).pathname },
  });
  assert.equal(parent.signal, "SIGKILL", parent.stderr);
  const pid = Number(parent.stdout);
  assert.ok(pid > 0, parent.stdout);
  for (const end = Date.now() + 60_000; !hasEnded(pid); await sleep(10)) assert.ok(Date.now() < end, `process ${pid} goes on`);
});
