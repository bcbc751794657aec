/**
 * Descriptors to read signals from. They have no state but the mask: what they return is pending in the reader.
 *
 * Read from   fdinfo: sigmask
 * Made with   signalfd4(2)
 */
import { setStatusFlags } from "../../linux/fcntl.js";
import { O_CLOEXEC } from "../../linux/files.js";
import { signalfdMask } from "../../linux/proc/fdinfo-kinds.js";
import { signalfd4 } from "../../linux/signals.js";
import type { FileKind } from "../part.js";
import type { SignalfdEntry } from "./signalfd.schema.js";

export const signalfds: FileKind<SignalfdEntry> = {
  name: "signals/signalfd",
  rows: ["file.signalfd"],
  type: "SIGNALFD",
  field: "sgfd",
  isPathless: true,
  matches: ({ link }) => link === "anon_inode:[signalfd]",
  dump: (file) => ({ id: file.id, flags: file.info.flags, fown: file.fown, sigmask: signalfdMask(file.info) }),
  open(entry) {
    const fd = signalfd4(-1, entry.sigmask, O_CLOEXEC);
    setStatusFlags(fd, entry.flags);
    return fd;
  },
};
