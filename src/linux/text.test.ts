import assert from "node:assert/strict";
import test from "node:test";
import { basename, dirname, join, normalize, resolve } from "./named-paths.js";
import { bytesOf, cstring, shownText, textOf } from "./text.js";

/** Latin-1, cut-off and overlong UTF-8, a surrogate in UTF-8, text, the replacement character. */
const ODD = Buffer.from("/tmp/f\xfei\x80le/\xc3(\xc0\xaf\xed\xb3\xbf/\xc3\xa4\xf0\x9f\x98\x80\xef\xbf\xbd", "latin1");

test("any bytes become a text and come back", () => {
  for (let seed = 0; seed < 256; seed++) {
    const bytes = Buffer.from([seed, 0x2f, 0xc3, seed, 0xf0, 0x9f, seed, 0x80, 0xed, 0xa0, seed]);
    assert.deepEqual(bytesOf(textOf(bytes)), bytes);
  }
  assert.deepEqual(bytesOf(textOf(ODD)), ODD);
  assert.deepEqual(cstring(textOf(ODD)), Buffer.concat([ODD, Buffer.alloc(1)]));
});

test("UTF-8 stays what it is", () => {
  for (const text of ["", "/plain", "bäh \u{1f600} \ufffd"]) {
    assert.equal(textOf(Buffer.from(text)), text);
    assert.equal(shownText(text), text);
  }
});

test("a byte that is no text is shown by its number", () => {
  assert.equal(shownText(textOf(Buffer.from("a\xff\x80\xf0\x9f\x98\x80", "latin1"))), "a\\xff\\x80\u{1f600}");
});

test("paths are taken apart and put together without loss", () => {
  const path = textOf(ODD);
  assert.deepEqual(bytesOf(join(dirname(path), basename(path))), ODD);
  assert.equal(dirname(textOf(Buffer.from("/a\xff/b", "latin1"))), "/a\udcff");
  assert.equal(normalize("/a\udcff/../b\udcfe//c"), "/b\udcfe/c");
  assert.equal(resolve("/x/./\udcff"), "/x/\udcff");
});
