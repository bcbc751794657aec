/**
 * Descriptors of namespaces, /proc/PID/ns/…: of those the tree lives in.
 *
 * Read from   readlink(2): the kind and the inode number
 * Made with   open(2) of the same kind below /proc/self/ns
 */
import { openSync, readlinkSync } from "node:fs";
import { Refusal } from "../../errors.js";
import {
  CLONE_NEWCGROUP,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWTIME,
  CLONE_NEWUSER,
  CLONE_NEWUTS,
} from "../../linux/namespaces.js";
import type { FileKind } from "../part.js";
import { namespaceIds } from "./ids.js";
import type { NsFileEntry } from "./nsfile.schema.js";

/** File name below ns, flag of clone(2), field of ids-PID. */
const KINDS = [
  ["mnt", CLONE_NEWNS, "mnt_ns_id"],
  ["uts", CLONE_NEWUTS, "uts_ns_id"],
  ["ipc", CLONE_NEWIPC, "ipc_ns_id"],
  ["user", CLONE_NEWUSER, "user_ns_id"],
  ["pid", CLONE_NEWPID, "pid_ns_id"],
  ["net", CLONE_NEWNET, "net_ns_id"],
  ["cgroup", CLONE_NEWCGROUP, "cgroup_ns_id"],
  ["time", CLONE_NEWTIME, "time_ns_id"],
] as const;

export const namespaceFiles: FileKind<NsFileEntry> = {
  name: "namespaces/nsfile",
  rows: [],
  type: "NS",
  field: "nsf",
  isPathless: true,
  matches: ({ link }) => KINDS.some(([name]) => link.startsWith(`${name}:[`)),
  dump(file, session) {
    const { pid } = file.task.traced;
    const kind = KINDS.find(([name]) => file.link.startsWith(`${name}:[`));
    if (kind === undefined || readlinkSync(`/proc/${pid}/ns/${kind[0]}`) !== file.link) {
      session.refuse(
        new Refusal({
          code: "NAMESPACE_FILE_OUTSIDE",
          process: { pid, comm: file.task.comm },
          resource: `fd ${file.fd} (${file.link})`,
          because: "it is a namespace that the process does not live in",
          remedy: ["Close the descriptor in the program before the dump"],
        }),
      );
      return undefined;
    }
    return { id: file.id, ns_id: namespaceIds(pid)[kind[2]], ns_cflag: Number(kind[1]), flags: file.info.flags };
  },
  open(entry) {
    const kind = KINDS.find(([, flag]) => Number(flag) === entry.ns_cflag);
    return openSync(`/proc/self/ns/${kind?.[0]}`, entry.flags);
  },
};
