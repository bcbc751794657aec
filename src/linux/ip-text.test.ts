import assert from "node:assert/strict";
import { test } from "node:test";
import { ipText, parseIpAddress } from "./ip-text.js";

test("addresses are read from text as inet_pton(3) reads them", () => {
  const hex = (text: string) => parseIpAddress(text)?.toString("hex");
  assert.equal(hex("10.0.0.255"), "0a0000ff");
  assert.equal(hex("::"), "0".repeat(32));
  assert.equal(hex("::1"), `${"0".repeat(31)}1`);
  assert.equal(hex("fe80::1:2"), "fe800000000000000000000000010002");
  assert.equal(hex("1:2:3:4:5:6:7:8"), "00010002000300040005000600070008");
  assert.equal(hex("::ffff:10.1.2.3"), "00000000000000000000ffff0a010203");
  assert.equal(hex("1::8"), "00010000000000000000000000000008");
  assert.equal(hex("1:2:3:4:5:6:10.1.2.3"), "0001000200030004000500060a010203");
  assert.equal(hex("FE80::"), `fe80${"0".repeat(28)}`);
  for (const bad of [
    "",
    "10.0.0",
    "10.0.0.256",
    "1::2::3",
    "fe80::1%lo",
    "host",
    ":1",
    "1:",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7::8:9",
    "1::g",
    "01.2.3.4",
    "1.2.3.4::",
    "::1.2.3",
    "12345::",
  ])
    assert.equal(parseIpAddress(bad), undefined, bad);
  assert.equal(ipText(Buffer.from([10, 0, 0, 1])), "10.0.0.1");
  assert.equal(ipText(parseIpAddress("::1") as Buffer), "[0000:0000:0000:0000:0000:0000:0000:0001]");
});
