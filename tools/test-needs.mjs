/** What the integration tests need of the machine: root, a compiler and a few programs, and the peer (CRIU). */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

import { fail, root, run, say } from "./setup.mjs";

/** Debian package, and how to see that what it brings is there. */
const needs = [
  { package: "gcc", there: () => hasCommand("gcc") },
  { package: "libc6-dev", there: () => existsSync("/usr/include/stdio.h") },
  { package: "make", there: () => hasCommand("make") },
  { package: "python3", there: () => hasCommand("python3") },
];

/** Programs that some tests freeze; those tests are skipped, and say so, where they are not there. */
const wishes = [
  { package: "iproute2", there: () => hasCommand("ip") },
  { package: "iptables", there: () => hasCommand("iptables") },
  { package: "openssl", there: () => hasCommand("openssl") },
  { package: "redis-server", there: () => hasCommand("redis-server") },
  { package: "dbus", there: () => hasCommand("dbus-daemon") },
  { package: "memcached", there: () => hasCommand("memcached") },
  { package: "inotify-tools", there: () => hasCommand("inotifywait") },
  { package: "less", there: () => hasCommand("less") },
  { package: "openssh-server", there: () => existsSync("/usr/sbin/sshd") },
  { package: "openssh-client", there: () => hasCommand("ssh") },
  { package: "nginx-light", there: () => hasCommand("nginx") },
];

function hasCommand(name) {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, name)));
}

const missingPackages = () => needs.filter((need) => !need.there()).map((need) => need.package);

/** `what` freezes processes, makes namespaces and chooses pids. */
export function requireRoot(what) {
  if (process.getuid() === 0) return;
  fail(`Cannot run the ${what} without root: use sudo. What needs no root: npm run ok`);
}

/** Installs missing Debian packages, or names them where that cannot be done. */
export function ensurePrograms() {
  let missing = missingPackages();
  if (missing.length > 0 && hasCommand("apt-get")) {
    say(`Installing with apt-get: ${missing.join(" ")}`);
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    run("apt-get", ["-qq", "update"], { env });
    run("apt-get", ["-qq", "-y", "install", "--no-install-recommends", ...missing], { env });
    missing = missingPackages();
  }
  installWishes();
  if (missing.length > 0) fail(`Cannot compile and run the test programs: install these (Debian's names): ${missing.join(" ")}`);
}

/** Services that come along are not started: the runlevel says that the machine is not up. */
function installWishes() {
  const missing = wishes.filter((wish) => !wish.there()).map((wish) => wish.package);
  if (missing.length === 0 || !hasCommand("apt-get")) return;
  say(`Installing with apt-get, for tests of real servers: ${missing.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  const options = { env, stdio: "ignore", timeout: 180_000 };
  const args = ["-qq", "-y", "install", "--no-install-recommends", ...missing];
  if (spawnSync("apt-get", args, options).status === 0) return;
  spawnSync("apt-get", ["-qq", "update"], options);
  if (spawnSync("apt-get", args, options).status !== 0) say(`They could not be installed; tests that need them are skipped`);
}

function peerInCache() {
  const cache = join(homedir(), ".cache", "peer-criu");
  const suites = existsSync(cache) ? readdirSync(cache) : [];
  return suites.map((suite) => join(cache, suite, "bin", "criu")).find((path) => existsSync(path));
}

function works(criu) {
  return existsSync(criu) && spawnSync(criu, ["--version"], { stdio: "ignore" }).status === 0;
}

/** Path of the peer, fetched when a script beside the project can do it; undefined when there is none. */
export function findPeer() {
  const given = process.env.FLOE_PEER_CRIU;
  if (given !== undefined) {
    if (!works(given)) fail(`FLOE_PEER_CRIU names ${given}, which does not answer --version`);
    return given;
  }
  const script = join(root, "..", "shared", "tools", "peer-criu");
  if (peerInCache() === undefined && existsSync(script)) {
    say("Fetching the peer (CRIU) with ../shared/tools/peer-criu");
    run(script, []);
  }
  const found = peerInCache();
  return found !== undefined && works(found) ? found : undefined;
}
