/**
 * `npm run demo`: a Python program that counts is frozen into files, is gone, and comes back to count on. Needs root.
 */
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { ensurePackages, fail, root, run, say } from "./setup.mjs";
import { ensurePrograms, requireRoot } from "./test-needs.mjs";

ensurePackages();
requireRoot("demo");
ensurePrograms();
if (run(process.execPath, ["tools/build.mjs"]) !== 0) fail("The build failed");

const floe = join(root, "dist", "floe.js");
const folder = mkdtempSync(join(tmpdir(), "floe-demo-"));
const images = join(folder, "images");
const output = join(folder, "counted");
const isThere = (pid) => existsSync(`/proc/${pid}`);
const lastCount = () => Number(readFileSync(output, "utf8").trimEnd().split("\n").at(-1));

function call(...args) {
  say(`\n$ floe ${args.join(" ")}`);
  const result = spawnSync(process.execPath, [floe, ...args], { cwd: folder, encoding: "utf8" });
  process.stdout.write(result.stdout + result.stderr);
  if (result.status !== 0) throw new Error(`floe ${args[0]} exited with ${result.status}`);
}

async function until(isSo, what) {
  for (let tries = 0; tries < 500; tries++) {
    if (isSo()) return;
    await pause(20);
  }
  throw new Error(`${what}: not within 10 s`);
}

function startCounter() {
  const out = openSync(output, "a");
  const script = "import time\nn = 0\nwhile True:\n  n += 1\n  print(n, flush=True)\n  time.sleep(0.1)";
  // Detached: the leader of a session of its own, with no terminal.
  const child = spawn("python3", ["-c", script], {
    cwd: folder,
    detached: true,
    stdio: ["ignore", out, out],
    env: { PATH: process.env.PATH },
  });
  closeSync(out);
  return child.pid;
}

async function show(pid) {
  await until(() => existsSync(output) && lastCount() >= 10, "Counting");
  say(`\nProcess ${pid}, a Python program, has counted to ${lastCount()}.`);
  call("dump", String(pid), "-o", images);
  await until(() => !isThere(pid), `The end of process ${pid}`);
  const stopped = lastCount();
  const bytes = readdirSync(images).reduce((sum, name) => sum + statSync(join(images, name)).size, 0);
  say(`It is gone, at ${stopped}. Its images are ${Math.round(bytes / 1024)} KiB.`);
  await pause(1000);
  call("restore", images, "-d");
  await until(() => lastCount() >= stopped + 10, "Counting on");
  const counts = readFileSync(output, "utf8").trimEnd().split("\n").map(Number);
  const isWhole = counts.every((count, index) => count === index + 1);
  say(`\nProcess ${pid} is back and has counted to ${counts.at(-1)}; every number from 1 on is there ${isWhole ? "once" : "- NOT"}.`);
  if (!isWhole) throw new Error("Numbers are missing or twice");
}

const pid = startCounter();
try {
  await show(pid);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
} finally {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It is gone already.
  }
  rmSync(folder, { recursive: true, force: true });
}
