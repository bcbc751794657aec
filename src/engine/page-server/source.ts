/**
 * The source of a lazy migration: processes stand still and their memory is served, until the destination has all of it.
 *
 * A connection that breaks costs nothing: the processes go on standing still, and the next connection goes on. They die only
 * when everything has been fetched, or the destination says that nothing is missing. If it says that it has done and pages are
 * left over, nobody can know whether it runs: then they are left stopped, for somebody to decide.
 */
import { UsageError } from "../../errors.js";
import type { PageRange } from "../../resources/memory/page-runs.js";
import { difference } from "../../resources/memory/page-ranges.js";
import type { Logger } from "../log.js";
import { type Listening, acceptFrom, stopListening } from "./address.js";
import { PageConnection } from "./connection.js";
import { type LeftMemory, MemoryStore, givePages } from "./give.js";
import type { PeerAddress } from "./options.js";
import { secured } from "./tls.js";

export interface LazySource {
  readonly from: Listening | number;
  readonly peer: PeerAddress;
  /** Called when the destination may come. */
  onReady(): void;
}

/** Serves memory; returns when the processes are not needed any more. Throws LAZY_SOURCE_KEPT when nobody can tell. */
export function serveMemory(source: LazySource, left: readonly LeftMemory[], log: Logger): void {
  const store = new MemoryStore(left);
  const missing = new Map(left.map(({ pid, ranges }) => [pid, ranges]));
  const given = (pid: number, range: PageRange) => missing.set(pid, difference(missing.get(pid) ?? [], [range]));
  const isFetched = () => [...missing.values()].every((ranges) => ranges.length === 0);
  source.onReady();
  try {
    for (;;) {
      const end = serveOne(source, store, { log, given });
      if (isFetched() || end.isEverything) return;
      if (end.isClosed) throw kept(missing);
      if (typeof source.from === "number") throw kept(missing);
      log.warn("the connection broke before all memory was fetched: waiting for another");
    }
  } finally {
    store.close();
    if (typeof source.from !== "number") stopListening(source.from);
  }
}

const BROKEN = { isClosed: false, isEverything: false };

function serveOne(
  { from, peer }: LazySource,
  store: MemoryStore,
  tools: { log: Logger; given: (pid: number, range: PageRange) => void },
): { isClosed: boolean; isEverything: boolean } {
  let connection: PageConnection | undefined;
  try {
    const fd = typeof from === "number" ? from : acceptFrom(from, { timeoutMs: -1 });
    connection = new PageConnection(
      peer.tls === undefined ? fd : secured(fd, { role: "server", tls: peer.tls, name: undefined }),
      "the destination",
    );
    tools.log.info("the destination has connected");
    return givePages(connection, store, tools);
  } catch (error) {
    // Whatever goes wrong with one connection, the processes are still here.
    if (!(error instanceof UsageError)) throw error;
    tools.log.warn(error.message);
    return BROKEN;
  } finally {
    connection?.close();
  }
}

function kept(missing: ReadonlyMap<number, readonly PageRange[]>): UsageError {
  const pids = [...missing].filter(([, ranges]) => ranges.length > 0).map(([pid]) => pid);
  return new UsageError({
    code: "LAZY_SOURCE_KEPT",
    message:
      `The destination is gone and did not fetch all memory of ${pids.length === 1 ? "process" : "processes"} ${pids.join(", ")}: ` +
      "all processes are left stopped, because they may run there",
    remedy: ["If they run there, end them here: kill -9 PID", "If they do not, let them go on here: kill -CONT PID"],
  });
}
