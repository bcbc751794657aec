import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { randomUuid } from "./random.js";

describe("randomUuid", () => {
  it("is a UUID of version 4, another one each time", () => {
    const made = Array.from({ length: 64 }, randomUuid);
    for (const uuid of made) assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(new Set(made).size, made.length);
  });
});
