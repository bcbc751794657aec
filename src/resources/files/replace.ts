/**
 * Open files that can be made only when all threads and descriptors are there. Until then a stand-in has their place, an event counter.
 */
import { EFD_CLOEXEC, eventfd2 } from "../../linux/events.js";
import { FD_CLOEXEC, F_GETFD } from "../../linux/fcntl.js";
import { O_CLOEXEC } from "../../linux/files.js";
import { SYS } from "../../linux/syscalls.js";
import { handOver } from "../../target/hand-over.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import type { Fd, RestoreTask } from "../part.js";

export const standIn = (): Fd => eventfd2(0, EFD_CLOEXEC);

/** Puts a file of ours where its stand-in is. */
export function replaceStandIn(local: Fd, holders: readonly { readonly task: RestoreTask; readonly fd: number }[]): void {
  for (const { task, fd } of holders) {
    const { leader } = task.traced;
    const [there = -1] = handOver(leader, [local]);
    const ask = new Program();
    const flags = ask.call(SYS.fcntl, fd, F_GETFD, 0);
    run(leader, ask);
    const program = new Program();
    program.call(SYS.dup3, there, fd, (flags.checked & BigInt(FD_CLOEXEC)) === 0n ? 0 : O_CLOEXEC).must("putting a descriptor into place");
    program.call(SYS.close, there);
    run(leader, program);
    leader.closeOnDeath([]);
  }
}
