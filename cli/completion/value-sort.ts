/** What can stand in the place of a value, told from what the value is called in usages and options. */

/** The live names that a running vproxy can be asked for. */
export const LIVE_NAMES = ['channels', 'services', 'forwards', 'streams'] as const;

/** One sort of them. */
export type LiveName = (typeof LIVE_NAMES)[number];

/** What a shell offers for a value. Each script has a function for each sort, which gets the words. */
export interface ValueSort {
  /** `remote`: `LABEL:`, behind which something of the other side stands; `copy`: that, or a path here. */
  readonly sort: 'none' | 'file' | 'folder' | 'user' | 'channel' | 'path' | 'remote' | 'copy' | 'words' | 'names';
  /** Of `words`: these; of `names`: which. Else empty. */
  readonly words: readonly string[];
}

const sort = (name: ValueSort['sort'], ...words: readonly string[]): ValueSort => ({ sort: name, words });
const names = (name: LiveName): ValueSort => sort('names', name);

/** From the first that fits. */
const SORTS: readonly (readonly [RegExp, ValueSort])[] = [
  [/^LABEL:$/, sort('remote')],
  [/^CHANNEL\/ID$/, names('streams')],
  [/\bKIND:|^CHANNEL$/, sort('channel')],
  [/^ID\b/, names('forwards')],
  [/^LABEL$/, names('channels')],
  [/^SERVICE$/, names('services')],
  [/^FORWARD$|^ADDRESS$/, sort('path')],
  [/^(?:SRC|DEST)$/, sort('copy')],
  [/^USER\b/, sort('user')],
  [/\b(?:DIR|FOLDER)\b/, sort('folder')],
  [/\b(?:FILE|PATH)\b|^(?:CMD|ARG)$/, sort('file')],
];

/** The sort for a value that is called so: `FILE`, `[LABEL]`, `SRC…`, `text|json`. A name that says nothing has `none`. */
export function valueSort(called: string): ValueSort {
  const plain = called.replace(/^\[(.*)\]$/, '$1').replace(/…$/, '');
  if (/^[a-z0-9-]+(?:\|[a-z0-9-]+)+$/.test(plain)) return sort('words', ...plain.split('|'));
  return SORTS.find(([pattern]) => pattern.test(plain))?.[1] ?? sort('none');
}
