/**
 * The first instructions of a seed: it dies with Floe from the beginning, not only from the moment it is traced.
 */

/** The bytes of seed.S; stub.test.ts assembles it and compares. */
const SEED_ENTRY = Buffer.from(
  "b89d000000bf01000000be090000000f05" +
    "b86e0000000f05" +
    "85c07410" +
    "3d00000000" +
    "7409" +
    "b8e700000031ff0f05" +
    "b8220000000f05ebf7",
  "hex",
);
/** Where the parent's pid is, in {@link SEED_ENTRY}. */
const PARENT_OFFSET = 29;

/**
 * The code of a seed whose parent is `parent`, as the seed's pid namespace numbers it; where the parent is outside of that
 * namespace the number does not matter, as it is 0 there. Position-independent; ends in a loop of pause(2).
 */
export function seedEntry(parent: number): Buffer {
  const code = Buffer.from(SEED_ENTRY);
  code.writeInt32LE(parent, PARENT_OFFSET);
  return code;
}
