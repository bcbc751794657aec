import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRule } from "./iptables.js";

test("rules tell the ends of a connection", () => {
  const [found] = parseRule("-A floe-lock-out -s 10.0.0.1/32 -d 10.0.0.2/32 -p tcp -m tcp --sport 80 --dport 4711 -j DROP");
  assert.deepEqual(found, {
    here: { address: Buffer.from([10, 0, 0, 1]), port: 80 },
    there: { address: Buffer.from([10, 0, 0, 2]), port: 4711 },
  });
  const [six] = parseRule("-A floe-lock-out -s 2001:db8::1/128 -d ::1/128 -p tcp -m tcp --sport 1 --dport 2 -j DROP");
  assert.equal(six?.here.address.toString("hex"), "20010db8000000000000000000000001");
  assert.deepEqual(parseRule("-A floe-lock-out -j ACCEPT"), []);
  assert.deepEqual(parseRule("-N floe-lock-out"), []);
});
