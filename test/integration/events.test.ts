import { suite } from "../harness/suite.js";
import { eventCases } from "../workloads/events/cases.js";

suite("events", eventCases);
suite("events", eventCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
// The peer's restore loses IN_ONESHOT and IN_EXCL_UNLINK and follows symbolic links that are watched themselves.
const forPeer = eventCases.filter((one) => one.workload !== "events/inotify");
suite("events", forPeer, { dump: "floe", restore: "criu", modes: ["killed-restored"] });
