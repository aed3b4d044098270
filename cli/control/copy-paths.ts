/** The operands of `vproxy copy`: what is here, and what is behind a channel. */
import { VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';

/** A copy, as it was asked for. */
export interface CopyPaths {
  /** `put`: the sources are here. */
  readonly direction: 'put' | 'get';
  /** The label of the channel; undefined: the only one. */
  readonly label: string | undefined;
  readonly sources: readonly string[];
  readonly target: string;
}

/** What `SRC… DEST` means. A colon before any slash makes a path one of the other side. Throws `bad-argument`. */
export function parseCopyPaths(operands: readonly string[]): CopyPaths {
  const sources = operands.slice(0, -1).map(parsePath);
  const target = parsePath(operands.at(-1) ?? '');
  const remote = sources.filter(({ isRemote }) => isRemote);
  const [first] = remote;
  if (first !== undefined && target.isRemote) throw bad('both sides are remote; one of them has to be this machine');
  if (first === undefined && !target.isRemote) {
    throw bad('neither side is remote; a path behind a channel is written LABEL:/path, or :/path');
  }
  if (first !== undefined && remote.length < sources.length)
    throw bad('some of the sources are here, and some are not');
  if (remote.some(({ label }) => label !== first?.label)) throw bad('the sources are behind several channels');
  return {
    direction: target.isRemote ? 'put' : 'get',
    label: (target.isRemote ? target : first)?.label,
    sources: sources.map(({ path }) => path),
    target: target.path,
  };
}

interface ParsedPath {
  readonly isRemote: boolean;
  readonly label: string | undefined;
  readonly path: string;
}

function parsePath(text: string): ParsedPath {
  if (text === '') throw bad('a path is empty');
  const colon = /^[^/:]*:/.exec(text)?.[0];
  if (colon === undefined) return { isRemote: false, label: undefined, path: text };
  const label = colon.slice(0, -1);
  const path = text.slice(colon.length);
  const shown = escapeText(text, 128);
  if (!/^[a-z0-9._-]{0,64}$/.test(label)) {
    throw bad(`"${shown}": what stands before the colon is no label of a channel; a file here is ./${shown}`);
  }
  if (!path.startsWith('/')) {
    throw bad(`"${shown}": a path at the other side begins with a slash, as LABEL:/path; a file here is ./${shown}`);
  }
  return { isRemote: true, label: label === '' ? undefined : label, path };
}

const bad = (message: string): VproxyError => new VproxyError('bad-argument', message);
