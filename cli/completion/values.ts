/** What can be in the place of a value, told from what the value is called, and the names that a running vproxy has. */
import type { ControlClient } from '../../lib/control/client/client.js';
import type { ForwardStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';

/** Asks for names; `label` is that of a channel, if one is meant, and `typed` what was typed of a name. */
type AskNames = (control: ControlClient, label: string | undefined, typed: string) => Promise<NamedThing[]>;

/** The names that a running vproxy can be asked for. */
const LIVE = {
  channels: async (control) =>
    (await control.channels()).map(({ label, state, address }) => named(label, `${state}, ${address}`)),
  /** What the peers offer: with the label of the channel where there are several, none is named, or one is typed already. */
  services: async (control, label, typed) => {
    const [services, channels] = await Promise.all([control.services(), control.channels()]);
    const hasLabel = typed.includes('/') || (label === undefined && channels.length > 1);
    return services
      .filter(({ offeredBy, channel }) => offeredBy === 'peer' && (label === undefined || channel === label))
      .map(({ channel, service }) => named(hasLabel ? `${channel}/${service}` : service, `of ${channel}`));
  },
  /** Their ids, and the services that one alone is for. */
  forwards: async (control) => {
    const forwards = await control.forwards();
    const described = ({ channel, direction, spec }: ForwardStatus): string =>
      `${direction === 'outgoing' ? '-o' : '-i'} ${channel}/${spec}`;
    const single = forwards.filter(({ service }) => forwards.filter((other) => other.service === service).length === 1);
    return [
      ...forwards.map((forward) => named(forward.id, described(forward))),
      ...single.map((forward) => named(forward.service, described(forward))),
    ];
  },
  /** Those of which something is said: with the label of the channel where there are several. */
  egresses: async (control) => {
    const [egresses, channels] = await Promise.all([control.egress(), control.channels()]);
    return egresses.flatMap(({ channel, name, rules }) =>
      rules === null ? [] : [named(channels.length > 1 ? `${channel}/${name}` : name, `of ${channel}`)],
    );
  },
  streams: async (control) =>
    (await control.streams()).map(({ channel, id, service, direction }) =>
      named(`${channel}/${id}`, `${service}, ${direction}`),
    ),
} as const satisfies Readonly<Record<string, AskNames>>;

/** One sort of them. */
export type LiveName = keyof typeof LIVE;

export const LIVE_NAMES = Object.keys(LIVE) as LiveName[];

/**
 * What can be a value: the text of a `channel` or a `forward`; the name of a `process` that runs; a label, and the service behind
 * its slash (`place`); a `path` behind the colon of something else: `SERVICE:/run/s`; `LABEL:`, with something of the peer behind
 * it (`remote`), or that, or a path here (`copy`); one of the `words` that it is called.
 */
export type ValueSort =
  | ('none' | 'file' | 'folder' | 'user' | 'words' | 'channel' | 'forward' | 'process' | 'place' | 'path')
  | ('remote' | 'copy' | LiveName);

/** The first that fits decides. */
const SORTS: readonly (readonly [RegExp, ValueSort])[] = [
  [/^[a-z0-9-]+(?:\|[a-z0-9-]+)+$/, 'words'],
  [/^LABEL:$/, 'remote'],
  [/^CHANNEL\/ID$/, 'streams'],
  [/\bKIND:|^CHANNEL$/, 'channel'],
  [/^ID\b/, 'forwards'],
  [/^LABEL\[\/SERVICE\]$/, 'place'],
  [/^LABEL$/, 'channels'],
  [/^SERVICE$/, 'services'],
  [/^EGRESS$/, 'egresses'],
  [/^FORWARD$/, 'forward'],
  [/^ADDRESS$/, 'path'],
  [/^(?:SRC|DEST)$/, 'copy'],
  [/^USER\b/, 'user'],
  [/\b(?:DIR|FOLDER)\b/, 'folder'],
  [/\b(?:FILE|PATH)\b|^(?:CMD|ARG)$/, 'file'],
];

/** The sort of a value that is called so: `FILE`, `LABEL`, `text|json`. A name that says nothing has `none`. */
export const valueSort = (called: string): ValueSort => SORTS.find(([pattern]) => pattern.test(called))?.[1] ?? 'none';

/** What a shell is told. */
export interface Completion {
  /** What the shell itself adds, as it knows how to quote it. */
  readonly adds: 'files' | 'folders' | 'users' | '';
  /** The part of the word that is before what the shell adds. */
  readonly before: string;
  /** The rest of the word, as it was typed. */
  readonly typed: string;
  /** Whole words, which begin with what was typed. */
  readonly words: readonly NamedThing[];
}

/** Those of `words`, each behind `front`, that begin with what was typed. */
export function offer(typed: string, words: readonly (NamedThing | string)[], front = ''): Completion {
  const things = words.map((word) => (typeof word === 'string' ? named(word, '') : word));
  const whole = things.map(({ name, summary }) => ({ name: front + name, summary }));
  return { adds: '', before: '', typed, words: whole.filter(({ name }) => name.startsWith(typed)) };
}

/** Paths, which the shell adds behind `before`. */
export const offerPaths = (before: string, typed: string): Completion => ({ adds: 'files', before, typed, words: [] });

/** A word, and what is said of it. */
export interface NamedThing {
  readonly name: string;
  readonly summary: string;
}

/** How long a process has to answer, in milliseconds: somebody who presses a key does not wait for one that does not. */
const ANSWER_MS = 300;

/** A process may answer later than others by so much, in milliseconds. */
const LATE_MS = 200;

/** Whom to ask, and about which channel; undefined: the only process, any channel. */
export interface LiveSource {
  readonly socket: string | undefined;
  readonly name: string | undefined;
  readonly channel?: string | undefined;
}

/**
 * The names of one sort, in the order in which the process lists them; none where it does not answer in time. `typed` says
 * whether a service has its label before it. Never rejects.
 */
export async function liveNames(sort: LiveName, process: LiveSource, typed = ''): Promise<NamedThing[]> {
  const [{ connectControl }, { findSocket }] = await Promise.all([
    import('../../lib/control/client/client.js'),
    import('../command/find-process.js'),
  ]);
  const asked = findSocket({ socket: process.socket, name: process.name }).then((path) =>
    LIVE[sort](connectControl(path), process.channel, typed),
  );
  return inTime(asked);
}

/** What `--name` can be: the processes that have control sockets in the usual folder, and answer. Never rejects. */
export async function processNames(): Promise<NamedThing[]> {
  const { listProcesses } = await import('../command/find-process.js');
  const found = await inTime(listProcesses(LATE_MS));
  return found.map(({ name, status }) => named(name, `process ${status.process.pid}`));
}

/** What loading takes is not the process's time: on a busy machine nothing would be offered. */
function inTime<T>(asked: Promise<T[]>): Promise<T[]> {
  const late = new Promise<T[]>((resolve) => setTimeout(resolve, ANSWER_MS, []).unref());
  return Promise.race([late, asked.catch(() => [])]);
}

function named(name: string, summary: string): NamedThing {
  return { name, summary: escapeText(summary, 120) };
}
