/** Completions of a value, chosen by its placeholder, and live names of a running vproxy. */
import type { ControlClient } from '../../lib/control/client/client.js';
import type { ForwardStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';

/** Asks for names; `label` is the channel's, if one is named, and `typed` the typed part of a name. */
type AskNames = (control: ControlClient, label: string | undefined, typed: string) => Promise<NamedThing[]>;

/** The lists of names of a running vproxy. */
const LIVE = {
  channels: async (control) =>
    (await control.channels()).map(({ label, state, address }) => named(label, `${state}, ${address}`)),
  /** The services of the peers, with the channel's label if one was typed, or if there are several channels and none is named. */
  services: async (control, label, typed) => {
    const [services, channels] = await Promise.all([control.services(), control.channels()]);
    const hasLabel = typed.includes('/') || (label === undefined && channels.length > 1);
    return services
      .filter(({ offeredBy, channel }) => offeredBy === 'peer' && (label === undefined || channel === label))
      .map(({ channel, service }) => named(hasLabel ? `${channel}/${service}` : service, `of ${channel}`));
  },
  /** The ids, and services with a single forward. */
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
  /** The egresses with rules, with the channel's label if there are several channels. */
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

export type LiveName = keyof typeof LIVE;

export const LIVE_NAMES = Object.keys(LIVE) as LiveName[];

/**
 * The sort of a value: the text of a `channel` or a `forward`; the name of a running `process`; a label, and the service
 * after its slash (`place`); a `path` after a colon: `SERVICE:/run/s`; `LABEL:` followed by something remote (`remote`),
 * or that or a local path (`copy`); one of the `words` in the placeholder.
 */
export type ValueSort =
  | ('none' | 'file' | 'folder' | 'user' | 'words' | 'channel' | 'forward' | 'process' | 'place' | 'path')
  | ('remote' | 'copy' | LiveName);

/** The first match decides. */
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

/** The sort of a value with the placeholder `FILE`, `LABEL`, `text|json` or the like; `none` for an unknown one. */
export const valueSort = (called: string): ValueSort => SORTS.find(([pattern]) => pattern.test(called))?.[1] ?? 'none';

/** The answer for a shell. */
export interface Completion {
  /** What the shell itself adds, as it knows how to quote it. */
  readonly adds: 'files' | 'folders' | 'users' | '';
  /** The part of the word before what the shell adds. */
  readonly before: string;
  /** The rest of the word, as typed. */
  readonly typed: string;
  /** Whole words, which begin with the typed text. */
  readonly words: readonly NamedThing[];
}

/** Offers those of `words`, each prefixed with `front`, that begin with the typed text. */
export function offer(typed: string, words: readonly (NamedThing | string)[], front = ''): Completion {
  const things = words.map((word) => (typeof word === 'string' ? named(word, '') : word));
  const whole = things.map(({ name, summary }) => ({ name: front + name, summary }));
  return { adds: '', before: '', typed, words: whole.filter(({ name }) => name.startsWith(typed)) };
}

/** Offers paths, which the shell adds after `before`. */
export const offerPaths = (before: string, typed: string): Completion => ({ adds: 'files', before, typed, words: [] });

export interface NamedThing {
  readonly name: string;
  readonly summary: string;
}

/** The timeout for an answer, in milliseconds: completion must not make the user wait. */
const ANSWER_MS = 300;

/** The timeout for each process when they are listed, in milliseconds. */
const LATE_MS = 200;

/** The process and the channel to ask about; undefined: the only process, any channel. */
export interface LiveSource {
  readonly socket: string | undefined;
  readonly name: string | undefined;
  readonly channel?: string | undefined;
}

/**
 * A list of names, in the order of the process; empty if it does not answer in time. `typed` decides whether services are
 * prefixed with labels. Never rejects.
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

/** The values of `--name`: the processes that have control sockets in the usual folder, and answer. Never rejects. */
export async function processNames(): Promise<NamedThing[]> {
  const { listProcesses } = await import('../command/find-process.js');
  const found = await inTime(listProcesses(LATE_MS));
  return found.map(({ name, status }) => named(name, `process ${status.process.pid}`));
}

/** Starts the timeout only now: loading modules on a busy machine must not count against the process. */
function inTime<T>(asked: Promise<T[]>): Promise<T[]> {
  const late = new Promise<T[]>((resolve) => setTimeout(resolve, ANSWER_MS, []).unref());
  return Promise.race([late, asked.catch(() => [])]);
}

function named(name: string, summary: string): NamedThing {
  return { name, summary: escapeText(summary, 120) };
}
