import { suite } from "../harness/suite.js";
import { existsSync, readFileSync } from "node:fs";
import { eventCases, ioUringCases, userfaultfdCases } from "../workloads/events/cases.js";

suite("events", eventCases);
suite("userfaultfds", userfaultfdCases);
const ringSetting = "/proc/sys/kernel/io_uring_disabled";
if (existsSync(ringSetting) && readFileSync(ringSetting, "utf8").trim() !== "2") suite("rings of io_uring", ioUringCases);
suite("events", eventCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
// The peer's restore loses IN_ONESHOT and IN_EXCL_UNLINK, follows symbolic links that are watched themselves, and wants to
// make the directory of a process that is gone.
const forPeer = eventCases.filter((one) => one.workload !== "events/inotify" && one.args?.[0] !== "gone");
suite("events", forPeer, { dump: "floe", restore: "criu", modes: ["killed-restored"] });
