import { suite } from "../harness/suite.js";
import { deletedCases, lockCases, manyCases, packetCases } from "../workloads/files2/cases.js";

suite("deleted files", deletedCases);
suite("deleted files", deletedCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
suite("deleted files", deletedCases, { dump: "floe", restore: "criu", modes: ["killed-restored"] });

suite("file locks", lockCases);
suite("file locks", lockCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
suite("file locks", lockCases, { dump: "floe", restore: "criu", modes: ["killed-restored"] });

suite("packet pipes", packetCases);
suite("many descriptors", manyCases);
suite("many descriptors", manyCases, { dump: "criu", restore: "floe", modes: ["killed-restored"] });
suite("many descriptors", manyCases, { dump: "floe", restore: "criu", modes: ["killed-restored"] });
