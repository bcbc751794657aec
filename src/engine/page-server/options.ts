/**
 * What a page server, and whoever talks to one, can be asked for.
 */

/** How a connection is secured; file names of PEM files. */
export interface TlsOptions {
  readonly cacert: string;
  /** Revocation list; undefined: none. */
  readonly cacrl: string | undefined;
  readonly cert: string;
  readonly key: string;
  /** Whether the server's certificate must be for the address that was dialled. */
  readonly checksName: boolean;
}

/** Where the other end is, or where to wait for it. */
export interface PeerAddress {
  /** IPv4 or IPv6 address, host name, or, with a slash, path of a UNIX socket; undefined: any address of this machine. */
  readonly address: string | undefined;
  readonly port: number | undefined;
  /** A socket that is connected already. */
  readonly socket: number | undefined;
  readonly tls: TlsOptions | undefined;
}

/** So long the other end may be silent in the middle of something, in milliseconds. */
export const SILENCE_MS = 60_000;
