/** A group of channels: one for each socket in a watched folder, such as the sockets of QEMU's machines. */

import { type FSWatcher, promises as fs, rmdirSync, type Stats, watch } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode, toVproxyError } from '../../errors.js';
import { type EventFields, type Log, type LogEvent, makeEvent } from '../../events.js';
import type { ForwardSpec } from '../../forward/spec.js';
import type { ChannelStatus } from '../../status/types.js';
import { makeSocketFolder } from '../../system/sockets/listening.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { describeError, escapeText } from '../../util/escape.js';
import { type ChannelOptions, DEFAULT_LABEL, type ParsedOptions, writeOptions } from '../channel/channel-options.js';
import { checkGroup } from '../channel/check-channel.js';
import { LogLimit } from '../channel/log-limit.js';
import { type GroupPattern, memberLabelProblem, memberOptions } from './group-pattern.js';

/** How often the folder is read without an event: events can get lost, and the folder may not exist yet. */
const RESCAN_MS = 5000;

/** Delay between an event and reading the folder, which batches simultaneous changes. */
const SETTLE_MS = 50;

/** Subjects of log lines that are not about a path in the folder. */
const FOLDER = 'the folder';
const WATCHING = 'watching';

/** The operations on its proxy that a group needs. */
export interface GroupHost {
  /** Finds a channel by label, of this group or not; null if there is none. */
  find(label: string): ChannelStatus | null;
  /** Adds a channel. Rejects as `Proxy.addChannel` does, and with `shutdown` if the group is no longer active. */
  add(options: ParsedOptions): Promise<unknown>;
  /** Removes a channel of the group at once. Rejects with `shutdown`, as above. */
  remove(label: string): Promise<unknown>;
  readonly log: Log;
}

/** State of a group, handed over to a successor. */
export interface GroupState {
  readonly options: ChannelOptions;
  /** The labels that got a channel, even if a user has removed it since, each with the identity of its socket. */
  readonly members: Map<string, string>;
}

/**
 * Adds a channel for each matching socket, labelled with what the `*` matches, and removes it when the socket was removed
 * and the channel has no session. Call `start` once, then `stop` once.
 */
export class ChannelGroup {
  readonly label: string;
  readonly options: ParsedOptions;
  readonly pattern: GroupPattern;
  readonly #members: Map<string, string>;
  readonly #host: GroupHost;
  readonly #clock: Clock;
  /** Rate-limited: anyone who can create files in the folder can cause any number of lines. */
  readonly #skipped: LogLimit;
  /** Labels whose socket was removed while the channel had a session. */
  readonly #leaving = new Set<string>();
  /** The last line about the folder, or about a path in it, so that it is not repeated. */
  #told = new Map<string, string>();
  #watcher: FSWatcher | null = null;
  #cancelRescan: CancelTimer | null = null;
  #cancelLook: CancelTimer | null = null;
  #scanning: Promise<void> = Promise.resolve();
  #isStopped = false;

  /** Throws what `checkGroup` throws. */
  constructor({ options: given, members }: GroupState, host: GroupHost, clock: Clock) {
    const { options, pattern } = checkGroup(given);
    this.label = options.label;
    this.options = options;
    this.pattern = pattern;
    this.#members = members;
    this.#host = host;
    this.#clock = clock;
    this.#skipped = new LogLimit({ log: (event) => this.#log(event), clock });
  }

  /** The options of the channel `label`. Throws `bad-argument` if the template yields an invalid forward. */
  optionsFor(label: string): ParsedOptions {
    return memberOptions(this.options, this.pattern, label);
  }

  /** For a successor of this process. */
  get state(): GroupState {
    return { options: writeOptions(this.options), members: this.#members };
  }

  /** Takes over a channel that another group of this label created, whatever its socket; before `start`. */
  adopt(label: string): void {
    this.#members.set(label, '');
  }

  /** Starts watching; resolves when the existing sockets have their channels. */
  start(): Promise<void> {
    return this.#rescan();
  }

  /** Stops adding and removing channels. The channels stay. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelRescan?.();
    this.#cancelLook?.();
    this.#watcher?.close();
    this.#skipped.stop();
  }

  /** Reads the folder soon. */
  look(): void {
    if (this.#isStopped) return;
    this.#cancelLook ??= this.#clock.schedule(SETTLE_MS, () => {
      this.#cancelLook = null;
      void this.#scan();
    });
  }

  /** A channel of the group gained or lost its session. */
  sessionChanged(label: string): void {
    if (this.#leaving.has(label)) this.look();
  }

  async #rescan(): Promise<void> {
    this.#watch();
    await this.#scan();
    if (!this.#isStopped) this.#cancelRescan = this.#clock.schedule(RESCAN_MS, () => void this.#rescan());
  }

  /** Watches the current folder: it may have been removed and recreated since the last time. */
  #watch(): void {
    this.#watcher?.close();
    this.#watcher = null;
    if (this.#isStopped) return;
    try {
      this.#watcher = watch(this.pattern.folder, (_type, name) => {
        if (name === null || this.pattern.match(name) !== null) this.look();
      });
      // Without the watcher the folder is still read periodically.
      this.#watcher.on('error', () => undefined);
    } catch (error) {
      // Reading the folder reports a missing one.
      if (systemCode(error) === 'ENOENT') return;
      const how = `reading it every ${RESCAN_MS / 1000} s instead`;
      const message = `cannot watch ${this.#folder}: ${describeError(error)}; ${how}`;
      this.#tell(WATCHING, makeEvent('group-unwatched', message, {}));
    }
  }

  /** Reads the folder, and adds and removes channels to match its sockets; one scan at a time. */
  #scan(): Promise<void> {
    this.#scanning = this.#scanning.then(async () => {
      const found = this.#isStopped ? null : await this.#read();
      if (found === null) return;
      const { sockets, skipped } = found;
      for (const [path, problem] of skipped) this.#skip(path, problem);
      for (const label of [...this.#members.keys()]) if (!sockets.has(label)) await this.#leave(label);
      for (const [label, identity] of sockets) await this.#meet(label, identity);
      const paths = [...sockets.keys()].map((label) => this.pattern.pathOf(label));
      const present = new Set([FOLDER, WATCHING, ...skipped.keys(), ...paths]);
      this.#told = new Map([...this.#told].filter(([subject]) => present.has(subject)));
    });
    return this.#scanning;
  }

  /** Reads the folder: empty if it does not exist, null if it cannot be read. */
  async #read(): Promise<GroupFolder | null> {
    try {
      const found = await readGroupFolder(this.pattern);
      this.#told.delete(FOLDER);
      return found;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') {
        this.#tell(FOLDER, makeEvent('group-waiting', `waiting for the folder ${this.#folder}`, {}));
        return { sockets: new Map(), skipped: new Map() };
      }
      this.#tell(FOLDER, makeEvent('group-failed', `cannot read ${this.#folder}: ${describeError(error)}`, {}));
      return null;
    }
  }

  /** The socket of a label exists. */
  async #meet(label: string, identity: string): Promise<void> {
    this.#leaving.delete(label);
    const known = this.#members.get(label);
    if (known === identity || this.#isStopped) return;
    const channel = this.#find(label);
    this.#members.set(label, identity);
    // A channel that a user removed is not added again while its socket exists.
    if (channel === null ? known !== undefined : channel.state !== 'failed') return;
    const path = this.pattern.pathOf(label);
    try {
      // A failed channel may work with a new socket, or with the same one under another owner.
      if (channel !== null) await this.#host.remove(label);
      await this.#host.add(this.optionsFor(label));
      this.#log(makeEvent('group-added', `channel ${label} added for ${escapeText(path)}`, { channel: label }));
    } catch (error) {
      this.#members.delete(label);
      const { code, message } = toVproxyError(error);
      if (code !== 'shutdown') this.#skip(path, message, { channel: label, code });
    }
  }

  /** The socket of a label was removed: removes its channel, or waits until its session has ended. */
  async #leave(label: string): Promise<void> {
    const channel = this.#find(label);
    if (channel !== null && channel.session !== null) {
      this.#leaving.add(label);
      return;
    }
    this.#leaving.delete(label);
    this.#members.delete(label);
    if (channel === null || this.#isStopped) return;
    await this.#host.remove(label).catch(() => undefined);
    const message = `channel ${label} removed: ${escapeText(this.pattern.pathOf(label))} no longer exists`;
    this.#log(makeEvent('group-removed', message, { channel: label }));
  }

  #find(label: string): ChannelStatus | null {
    const channel = this.#host.find(label);
    return channel?.group === this.label ? channel : null;
  }

  get #folder(): string {
    return escapeText(this.pattern.folder);
  }

  #skip(path: string, problem: string, fields: EventFields<'group-skipped'> = {}): void {
    const event = makeEvent('group-skipped', `no channel for ${escapeText(path)}: ${problem}`, fields);
    this.#tell(path, event, (told) => this.#skipped.log(told));
  }

  /** Logs a line about a subject, unless it repeats the last one. */
  #tell(subject: string, event: LogEvent, log: Log = (told) => this.#log(told)): void {
    if (this.#told.get(subject) === event.message) return;
    this.#told.set(subject, event.message);
    log(event);
  }

  #log({ message, fields, ...event }: LogEvent): void {
    const prefix = this.label === DEFAULT_LABEL ? '' : `${this.label}: `;
    this.#host.log({ ...event, message: `${prefix}${message}`, fields: { group: this.label, ...fields } });
  }
}

/** The sockets that match a group. */
interface GroupFolder {
  /** By label, with an identity that changes when a socket is replaced, or gets another owner or mode. */
  readonly sockets: ReadonlyMap<string, string>;
  /** Paths without a channel, because what the `*` matches is not a label or because it is a symbolic link, with the reason. */
  readonly skipped: ReadonlyMap<string, string>;
}

/** Reads the folder of a group, in the order of its names. Rejects with the system error. */
export async function readGroupFolder(pattern: GroupPattern): Promise<GroupFolder> {
  const names = (await fs.readdir(pattern.folder)).sort();
  const parts = names.map((name) => pattern.match(name)).filter((part) => part !== null);
  const sockets = new Map<string, string>();
  const skipped = new Map<string, string>();
  // A file may have been removed in the meantime.
  const found = await Promise.all(parts.map((part) => fs.lstat(pattern.pathOf(part)).catch(() => null)));
  for (const [index, part] of parts.entries()) {
    const stats = found[index];
    if (!stats?.isSocket() && !stats?.isSymbolicLink()) continue;
    const problem = stats.isSocket() ? memberLabelProblem(part) : 'it is a symbolic link, which groups do not follow';
    if (problem === null) sockets.set(part, identityOf(stats));
    else skipped.set(pattern.pathOf(part), problem);
  }
  return { sockets, skipped };
}

function identityOf({ dev, ino, ctimeMs }: Stats): string {
  return `${dev}:${ino}:${ctimeMs}`;
}

/** The folders created for the sockets of a group's channels, which are removed with them. */
export class OwnFolders {
  /** Their paths, by channel label. Handed over to a successor. */
  readonly state: Map<string, Set<string>>;

  constructor(state = new Map<string, Set<string>>()) {
    this.state = state;
  }

  /**
   * Creates the missing folders for the unix sockets that `forwards` listen on; returns a function that removes those that are
   * empty. Throws `address-…` codes, and then leaves no new folder.
   */
  make(label: string, forwards: readonly ForwardSpec[]): () => void {
    const made: string[] = [];
    const undo = () => this.#remove(label, made);
    try {
      for (const { direction, endpoint } of forwards) {
        if (direction !== 'outgoing' || endpoint.kind !== 'unix' || !makeSocketFolder(endpoint.path)) continue;
        const folder = dirname(endpoint.path);
        made.push(folder);
        this.state.set(label, (this.state.get(label) ?? new Set()).add(folder));
      }
    } catch (error) {
      undo();
      throw error;
    }
    return undo;
  }

  /** Removes the folders of a channel, unless they are not empty. */
  remove(label: string): void {
    // Nested folders first.
    this.#remove(label, [...(this.state.get(label) ?? [])].reverse());
  }

  /** Removes the folders of all channels. */
  removeAll(): void {
    for (const label of [...this.state.keys()]) this.remove(label);
  }

  #remove(label: string, folders: readonly string[]): void {
    const kept = this.state.get(label);
    for (const folder of folders) {
      try {
        rmdirSync(folder);
      } catch (error) {
        // A replacement of the channel may already have sockets there.
        if (systemCode(error) === 'ENOTEMPTY') continue;
      }
      kept?.delete(folder);
    }
    if (kept?.size === 0) this.state.delete(label);
  }
}
