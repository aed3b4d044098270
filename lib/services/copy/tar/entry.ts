/** An entry of a copy, and its header in the tar. */
import type { Headers } from 'tar-stream';
import { protocolError } from '../../../errors.js';
import { escapeText } from '../../../util/escape.js';
import { refused } from '../system-files.js';
import { isLinkInside, isPlainName, MAX_PATH_BYTES, showPath } from './names.js';

export interface CopyEntry {
  /** The names from the top of the copy down to this entry. */
  readonly names: readonly string[];
  readonly kind: 'file' | 'folder' | 'link';
  /** Permissions, without setuid and setgid. */
  readonly mode: number;
  /** Modification time, in nanoseconds since 1970. */
  readonly mtimeNs: bigint;
  readonly bytes: number;
  /** For a file: the number of bytes that the peer already has; the rest follows. */
  readonly offset: number;
  readonly linkTarget: string;
}

export const OUTSIDE = 'link points outside the copied tree';

/**
 * Throws `copy-refused` for a link that points outside the copied tree, unless such links are kept: even those are never
 * followed, as each entry is put into a folder that the same copy has made or checked.
 */
export function requireLink(path: string, names: readonly string[], target: string, keepsLinks: boolean): void {
  // The top of a tree is a folder, so a link has at least two names.
  if (!keepsLinks && !isLinkInside(target, names.length - 2)) throw refused(path, `${OUTSIDE}: ${showPath(target)}`);
}

/** Setuid and setgid imply an owner, and owners are not kept; sticky matters only for folders. */
export const keptMode = (mode: number, isFolder: boolean): number => mode & (isFolder ? 0o1777 : 0o777);

/** The pax key for the number of bytes that the peer already has; private keys need a prefix. */
const OFFSET_KEY = 'VPROXY.offset';

const S_IFREG = 0o100000;

const TYPES = { file: 'file', folder: 'directory', link: 'symlink' } as const;

/** With the pax records that the type declarations lack. */
export type TarHeader = Headers & { readonly pax?: Readonly<Record<string, string>> | null };

export function entryHeader(entry: CopyEntry): TarHeader {
  const { names, kind, mode, mtimeNs, bytes, offset, linkTarget } = entry;
  const pax: Record<string, string> = { mtime: formatTime(mtimeNs) };
  if (offset > 0) pax[OFFSET_KEY] = String(offset);
  return {
    name: names.join('/'),
    type: TYPES[kind],
    // tar-stream treats a mode of 0 as missing.
    mode: mode | S_IFREG,
    size: bytes - offset,
    // The header has room for 32 bits, and the next line for the rest.
    mtime: new Date(mtimeNs < 0n || mtimeNs >= BILLION << 31n ? 0 : Number(mtimeNs / 1_000_000n)),
    ...(kind === 'link' ? { linkname: linkTarget } : {}),
    pax,
  };
}

/** Parses a header. Throws `copy-refused` for an entry that a copy must not have, and `protocol-error` for an invalid one. */
export function parseHeader(header: TarHeader): CopyEntry {
  const { name, type, size = 0, mode = 0, linkname, pax } = header;
  const kind = KINDS.get(type ?? '');
  if (kind === undefined) throw refused(name, `entries of type ${escapeText(type ?? 'unknown')} are not supported`);
  const names = (kind === 'folder' ? name.replace(/\/$/, '') : name).split('/');
  if (Buffer.byteLength(name) > MAX_PATH_BYTES) throw refused(name, `path longer than ${MAX_PATH_BYTES} bytes`);
  if (!names.every(isPlainName)) throw refused(name, 'unsafe name');
  const linkTarget = kind === 'link' ? (linkname ?? '') : '';
  if (Buffer.byteLength(linkTarget) > MAX_PATH_BYTES) throw refused(name, 'link target too long');
  if (kind === 'link' && (linkTarget === '' || linkTarget.includes('\0'))) throw refused(name, 'link without a target');
  const offset = parseOffset(pax?.[OFFSET_KEY], kind);
  if (
    !Number.isSafeInteger(size) ||
    size < 0 ||
    (kind !== 'file' && size !== 0) ||
    !Number.isSafeInteger(size + offset)
  ) {
    throw protocolError(`copy: ${escapeText(name)}: size is not valid`);
  }
  const mtimeNs = parseTime(pax?.['mtime']) ?? BigInt(header.mtime?.getTime() || 0) * 1_000_000n;
  return {
    names,
    kind,
    mode: keptMode(mode || 0, kind === 'folder'),
    mtimeNs,
    bytes: size + offset,
    offset,
    linkTarget,
  };
}

const KINDS = new Map<string, CopyEntry['kind']>([
  ['file', 'file'],
  ['directory', 'folder'],
  ['symlink', 'link'],
]);

/** `12.000000034`; before 1970 with a minus sign: `-12.000000034`. */
function formatTime(ns: bigint): string {
  const absolute = ns < 0n ? -ns : ns;
  const fraction = String(absolute % BILLION).padStart(9, '0');
  return `${ns < 0n ? '-' : ''}${absolute / BILLION}.${fraction}`;
}

function parseTime(text: string | undefined): bigint | null {
  const [, sign = '', seconds = '', fraction = ''] = /^(-?)(\d{1,19})(?:\.(\d{1,9}))?$/.exec(text ?? '') ?? [];
  if (seconds === '') return null;
  const ns = BigInt(seconds) * BILLION + BigInt(fraction.padEnd(9, '0'));
  return sign === '' ? ns : -ns;
}

const BILLION = 1_000_000_000n;

function parseOffset(text: string | undefined, kind: CopyEntry['kind']): number {
  if (text === undefined) return 0;
  if (kind === 'file' && /^\d{1,16}$/.test(text) && Number.isSafeInteger(Number(text))) return Number(text);
  throw protocolError('copy: offset is not valid');
}
