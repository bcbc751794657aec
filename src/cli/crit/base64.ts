/** Bytes as crit shows them: base64 in lines of 76 characters, each with its line break; nothing for no bytes. */
export function base64Lines(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
  return text.replace(/.{1,76}/g, "$&\n");
}

export function fromBase64(text: string): Buffer {
  return Buffer.from(text, "base64");
}
