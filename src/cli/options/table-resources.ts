/**
 * Options about things outside the tree, and about kinds of resources that need the user's leave.
 */
import type { OptionSpec } from "./spec.js";
import { extUnixSk, fileValidation, ghostLimit, manageCgroups, networkLock } from "./special.js";

export const externalOptions: readonly OptionSpec[] = [
  { kind: "list", name: "external", key: "external", argumentName: "RES", rpc: "external", built: false, help: "a resource from outside: tty[RDEV:DEV], file[MNT:INODE], dev[MAJOR/MINOR]:NAME, unix[INODE], mnt[MOUNTPOINT]:NAME, net[INODE]:NAME, pid[INODE]:NAME; on restore dev[NAME]:PATH, mnt[NAME]:PATH, veth[IN]:OUT{@BRIDGE}, macvlan[IN]:OUT, netdev[IN]:ORIGINAL" },
  { kind: "list", name: "inherit-fd", key: "inheritFd", argumentName: "fd[N]:RES", rpc: "inherit_fd", commands: ["restore"], built: false, help: "use descriptor N for RES: tty[RDEV:DEV], pipe:[INODE], socket:[INODE], file[MNT:INODE], /memfd:NAME, path/to/file" },
  { kind: "list", name: "join-ns", short: "J", key: "joinNs", argumentName: "NS:PID|FILE[,OPTIONS]", rpc: "join_ns", commands: ["restore"], built: false, help: "restore inside this namespace" },
  { kind: "list", name: "empty-ns", key: "emptyNs", argumentName: "net", rpc: "empty_ns", built: false, help: "create the namespace, and leave its content to action scripts" },
  { kind: "list", name: "ext-mount-map", short: "M", key: "extMountMap", argumentName: "KEY:VALUE", rpc: "ext_mnt", built: false, help: "older form of --external mnt" },
  { kind: "flag", name: "enable-external-sharing", key: "enableExternalSharing", negatable: false, rpc: "ext_sharing", commands: ["dump"], built: false, help: "allow external mounts that are shared" },
  { kind: "flag", name: "enable-external-masters", key: "enableExternalMasters", negatable: false, rpc: "ext_masters", commands: ["dump"], built: false, help: "allow external mounts that are slaves" },
  { kind: "list", name: "skip-mnt", key: "skipMnt", argumentName: "PATH", rpc: "skip_mnt", commands: ["dump"], built: false, help: "leave this mount out" },
  { kind: "list", name: "enable-fs", key: "enableFs", argumentName: "NAMES", rpc: "enable_fs", built: false, help: "file systems to mount with source and options alone, or \"all\"" },
  { kind: "special", name: "ext-unix-sk", short: "x", ...extUnixSk, argumentName: "INODE,…", rpc: "ext_unix_sk", built: false, help: "allow UNIX sockets whose peer is outside the tree" },
  { kind: "list", name: "veth-pair", key: "vethPair", argumentName: "IN=OUT", rpc: "veths", commands: ["restore"], built: false, help: "older form of --external veth" },
  { kind: "text", name: "libdir", short: "L", key: "libdir", argumentName: "DIR", built: false, help: "directory of plugins" },
  { kind: "list", name: "action-script", key: "actionScript", argumentName: "FILE", built: false, help: "program that is called at every stage" },
];

export const resourceOptions: readonly OptionSpec[] = [
  { kind: "flag", name: "shell-job", short: "j", key: "shellJob", negatable: true, rpc: "shell_job", built: true, help: "session, process group and terminal may come from outside" },
  { kind: "flag", name: "file-locks", short: "l", key: "fileLocks", negatable: true, rpc: "file_locks", built: false, help: "carry file locks and leases" },
  { kind: "flag", name: "tcp-established", key: "tcpEstablished", negatable: true, rpc: "tcp_established", built: false, help: "carry TCP connections" },
  { kind: "flag", name: "skip-in-flight", key: "skipInFlight", negatable: true, rpc: "tcp_skip_in_flight", commands: ["dump"], built: false, help: "leave out TCP connections that are not accepted yet" },
  { kind: "flag", name: "tcp-close", key: "tcpClose", negatable: true, rpc: "tcp_close", built: false, help: "restore TCP connections as closed ones" },
  { kind: "special", name: "network-lock", ...networkLock, argumentName: "METHOD", rpc: "network_lock", commands: ["dump", "pre-dump"], built: (settings) => settings.networkLock === "skip", help: "how to hold traffic back: iptables (default), nftables, skip" },
  { kind: "flag", name: "evasive-devices", key: "evasiveDevices", negatable: true, rpc: "evasive_devices", commands: ["dump"], built: false, help: "take another path to a device when its own is gone" },
  { kind: "flag", name: "link-remap", key: "linkRemap", negatable: true, rpc: "link_remap", built: false, help: "allow temporary links to files whose name is gone" },
  { kind: "special", name: "ghost-limit", ...ghostLimit, argumentName: "SIZE", rpc: "ghost_limit", commands: ["dump", "pre-dump"], built: true, help: "largest deleted file taken into the images (1M by default)" },
  { kind: "flag", name: "ghost-fiemap", key: "ghostFiemap", negatable: true, commands: ["dump", "pre-dump"], built: false, help: "find the data of deleted files with FIEMAP" },
  { kind: "flag", name: "force-irmap", key: "forceIrmap", negatable: true, rpc: "force_irmap", commands: ["dump", "pre-dump"], built: false, help: "always search for the names of watched files" },
  { kind: "list", name: "irmap-scan-path", key: "irmapScanPath", argumentName: "PATH", rpc: "irmap_scan_paths", commands: ["dump", "pre-dump"], built: false, help: "one more place for that search" },
  { kind: "special", name: "file-validation", ...fileValidation, argumentName: "METHOD", built: true, help: "how to see that files are unchanged: filesize, buildid (default)" },
  { kind: "flag", name: "skip-file-rwx-check", key: "skipFileRwxCheck", negatable: true, rpc: "skip_file_rwx_check", commands: ["restore"], built: true, help: "do not compare the permissions of files" },
  { kind: "text", name: "lsm-profile", key: "lsmProfile", argumentName: "TYPE:NAME", rpc: "lsm_profile", commands: ["restore"], built: false, help: "use this security profile instead of the saved one" },
  { kind: "text", name: "lsm-mount-context", key: "lsmMountContext", argumentName: "CONTEXT", rpc: "lsm_mount_context", commands: ["restore"], built: false, help: "use this context for mounts that have one" },
  { kind: "special", name: "manage-cgroups", ...manageCgroups, argumentName: "MODE", rpc: "manage_cgroups_mode", built: (settings) => settings.manageCgroups === "ignore", help: "what to do about control groups: none, props, soft (default), full, strict, ignore" },
  { kind: "list", name: "cgroup-root", key: "cgroupRoot", argumentName: "[CONTROLLER:]PATH", rpc: "cg_root", built: false, help: "upper control group to start from" },
  { kind: "text", name: "cgroup-props", key: "cgroupProps", argumentName: "STRING", rpc: "cgroup_props", commands: ["dump"], built: false, help: "properties of controllers to save" },
  { kind: "text", name: "cgroup-props-file", key: "cgroupPropsFile", argumentName: "FILE", rpc: "cgroup_props_file", commands: ["dump"], built: false, help: "the same, from a file" },
  { kind: "list", name: "cgroup-dump-controller", key: "cgroupDumpController", argumentName: "NAME", rpc: "cgroup_dump_controller", commands: ["dump"], built: false, help: "save this controller only" },
  { kind: "text", name: "cgroup-yard", key: "cgroupYard", argumentName: "PATH", rpc: "cgroup_yard", built: false, help: "directory in which control groups are mounted already" },
];
