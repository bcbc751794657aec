import { suite } from "../harness/suite.js";
import { socketCases } from "../workloads/sockets/cases.js";

/** Abstract names and ports belong to a network namespace. */
const lane = { namespaces: ["net"] } as const;

suite("sockets", socketCases, { lane });
suite("sockets", socketCases, { lane, dump: "criu", restore: "floe", modes: ["killed-restored"] });
/** The peer loses names of connected sockets. */
const nameless = socketCases.map((one) => ({ ...one, args: [...(one.args ?? []), "nameless"] }));
suite("sockets", nameless, { lane, dump: "floe", restore: "criu", modes: ["killed-restored"] });
