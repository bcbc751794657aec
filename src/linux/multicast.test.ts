import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIgmp, parseIgmp6 } from "./multicast.js";

test("groups of devices are told with their devices", () => {
  const text =
    "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n" +
    "2\teth0      :     2      V3\n\t\t\t\t070707EF     2 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n";
  assert.deepEqual(
    parseIgmp(text).map(({ ifindex, device, group }) => `${ifindex} ${device} ${[...group].join(".")}`),
    ["1 lo 224.0.0.1", "2 eth0 239.7.7.7", "2 eth0 224.0.0.1"],
  );
  assert.deepEqual(
    parseIgmp6("1    lo              ff020000000000000000000000000001     1 0000000C 0\n").map(
      ({ device, group }) => `${device} ${group.toString("hex")}`,
    ),
    ["lo ff020000000000000000000000000001"],
  );
});
