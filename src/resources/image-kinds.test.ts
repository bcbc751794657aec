import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { type EnumType, type Field, type Label, type MessageType, compile } from "../images/codec/schema.js";
import { COMMON_MAGIC, IMAGE_KINDS, type ImageKind, type ImageKindName, SERVICE_MAGIC } from "../images/kinds.js";
import { IMAGE_MESSAGES } from "./image-kinds.js";

interface FactsMessage {
  readonly fields: readonly string[];
  readonly enums?: Readonly<Record<string, Readonly<Record<string, number>>>>;
}
interface Facts {
  readonly common_magic: string;
  readonly service_magic: string;
  readonly files: readonly { kind: string; file: string; magic: string; message?: string; extra?: string }[];
  readonly schema: Readonly<
    Record<
      string,
      { messages?: Readonly<Record<string, FactsMessage>>; enums?: Readonly<Record<string, Readonly<Record<string, number>>>> }
    >
  >;
}

const root = join(import.meta.dirname, "../..");
const facts = JSON.parse(readFileSync(join(root, "test/facts/criu-image-format.json"), "utf8")) as Facts;

const isMessage = (value: unknown): value is MessageType<unknown> => typeof value === "object" && value !== null && "fields" in value;
const isEnum = (value: unknown): value is EnumType => typeof value === "object" && value !== null && "values" in value;

const messages = new Map<string, MessageType<unknown>>();
const enumerations: EnumType[] = [];

before(async () => {
  const paths = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".schema.ts"));
  for (const path of paths) {
    const exported = (await import(join(root, "src", path))) as Record<string, unknown>;
    for (const [name, value] of Object.entries(exported)) {
      if (isMessage(value)) {
        assert.ok(!messages.has(value.name) || messages.get(value.name) === value, `${value.name} is declared twice`);
        assert.equal(name, camelCase(value.name));
        messages.set(value.name, value);
      } else if (isEnum(value) && !enumerations.includes(value)) enumerations.push(value);
    }
  }
});

function camelCase(name: string): string {
  const [first = "", ...rest] = name.split("_").map((part) => part.toLowerCase());
  return first + rest.map((part) => part.charAt(0).toUpperCase() + part.slice(1)).join("");
}

function describeField(name: string, field: Field<unknown, Label>): string {
  const type = field.message?.().name ?? field.enumeration?.().name ?? field.kind;
  const { default: value } = field.options;
  const values = Object.entries(field.enumeration?.().values ?? {});
  const fallback = value === undefined ? "" : ` [default=${values.find(([, n]) => n === value)?.[0] ?? value}]`;
  return `${field.label} ${type} ${name} = ${field.number}${fallback}`;
}

const ours = (type: MessageType<unknown>): string[] =>
  compile(type)
    .ordered.filter((f) => f.options.floe !== true)
    .map((f) => describeField(f.name, f));
/** Messages of our own are called so; numbers of our own, of fields and of enumerations, begin here. */
const OWN_MESSAGE = /^floe_/;
const OWN_KIND = /^FLOE_/;
const FIRST_OWN_NUMBER = 1000;
const sorted = (values: Readonly<Record<string, number>>): string => JSON.stringify(Object.entries(values).sort());
const known = (values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).filter(([name, number]) => number < FIRST_OWN_NUMBER || /^(CTL_TTY|AUTOFS_PIPE)$/.test(name)));
/** An enumeration that belongs to a message is called `message.name` in the facts. */
const plain = (field: string): string => field.replace(/^(\w+) \w+\.(\w+) /, "$1 $2 ");
const byNumber = (a: string, b: string): number => Number(/= (\d+)/.exec(a)?.[1]) - Number(/= (\d+)/.exec(b)?.[1]);

describe("every schema", () => {
  it("has the messages of the image format, and no others", () => {
    const known = Object.values(facts.schema).flatMap((part) => Object.keys(part.messages ?? {}));
    assert.deepEqual([...messages.keys()].filter((name) => !OWN_MESSAGE.test(name)).sort(), known.sort());
  });

  it("has numbers of its own only from a thousand up, where no reader of the format looks", () => {
    for (const [name, type] of messages) {
      for (const field of compile(type).ordered) {
        const isOwn = field.options.floe === true;
        assert.ok(OWN_MESSAGE.test(name) || isOwn === field.number >= FIRST_OWN_NUMBER, `${name}.${field.name} = ${field.number}`);
        assert.ok(!isOwn || field.label !== "required", `${name}.${field.name} is required`);
      }
    }
  });

  it("has their fields: label, type, name, number and default", () => {
    for (const part of Object.values(facts.schema)) {
      for (const [name, { fields }] of Object.entries(part.messages ?? {})) {
        const type = messages.get(name);
        assert.ok(type !== undefined, name);
        assert.deepEqual(ours(type), fields.map(plain).sort(byNumber), name);
      }
    }
  });

  it("declares enumerations under the defaults' names and with their numbers", () => {
    const wanted = Object.values(facts.schema).flatMap((part) => [
      ...Object.entries(part.enums ?? {}),
      ...Object.values(part.messages ?? {}).flatMap((m) => Object.entries(m.enums ?? {})),
    ]);
    assert.deepEqual(
      enumerations.map((e) => `${e.name} ${sorted(known(e.values))}`).sort(),
      wanted.map(([name, values]) => `${name} ${sorted(values)}`).sort(),
    );
  });
});

describe("the table of image kinds", () => {
  it("has the names, magics and framing of the image format", () => {
    const spelled = (file: string): string => file.replace(/%l?[ud]/g, "%u");
    const service = new Set<string>(["STATS_DUMP", "STATS_RESTORE", "IRMAP_CACHE"]);
    const kinds = Object.entries<ImageKind>(IMAGE_KINDS).filter(([name]) => !service.has(name) && !OWN_KIND.test(name));
    assert.deepEqual(
      kinds.map(([kind, { file, magic }]) => ({ kind, file, magic })),
      facts.files.map(({ kind, file, magic }) => ({ kind, file: spelled(file), magic: Number(magic) })),
    );
    for (const [name, { framing, magic }] of Object.entries<ImageKind>(IMAGE_KINDS)) {
      const wanted = name === "INVENTORY" ? "single" : service.has(name) ? "service" : magic === 0 ? "raw" : "plain";
      assert.equal(framing, wanted, name);
    }
    assert.deepEqual([COMMON_MAGIC, SERVICE_MAGIC], [Number(facts.common_magic), Number(facts.service_magic)]);
  });

  it("has the messages of every kind", () => {
    for (const { kind, message = "", extra } of facts.files) {
      const name = kind as ImageKindName;
      // The facts give the old form of binfmt-misc no message; its records are the new form's.
      if (name === "BINFMT_MISC_OLD") continue;
      const entry = IMAGE_MESSAGES[name];
      const [first, rest] = /^(\w*) then .*?(\w+)\*$/.exec(message)?.slice(1) ?? [undefined, message];
      assert.equal(entry?.first?.name, first, kind);
      assert.equal(entry?.entry.name ?? "", rest, kind);
      assert.equal(Object.hasOwn(IMAGE_KINDS[name], "extra"), extra !== undefined, kind);
    }
  });
});
