/**
 * Options: what to dump or restore, from where, and what becomes of the tasks; logging, configuration, check.
 */
import type { OptionSpec } from "./spec.js";
import { closeFd, cpuCap, verbosity } from "./special.js";

const MAX_PID = 2 ** 31 - 1;

export const genericOptions: readonly OptionSpec[] = [
  { kind: "number", name: "tree", short: "t", key: "tree", min: 1, max: MAX_PID, argumentName: "PID", rpc: "pid", commands: ["dump", "pre-dump"], built: true, help: "root of the process tree to dump" },
  { kind: "flag", name: "restore-detached", short: "d", key: "restoreDetached", negatable: true, built: true, help: "restore: return when the tree runs; servers: go to the background" },
  { kind: "flag", name: "daemon", key: "restoreDetached", negatable: true, built: true, help: "the same as --restore-detached" },
  { kind: "flag", name: "restore-sibling", short: "S", key: "restoreSibling", negatable: true, rpc: "rst_sibling", commands: ["restore"], built: false, help: "restore the root as a sibling" },
  { kind: "flag", name: "leave-stopped", short: "s", key: "leaveStopped", negatable: false, rpc: "leave_stopped", commands: ["dump", "restore"], built: true, help: "leave tasks stopped afterwards" },
  { kind: "flag", name: "leave-running", short: "R", key: "leaveRunning", negatable: false, rpc: "leave_running", commands: ["dump"], built: true, help: "let tasks run on after a dump" },
  { kind: "text", name: "images-dir", short: "D", key: "imagesDir", argumentName: "DIR", rpc: "images_dir", built: true, help: "directory of the images (the present one by default)" },
  { kind: "text", name: "work-dir", short: "W", key: "workDir", argumentName: "DIR", built: true, help: "directory of logs, pid files and statistics (that of the images by default)" },
  { kind: "text", name: "prev-images-dir", key: "prevImagesDir", argumentName: "DIR", rpc: "parent_img", commands: ["dump", "pre-dump", "page-server"], built: false, help: "images of the previous dump, relative to -D" },
  { kind: "text", name: "pidfile", key: "pidfile", argumentName: "FILE", commands: ["restore", "page-server", "service"], built: true, help: "write the pid of the restored root or of the server to FILE" },
  { kind: "text", name: "root", short: "r", key: "root", argumentName: "PATH", rpc: "root", commands: ["dump", "pre-dump", "restore"], built: false, help: "root of the mount namespace to restore" },
  { kind: "flag", name: "exec-cmd", key: "execCmd", negatable: false, rpc: "exec_cmd", commands: ["restore"], built: true, help: "after the restore become the command after `--', which becomes the parent of the tree" },
  { kind: "text", name: "freeze-cgroup", key: "freezeCgroup", argumentName: "PATH", rpc: "freeze_cgroup", commands: ["dump", "pre-dump"], built: false, help: "freeze with this control group" },
  { kind: "number", name: "timeout", key: "timeoutS", min: 0, max: 86_400 * 365, argumentName: "SECONDS", rpc: "timeout", commands: ["dump", "pre-dump"], built: true, help: "limit for the tree to stand still (10 by default)" },
  { kind: "special", name: "cpu-cap", ...cpuCap, argumentName: "CAP", rpc: "cpu_cap", built: (settings) => settings.cpuCap === "none", help: "what of the processor to write or to demand: cpu, fpu, all, ins, none; ^CAP takes one away; all without argument" },
  { kind: "special", name: "close", ...closeFd, argumentName: "FD", built: true, help: "close this descriptor first" },
  { kind: "flag", name: "unprivileged", key: "unprivileged", negatable: true, rpc: "unprivileged", built: false, help: "accept the limits of running without root" },
  { kind: "flag", name: "stream", key: "stream", negatable: true, commands: ["dump", "pre-dump", "restore", "cpuinfo"], built: false, help: "images by way of criu-image-streamer" },
  { kind: "flag", name: "mntns-compat-mode", key: "mntnsCompatMode", negatable: true, rpc: "mntns_compat_mode", commands: ["restore"], built: false, help: "restore mounts in the way of old kernels" },
  { kind: "flag", name: "weak-sysctls", key: "weakSysctls", negatable: true, rpc: "weak_sysctls", commands: ["restore"], built: false, help: "skip sysctls that the kernel lacks" },
  { kind: "flag", name: "allow-uprobes", key: "allowUprobes", negatable: true, built: false, help: "accept a [uprobes] area" },
];

export const checkOptions: readonly OptionSpec[] = [
  { kind: "flag", name: "extra", key: "extra", negatable: true, commands: ["check"], built: true, help: "check extra features too" },
  { kind: "flag", name: "experimental", key: "experimental", negatable: true, commands: ["check"], built: true, help: "check experimental features too" },
  { kind: "flag", name: "all", key: "all", negatable: false, commands: ["check"], built: true, help: "the same as --extra --experimental" },
  { kind: "text", name: "feature", key: "feature", argumentName: "FEAT", commands: ["check"], built: true, help: "check one feature only; `list' prints their names" },
  { kind: "flag", name: "ms", key: "ms", negatable: true, commands: ["check"], built: true, help: "gone: see the other options of check" },
];

export const loggingOptions: readonly OptionSpec[] = [
  { kind: "text", name: "log-file", short: "o", key: "logFile", argumentName: "FILE", rpc: "log_file", built: true, help: "log file, relative to the work directory" },
  { kind: "flag", name: "log-pid", key: "logPid", negatable: true, commands: ["restore"], built: false, help: "a log of its own for every restored process" },
  { kind: "special", name: "verbosity", short: "v", ...verbosity, argumentName: "NUM", rpc: "log_level", built: true, help: "0 nothing, 1 errors, 2 warnings (default), 3 information and times, 4 all; -v -v counts" },
  { kind: "flag", name: "display-stats", key: "displayStats", negatable: true, rpc: "display_stats", commands: ["dump", "restore"], built: true, help: "print the statistics at the end" },
];

export const otherOptions: readonly OptionSpec[] = [
  { kind: "text", name: "config", key: "config", argumentName: "FILE", rpc: "config_file", built: true, help: "read this configuration file instead of the default ones" },
  { kind: "flag", name: "no-default-config", key: "noDefaultConfig", negatable: false, built: true, help: "do not read the default configuration files" },
  { kind: "flag", name: "deprecated", key: "deprecated", negatable: true, built: true, help: "allow what is deprecated" },
  { kind: "flag", name: "help", short: "h", key: "help", negatable: false, built: true, help: "show this text" },
  { kind: "flag", name: "version", short: "V", key: "version", negatable: false, built: true, help: "show the version" },
];
