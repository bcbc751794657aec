/**
 * What every tool needs before it can start: the packages of package-lock.json, and a way to run a command.
 *
 * Uses node: built-ins only, so that it works on a fresh clone.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Says something to the person at the terminal. */
export function say(text) {
  process.stdout.write(`${text}\n`);
}

/** Ends the tool with a message and exit code 1. */
export function fail(text) {
  process.stderr.write(`${text}\n`);
  process.exit(1);
}

function readLock(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).packages : undefined;
}

/** Packages for other machines are optional and rightly absent; all others must be there in the version locked. */
function packagesMatch() {
  const wanted = readLock(join(root, "package-lock.json"));
  const installed = readLock(join(root, "node_modules", ".package-lock.json"));
  if (installed === undefined) return false;
  return Object.entries(wanted).every(([path, { version, optional, peer }]) => {
    if (path === "" || optional || peer) return true;
    return installed[path]?.version === version && existsSync(join(root, path, "package.json"));
  });
}

/**
 * Installs what package-lock.json names when node_modules is missing or holds other versions.
 *
 * Not by `npm ci`, which wants every optional package of every platform in the lock file, and so fails with a lock file that
 * was made with a registry that offers only some of them. Versions and checksums are the lock file's here too, and checked.
 */
export function ensurePackages() {
  if (packagesMatch()) return;
  say("Installing packages: npm install --no-save");
  const args = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
  const result = spawnSync("npm", args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (result.status !== 0) fail("Cannot install packages: npm install failed (is the package registry reachable?)");
  if (!packagesMatch()) fail("Cannot install packages: node_modules is not what package-lock.json says; remove it and try again");
}

/** Runs a command in the root of the project with our output; returns its exit code. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], ...options });
  if (result.error !== undefined) process.stderr.write(`Cannot run ${command}: ${result.error.message}\n`);
  return result.status ?? 1;
}

/** Path of a command that a package brings. */
export function packageCommand(name) {
  return join(root, "node_modules", ".bin", name);
}
