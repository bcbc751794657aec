/**
 * Message schemas in TypeScript: a message is declared once, as a value, and its type is inferred from it.
 *
 * The words are those of protocol buffers, version 2: required, optional, repeated; the names are the image format's own.
 * Declaring costs next to nothing; tables for reading and writing are made when a schema is first used.
 */

/** How a field's value looks on the wire and in JavaScript. */
export type FieldKind =
  | "uint32"
  | "int32"
  | "sint32"
  | "fixed32"
  | "uint64"
  | "int64"
  | "sint64"
  | "fixed64"
  | "bool"
  | "string"
  | "bytes"
  | "enum"
  | "message";

export type Label = "required" | "optional" | "repeated";

/** How `crit` shows a value in its readable form; has no effect on the bytes. */
export interface Presentation {
  /** As a hexadecimal number; on a message, all numbers in it. */
  readonly hex?: boolean;
  /** As names of bits, from the table of this name. */
  readonly flags?: string;
  /** As a name, from the table of this name. */
  readonly dict?: string;
  /** As major:minor; packed as the kernel does inside (`dev`), or as stat(2) does (`odev`). */
  readonly dev?: boolean;
  readonly odev?: boolean;
  /** As an internet address: one number for version 4, four for version 6. */
  readonly ipadd?: boolean;
  /** As text in another encoding than base64. */
  readonly conv?: string;
  /** An older name of the field; shown under it as long as no newer field has taken the name over. */
  readonly formerly?: string;
}

/** Extra properties of a field. */
export interface FieldOptions extends Presentation {
  /** Value that stands for an absent optional field. */
  readonly default?: number | bigint | boolean | string;
  /** Not part of CRIU's format: ours, skipped by other readers. */
  readonly floe?: boolean;
  /** A message that is often the same, byte for byte, as the one read before in this field: see Alike of decode.ts. */
  readonly alike?: boolean;
}

/** A field of a message; V is its value's type, L its label. */
export interface Field<V, L extends Label> {
  readonly kind: FieldKind;
  readonly label: L;
  readonly number: number;
  readonly options: FieldOptions;
  readonly message?: () => MessageType<object>;
  readonly enumeration?: () => EnumType;
  /** Only for inference; never set. */
  readonly value?: V;
}

export type Fields = Readonly<Record<string, Field<unknown, Label>>>;

/** Names and numbers of an enumeration. */
export interface EnumType {
  readonly name: string;
  readonly values: Readonly<Record<string, number>>;
}

/** A message schema for values of type T. */
export interface MessageType<T> {
  readonly name: string;
  /** Called when the schema is first used: a command uses a tenth of them, and each field takes time to be made. */
  readonly fields: () => Fields;
  /** Only for inference; never set. */
  readonly value?: T;
}

type ValueOf<F> = F extends Field<infer V, Label> ? V : never;
type KeysWith<F extends Fields, L extends Label> = { [K in keyof F]: F[K] extends Field<unknown, L> ? K : never }[keyof F];
type MessageValue<F extends Fields> = {
  [K in KeysWith<F, "required">]: ValueOf<F[K]>;
} & {
  [K in KeysWith<F, "optional">]?: ValueOf<F[K]> | undefined;
} & {
  [K in KeysWith<F, "repeated">]: ValueOf<F[K]>[];
};
type Flat<T> = { [K in keyof T]: T[K] };

/** The type of a schema's values. */
export type Infer<M> = M extends MessageType<infer T> ? T : never;

/** Declares a message. Its fields are made on first use. */
export function message<const F extends Fields>(name: string, fields: () => F): MessageType<Flat<MessageValue<F>>> {
  return { name, fields };
}

/** Declares an enumeration. */
export function enumeration<const V extends Readonly<Record<string, number>>>(
  name: string,
  values: V,
): { readonly name: string; readonly values: V } {
  return { name, values };
}

function label<L extends Label>(l: L) {
  const scalar =
    <V>(kind: FieldKind) =>
    (number: number, options: FieldOptions = {}): Field<V, L> => ({ kind, label: l, number, options });
  return {
    uint32: scalar<number>("uint32"),
    int32: scalar<number>("int32"),
    sint32: scalar<number>("sint32"),
    fixed32: scalar<number>("fixed32"),
    uint64: scalar<bigint>("uint64"),
    int64: scalar<bigint>("int64"),
    sint64: scalar<bigint>("sint64"),
    fixed64: scalar<bigint>("fixed64"),
    bool: scalar<boolean>("bool"),
    string: scalar<string>("string"),
    bytes: scalar<Uint8Array>("bytes"),
    enum: (number: number, type: () => EnumType, options: FieldOptions = {}): Field<number, L> => ({
      kind: "enum",
      label: l,
      number,
      options,
      enumeration: type,
    }),
    message: <T extends object>(number: number, type: () => MessageType<T>, options: FieldOptions = {}): Field<T, L> => ({
      kind: "message",
      label: l,
      number,
      options,
      message: type as () => MessageType<object>,
    }),
  };
}

export const required = label("required");
export const optional = label("optional");
export const repeated = label("repeated");

/** Where fields that a schema does not know are kept on a value, so that writing it again loses nothing. */
export const UNKNOWN = Symbol("unknown fields");

/** An unknown field: its bytes, tag included, and the number of the known field it came behind (0: at the very front). */
export interface UnknownField {
  readonly number: number;
  readonly after: number;
  readonly bytes: Buffer;
}

/** A field with its name, as reading and writing use it. */
export interface CompiledField extends Field<unknown, Label> {
  readonly name: string;
  readonly wire: number;
  /** The tag as it stands before a value: number and wire type. */
  readonly tag: number;
  readonly repeated: boolean;
  /** What stands for the kind where it is asked for each value. */
  readonly code: number;
  /** Tables of the message in the field; found when first needed, since messages may contain themselves. */
  sub: Compiled | undefined;
}

/** Tables of a schema: fields in the order of their numbers, and by number. */
export interface Compiled {
  readonly name: string;
  readonly ordered: readonly CompiledField[];
  readonly byNumber: readonly (CompiledField | undefined)[];
  readonly repeatedNames: readonly string[];
  readonly requiredNames: readonly string[];
}

/** Kinds as numbers, which an interpreter tells apart much faster than words. */
export const CODE = {
  uint32: 0,
  int32: 1,
  enum: 1,
  sint32: 2,
  bool: 3,
  uint64: 4,
  int64: 5,
  sint64: 6,
  fixed32: 7,
  fixed64: 8,
  message: 9,
  string: 10,
  bytes: 11,
} as const satisfies Readonly<Record<FieldKind, number>>;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** Wire type of a kind of field. */
export function wireType(kind: FieldKind): number {
  if (kind === "fixed64") return FIXED64;
  if (kind === "fixed32") return FIXED32;
  return kind === "string" || kind === "bytes" || kind === "message" ? BYTES : VARINT;
}

const compiled = new WeakMap<object, Compiled>();

/** The tables of a schema, made on first use. */
export function compile(type: MessageType<unknown>): Compiled {
  const found = compiled.get(type);
  if (found !== undefined) return found;
  const ordered = compiledFields(type.fields());
  const byNumber: (CompiledField | undefined)[] = [];
  const repeatedNames: string[] = [];
  const requiredNames: string[] = [];
  for (const field of ordered) {
    while (byNumber.length < field.number) byNumber.push(undefined);
    byNumber.push(field);
    if (field.repeated) repeatedNames.push(field.name);
    if (field.label === "required") requiredNames.push(field.name);
  }
  const made: Compiled = { name: type.name, ordered, byNumber, repeatedNames, requiredNames };
  compiled.set(type, made);
  return made;
}

/**
 * Fields in the order of their numbers. By a plain loop, and each from its parts: most commands do this for some forty messages and do it
 * once, when whatever is called first costs more than the work.
 */
function compiledFields(fields: Fields): CompiledField[] {
  const ordered: CompiledField[] = [];
  for (const name in fields) {
    const { kind, label, number, options, message, enumeration } = fields[name] as Field<unknown, Label>;
    const wire = wireType(kind);
    const tag = (number << 3) | wire;
    const repeated = label === "repeated";
    const code = CODE[kind];
    const field = { kind, label, number, options, message, enumeration, name, wire, tag, repeated, code, sub: undefined } as CompiledField;
    // Nearly all schemas are written in this order.
    let at = ordered.length;
    while (at > 0 && (ordered[at - 1] as CompiledField).number > number) at--;
    if (at === ordered.length) ordered.push(field);
    else ordered.splice(at, 0, field);
  }
  return ordered;
}

/** The tables of the message in a field of kind `message`. */
export function compiledSub(field: CompiledField): Compiled {
  if (field.sub !== undefined) return field.sub;
  if (field.message === undefined) throw new Error(`internal error: ${field.name} has no message type`);
  field.sub = compile(field.message());
  return field.sub;
}
