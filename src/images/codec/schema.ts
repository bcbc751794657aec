/**
 * Message schemas in TypeScript: a message is declared once, as a value, and its type is inferred from it.
 *
 * The words are those of protocol buffers, version 2: required, optional, repeated; the names are the image format's own.
 * Declaring costs next to nothing; tables for reading and writing are made when a schema is first used.
 */

/** How a field's value looks on the wire and in JavaScript. */
export type FieldKind =
  | "uint32" | "int32" | "sint32" | "fixed32" | "uint64" | "int64" | "sint64" | "fixed64" | "bool" | "string" | "bytes" | "enum" | "message";

export type Label = "required" | "optional" | "repeated";

/** How `crit` shows a value; has no effect on the bytes. */
export interface Presentation {
  readonly hex?: boolean;
  readonly flags?: string;
  readonly dict?: string;
  readonly dev?: boolean;
  readonly odev?: boolean;
  readonly ipadd?: boolean;
  readonly conv?: string;
}

/** Extra properties of a field. */
export interface FieldOptions extends Presentation {
  /** Value that stands for an absent optional field. */
  readonly default?: number | bigint | boolean | string;
  /** Not part of CRIU's format: ours, skipped by other readers. */
  readonly floe?: boolean;
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
  readonly fields: Fields;
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

/** Declares a message. */
export function message<const F extends Fields>(name: string, fields: F): MessageType<Flat<MessageValue<F>>> {
  return { name, fields };
}

/** Declares an enumeration. */
export function enumeration<const V extends Readonly<Record<string, number>>>(name: string, values: V): { readonly name: string; readonly values: V } {
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

/** An unknown field: its number and its bytes, tag included. */
export interface UnknownField {
  readonly number: number;
  readonly bytes: Buffer;
}

/** A field with its name, as reading and writing use it. */
export interface CompiledField extends Field<unknown, Label> {
  readonly name: string;
}

/** Tables of a schema: fields in the order of their numbers, and by number. */
export interface Compiled {
  readonly ordered: readonly CompiledField[];
  readonly byNumber: ReadonlyMap<number, CompiledField>;
  readonly repeatedNames: readonly string[];
  readonly requiredFields: readonly CompiledField[];
}

const compiled = new WeakMap<object, Compiled>();

/** The tables of a schema, made on first use. */
export function compile(type: MessageType<unknown>): Compiled {
  const found = compiled.get(type);
  if (found !== undefined) return found;
  const ordered = Object.entries(type.fields)
    .map(([name, field]) => ({ ...field, name }))
    .sort((a, b) => a.number - b.number);
  const made: Compiled = {
    ordered,
    byNumber: new Map(ordered.map((f) => [f.number, f])),
    repeatedNames: ordered.filter((f) => f.label === "repeated").map((f) => f.name),
    requiredFields: ordered.filter((f) => f.label === "required"),
  };
  compiled.set(type, made);
  return made;
}
