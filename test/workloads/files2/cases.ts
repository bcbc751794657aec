import type { Case } from "../../harness/run-case.js";

function fullTable(room: string): Case {
  return {
    workload: "files2/full",
    args: [room],
    rows: ["file.fd-table"],
    claim: `a descriptor table with ${room} free places is kept, and nothing is put into the wrong one`,
    modes: room === "0" ? ["alone", "left-running", "killed-restored"] : ["left-running", "killed-restored"],
    peerCannot: "it needs free places in the table",
  };
}

export const deletedCases: readonly Case[] = [
  { workload: "files2/deleted", rows: ["file.ghost"], claim: "deleted files keep contents, attributes, identity and the name they had" },
  {
    workload: "files2/deleted",
    args: ["name-in-use"],
    rows: ["file.ghost"],
    claim: "so does one whose name leads to another file now",
    peerCannot: "it shows another name afterwards",
  },
  {
    workload: "files2/xattrs",
    rows: ["file.ghost"],
    claim: "deleted files keep their extended attributes",
    peerCannot: "it does not carry them",
  },
  {
    workload: "files2/deleted-times",
    rows: ["file.ghost"],
    claim: "deleted files keep their times",
    peerCannot: "it keeps microseconds, and reads at dump change the access time",
  },
  {
    workload: "files2/kinds",
    rows: ["file.ghost", "file.fifo", "file.dirs-opath-symlink"],
    claim: "deleted directories, fifos, devices, links and working directories are kept",
  },
  {
    workload: "files2/kinds",
    args: ["more"],
    rows: ["file.ghost", "file.dirs-opath-symlink"],
    claim: "so are O_PATH descriptors of deleted sockets, of fifos and terminals, and a file below a deleted directory that is open itself",
    peerCannot: "it takes an O_PATH descriptor of a socket for a socket",
  },
  {
    workload: "files2/sparse",
    rows: ["file.ghost-sparse"],
    claim: "holes of a deleted file stay holes, and the limit counts what is on disk",
  },
  { workload: "files2/mapped", rows: ["file.ghost-mapped"], claim: "mapped deleted files are kept, shared as before" },
  {
    workload: "files2/unnamed",
    rows: ["file.ghost"],
    claim: "a file without a name can be given one",
    peerCannot: "it makes a file that cannot be named again",
  },
  {
    workload: "files2/overlay",
    options: ["--link-remap"],
    rows: ["file.ghost"],
    claim: "files of a lower layer of an overlay that were deleted or replaced are kept",
    modes: ["in-place", "killed-restored"],
    peerCannot: "it cannot link them",
  },
  {
    workload: "files2/hard-links",
    options: ["--link-remap"],
    rows: ["file.link-remap"],
    claim: "files with names elsewhere stay the same files",
  },
  {
    workload: "files2/odd-names",
    rows: ["file.regular", "file.inotify", "unix.stream-named", "task.fs-cwd-root"],
    claim: "names that are no UTF-8 stay what they are, byte for byte",
    modes: ["alone", "in-place", "twice"],
    peerCannot: "it loses unread events",
  },
  {
    workload: "files2/odd-names",
    args: ["quiet"],
    rows: ["file.regular", "unix.stream-named", "task.fs-cwd-root"],
    claim: "so do they, both ways, where all events are read",
    modes: ["killed-restored"],
  },
  ...["0", "1", "2", "3"].map((room) => fullTable(room)),
];

export const lockCases: readonly Case[] = [
  {
    workload: "files2/locks",
    options: ["--file-locks"],
    rows: ["file.locks", "file.locks-ofd"],
    claim: "locks of all kinds are held again",
  },
  {
    workload: "files2/locks",
    args: ["family"],
    options: ["--file-locks"],
    rows: ["file.locks", "file.locks-ofd"],
    claim: "locks of a parent and its child on the same files are held again, each by its holder",
    peerCannot: "it does not see locks that a child took on files opened before the fork",
  },
  { workload: "files2/leases", options: ["--file-locks"], rows: ["file.leases"], claim: "leases are kept" },
  {
    workload: "files2/leases",
    args: ["breaking"],
    options: ["--file-locks"],
    rows: ["file.leases"],
    claim: "leases that are being broken go on being broken, and nobody is told again",
    peerCannot: "it sends the signal once more and to another owner",
  },
];

export const packetCases: readonly Case[] = [
  {
    workload: "files2/packets",
    rows: ["file.pipe"],
    claim: "pipes in packet mode keep their messages apart",
    peerCannot: "it refuses packet mode",
  },
];

export const manyCases: readonly Case[] = [
  {
    workload: "files2/many",
    rows: ["file.fd-table"],
    claim: "thousands of descriptors stay in their places, and shared as they were",
    modes: ["alone", "killed-restored"],
  },
  {
    workload: "files2/many",
    args: ["all"],
    rows: ["file.fd-table"],
    claim: "so do as many as there may be, up to 20 000",
    modes: ["killed-restored"],
    peerCannot: "it takes too long for a test",
  },
];
