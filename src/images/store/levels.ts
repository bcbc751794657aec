/**
 * The ways to compress pages, by name. Nothing else is loaded with this: the command line reads it.
 */
export const CODECS = ["none", "lz4", "zstd"] as const;
export type CodecName = (typeof CODECS)[number];

/** Levels that can be asked for; what they mean is the library's affair. */
export const LEVELS: Readonly<Record<CodecName, { readonly least: number; readonly most: number; readonly usual: number }>> = {
  none: { least: 0, most: 0, usual: 0 },
  lz4: { least: 1, most: 12, usual: 1 },
  zstd: { least: 1, most: 19, usual: 1 },
};
