/**
 * iptables(8) as a program: rules that drop every segment of one TCP connection, and their removal.
 *
 * The rules stand in two chains of Floe's own, which go with the last of them. CR_IPTABLES and CR_IP6TABLES name other programs.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { parseIpAddress } from "./ip-text.js";
import type { TcpEnd } from "./nft-sets.js";
import { FAMILY, tablesNamed } from "./nftables.js";

const CHAINS = { out: "floe-lock-out", in: "floe-lock-in" } as const;
const HOOKS = { out: "OUTPUT", in: "INPUT" } as const;
type Direction = keyof typeof CHAINS;
const DIRECTIONS: readonly Direction[] = ["out", "in"];
const TIMEOUT_MS = 10_000;

/** A program that is not there, or that failed. */
export class IptablesError extends Error {
  readonly isMissing: boolean;
  constructor(message: string, isMissing: boolean) {
    super(message);
    this.name = "IptablesError";
    this.isMissing = isMissing;
  }
}

type Version = 4 | 6;
const versionOf = ({ address }: TcpEnd): Version => (address.length === 4 ? 4 : 6);
const programOf = (version: Version) =>
  version === 4 ? (process.env["CR_IPTABLES"] ?? "iptables") : (process.env["CR_IP6TABLES"] ?? "ip6tables");

function call(version: Version, ...words: readonly string[]): { isDone: boolean; output: string } {
  const program = programOf(version);
  const done = spawnSync(program, ["-w", ...words], { encoding: "utf8", timeout: TIMEOUT_MS, stdio: ["ignore", "pipe", "pipe"] });
  if (done.error !== undefined)
    throw new IptablesError(`${program}: ${done.error.message}`, (done.error as NodeJS.ErrnoException).code === "ENOENT");
  return { isDone: done.status === 0, output: done.status === 0 ? done.stdout : done.stderr };
}

function must(version: Version, ...words: readonly string[]): void {
  const { isDone, output } = call(version, ...words);
  if (!isDone) throw new IptablesError(`${programOf(version)} ${words.join(" ")}: ${output.trim()}`, false);
}

/** An address as iptables takes it: without brackets. */
function text({ address }: TcpEnd): string {
  if (address.length === 4) return address.join(".");
  return address.toString("hex").replace(/(....)(?=.)/g, "$1:");
}

function rule(from: TcpEnd, to: TcpEnd): string[] {
  return ["-s", text(from), "-d", text(to), "-p", "tcp", "--sport", String(from.port), "--dport", String(to.port), "-j", "DROP"];
}

const ruleFor = (direction: Direction, { here, there }: { here: TcpEnd; there: TcpEnd }) =>
  direction === "out" ? rule(here, there) : rule(there, here);

/** Holds back every segment between the two ends. */
export function dropSegments(ends: { here: TcpEnd; there: TcpEnd }): void {
  const version = versionOf(ends.here);
  for (const direction of DIRECTIONS) {
    const [chain, hook] = [CHAINS[direction], HOOKS[direction]];
    call(version, "-N", chain); // It may be there.
    if (!call(version, "-C", hook, "-j", chain).isDone) must(version, "-I", hook, "1", "-j", chain);
    must(version, "-A", chain, ...ruleFor(direction, ends));
  }
}

/** Takes the rules of a connection away, and the chains when they are empty; false: there are none. */
export function allowSegments(ends: { here: TcpEnd; there: TcpEnd }): boolean {
  const version = versionOf(ends.here);
  let found = false;
  for (const direction of DIRECTIONS) {
    const [chain, hook] = [CHAINS[direction], HOOKS[direction]];
    if (call(version, "-D", chain, ...ruleFor(direction, ends)).isDone) found = true;
    const { isDone, output } = call(version, "-S", chain);
    if (!isDone || output.includes("-A ")) continue;
    call(version, "-D", hook, "-j", chain);
    call(version, "-X", chain);
  }
  return found;
}

const RULE = /^-A \S+ -s (\S+)\/\d+ -d (\S+)\/\d+ -p tcp -m tcp --sport (\d+) --dport (\d+) -j DROP$/;

/** Connections whose segments are held back. None where there is no such program. */
export function droppedConnections(): { here: TcpEnd; there: TcpEnd }[] {
  return ([4, 6] as const).filter(mayHaveRules).flatMap((version) => listed(version).flatMap((line) => parseRule(line)));
}

/** Whether somebody uses iptables here, in either of its kinds: to start it takes some milliseconds, which a frozen tree may wait for. */
function mayHaveRules(version: Version): boolean {
  try {
    if (readFileSync(version === 4 ? "/proc/net/ip_tables_names" : "/proc/net/ip6_tables_names", "latin1") !== "") return true;
  } catch {
    // The older kind is not there.
  }
  try {
    return tablesNamed(/^filter$/, version === 4 ? FAMILY.ipv4 : FAMILY.ipv6).length > 0;
  } catch {
    return true; // nobody can say: the program can
  }
}

function listed(version: Version): string[] {
  try {
    const { isDone, output } = call(version, "-S", CHAINS.out);
    return isDone ? output.split("\n") : [];
  } catch (error) {
    if (error instanceof IptablesError) return [];
    throw error;
  }
}

export function parseRule(line: string): { here: TcpEnd; there: TcpEnd }[] {
  const [, from = "", to = "", fromPort, toPort] = RULE.exec(line) ?? [];
  const [here, there] = [parseIpAddress(from), parseIpAddress(to)];
  if (here === undefined || there === undefined) return [];
  return [{ here: { address: here, port: Number(fromPort) }, there: { address: there, port: Number(toPort) } }];
}
