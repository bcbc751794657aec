/**
 * Event counters.
 *
 * Read from   fdinfo: eventfd-count, eventfd-semaphore
 * Made with   eventfd2(2), which takes 32 bits of the counter; write(2) for all 64
 */
import { writeSync } from "node:fs";
import { ImageError, Refusal } from "../../errors.js";
import { EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE, EVENTFD_MAX, eventfd2 } from "../../linux/events.js";
import { setStatusFlags } from "../../linux/fcntl.js";
import { eventfdInfo } from "../../linux/proc/fdinfo-kinds.js";
import type { FileKind } from "../part.js";
import type { EventfdFileEntry } from "./eventfd.schema.js";

export const eventfds: FileKind<EventfdFileEntry> = {
  name: "events/eventfd",
  rows: ["file.eventfd"],
  type: "EVENTFD",
  field: "efd",
  isPathless: true,
  matches: ({ link }) => link === "anon_inode:[eventfd]",
  dump(file, session) {
    const { count, semaphore } = eventfdInfo(file.info);
    if (count > EVENTFD_MAX) {
      session.refuse(
        new Refusal({
          code: "EVENTFD_OVERFLOWN",
          process: { pid: file.task.traced.pid, comm: file.task.comm },
          resource: `fd ${file.fd} (eventfd)`,
          because: "the kernel has overflown its counter, which no program can do",
          remedy: ["Let the program read the eventfd before the dump"],
        }),
      );
    }
    return { id: file.id, flags: file.info.flags, fown: file.fown, counter: count, ...(semaphore ? { semaphore } : {}) };
  },
  open(entry) {
    const fd = eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK | (entry.semaphore === true ? EFD_SEMAPHORE : 0));
    const count = Buffer.alloc(8);
    count.writeBigUInt64LE(entry.counter);
    writeSync(fd, count);
    setStatusFlags(fd, entry.flags);
    return fd;
  },
  check(entry) {
    if (entry.counter <= EVENTFD_MAX) return [];
    return [
      new ImageError({
        code: "IMAGE_BAD_VALUE",
        place: { file: "files.img", message: "eventfd_file_entry", field: "counter" },
        because: `no eventfd counts to ${entry.counter}`,
        remedy: ["Dump the process again"],
      }),
    ];
  },
};
