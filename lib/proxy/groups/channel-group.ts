/** A group of channels: one for each socket in a folder that is watched, such as those of QEMU's machines. */

import { type FSWatcher, promises as fs, rmdirSync, type Stats, watch } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode, toVproxyError } from '../../errors.js';
import { type EventFields, type Log, type LogEvent, makeEvent } from '../../events.js';
import type { ForwardSpec } from '../../forward/spec.js';
import type { ChannelStatus } from '../../status/types.js';
import { makeSocketFolder } from '../../system/sockets/listening.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { describeError, escapeText } from '../../util/escape.js';
import { type ChannelOptions, DEFAULT_LABEL } from '../channel-options.js';
import { checkGroupOptions } from '../check-options.js';
import { LogLimit } from '../log-limit.js';
import { type GroupPattern, memberLabelProblem, memberOptions } from './group-pattern.js';

/** How often the folder is read although nothing told of a change: events get lost, and the folder may not be there. */
const RESCAN_MS = 5000;

/** How long after an event the folder is read: what comes together is read together. */
const SETTLE_MS = 50;

/** What lines are about that are about no path in the folder. */
const FOLDER = 'the folder';
const WATCHING = 'watching';

/** What a group does to its proxy. */
export interface GroupHost {
  /** The channel of a label, of this group or not; null where it is missing. */
  find(label: string): ChannelStatus | null;
  /** Adds a channel. Rejects as `Proxy.addChannel` does, and with `shutdown` where the group is not in force any more. */
  add(options: ChannelOptions): Promise<unknown>;
  /** Removes a channel of the group at once. Rejects with `shutdown`, as above. */
  remove(label: string): Promise<unknown>;
  readonly log: Log;
}

/** A group; a successor of this process goes on with it. */
export interface GroupState {
  readonly options: ChannelOptions;
  /** The labels that got a channel, also one that was removed by hand since, each with what tells its socket from others. */
  readonly members: Map<string, string>;
}

/**
 * Adds a channel for each socket that fits, named by what the `*` stands for, and removes it when the socket has gone
 * and the channel has no session. `start` once, then `stop` once.
 */
export class ChannelGroup {
  readonly label: string;
  readonly state: GroupState;
  readonly pattern: GroupPattern;
  readonly #host: GroupHost;
  readonly #clock: Clock;
  /** Who may make files in the folder can cause any number of lines. */
  readonly #skipped: LogLimit;
  /** Those whose socket has gone while they had a session. */
  readonly #leaving = new Set<string>();
  /** What was said last of the folder, or of a path in it, so that it is said once. */
  #told = new Map<string, string>();
  #watcher: FSWatcher | null = null;
  #cancelRescan: CancelTimer | null = null;
  #cancelLook: CancelTimer | null = null;
  #scanning: Promise<void> = Promise.resolve();
  #isStopped = false;

  /** Throws what `checkGroupOptions` throws. */
  constructor(state: GroupState, host: GroupHost, clock: Clock) {
    const { label, pattern } = checkGroupOptions(state.options);
    this.label = label;
    this.state = state;
    this.pattern = pattern;
    this.#host = host;
    this.#clock = clock;
    this.#skipped = new LogLimit({ log: (event) => this.#log(event), clock });
  }

  /** The channel of a label. Throws `bad-argument` where the template makes no valid forward of it. */
  optionsFor(label: string): ChannelOptions {
    return memberOptions(this.state.options, this.pattern, label);
  }

  /** Takes a channel over that another group of this label made, whatever its socket; before `start`. */
  adopt(label: string): void {
    this.state.members.set(label, '');
  }

  /** Begins to watch; resolved when the sockets that are there have their channels. */
  start(): Promise<void> {
    return this.#rescan();
  }

  /** Adds and removes nothing any more. The channels stay. */
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

  /** A channel of the group has a session, or has it no more. */
  sessionChanged(label: string): void {
    if (this.#leaving.has(label)) this.look();
  }

  async #rescan(): Promise<void> {
    this.#watch();
    await this.#scan();
    if (!this.#isStopped) this.#cancelRescan = this.#clock.schedule(RESCAN_MS, () => void this.#rescan());
  }

  /** Watches the folder as it is now: since the last time it may have been removed and made again. */
  #watch(): void {
    this.#watcher?.close();
    this.#watcher = null;
    if (this.#isStopped) return;
    try {
      this.#watcher = watch(this.pattern.folder, (_type, name) => {
        if (name === null || this.pattern.match(name) !== null) this.look();
      });
      // Without it the folder is still read again and again.
      this.#watcher.on('error', () => undefined);
    } catch (error) {
      // Reading the folder tells the same of one that is not there.
      if (systemCode(error) === 'ENOENT') return;
      const how = `it is only read every ${RESCAN_MS / 1000} s`;
      const message = `cannot watch ${this.#folder}, ${how}: ${describeError(error)}`;
      this.#tell(WATCHING, makeEvent('group-unwatched', message, {}));
    }
  }

  /** Reads the folder, and makes the channels those of its sockets; one scan after the other. */
  #scan(): Promise<void> {
    this.#scanning = this.#scanning.then(async () => {
      const found = this.#isStopped ? null : await this.#read();
      if (found === null) return;
      const { sockets, skipped } = found;
      for (const [path, problem] of skipped) this.#skip(path, problem);
      for (const label of [...this.state.members.keys()]) if (!sockets.has(label)) await this.#leave(label);
      for (const [label, identity] of sockets) await this.#meet(label, identity);
      const paths = [...sockets.keys()].map((label) => this.pattern.pathOf(label));
      const present = new Set([FOLDER, WATCHING, ...skipped.keys(), ...paths]);
      this.#told = new Map([...this.#told].filter(([subject]) => present.has(subject)));
    });
    return this.#scanning;
  }

  /** What is in the folder: nothing while it is not there; null where that cannot be known. */
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

  /** The socket of a label is there. */
  async #meet(label: string, identity: string): Promise<void> {
    this.#leaving.delete(label);
    const known = this.state.members.get(label);
    if (known === identity || this.#isStopped) return;
    const channel = this.#find(label);
    this.state.members.set(label, identity);
    // One that was removed by hand stays so for as long as its socket is there.
    if (channel === null ? known !== undefined : channel.state !== 'failed') return;
    const path = this.pattern.pathOf(label);
    try {
      // One that cannot work may with another socket, or with the same one when it has another owner.
      if (channel !== null) await this.#host.remove(label);
      await this.#host.add(this.optionsFor(label));
      this.#log(makeEvent('group-added', `channel ${label} for ${escapeText(path)}`, { channel: label }));
    } catch (error) {
      this.state.members.delete(label);
      const { code, message } = toVproxyError(error);
      if (code !== 'shutdown') this.#skip(path, message, { channel: label, code });
    }
  }

  /** The socket of a label has gone: its channel goes too, or when its session has ended. */
  async #leave(label: string): Promise<void> {
    const channel = this.#find(label);
    if (channel !== null && channel.session !== null) {
      this.#leaving.add(label);
      return;
    }
    this.#leaving.delete(label);
    this.state.members.delete(label);
    if (channel === null || this.#isStopped) return;
    await this.#host.remove(label).catch(() => undefined);
    const message = `channel ${label} was removed: ${escapeText(this.pattern.pathOf(label))} has gone`;
    this.#log(makeEvent('group-removed', message, { channel: label }));
  }

  /** The channel of a label, if it is one of this group. */
  #find(label: string): ChannelStatus | null {
    const channel = this.#host.find(label);
    return channel?.group === this.label ? channel : null;
  }

  get #folder(): string {
    return escapeText(this.pattern.folder);
  }

  #skip(path: string, problem: string, fields: EventFields<'group-skipped'> = {}): void {
    const event = makeEvent('group-skipped', `${escapeText(path)} gets no channel: ${problem}`, fields);
    this.#tell(path, event, (told) => this.#skipped.log(told));
  }

  /** Logs a line about something, unless it was the last one about it. */
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

/** The sockets that fit a group. */
interface GroupFolder {
  /** By label, with what tells a socket from its successor, and from itself with another owner or mode. */
  readonly sockets: ReadonlyMap<string, string>;
  /** Paths of sockets that get no channel, because what the `*` stands for is no label, and of symbolic links; and why. */
  readonly skipped: ReadonlyMap<string, string>;
}

/** Reads the folder of a group, in the order of its names. Rejects with the error of the system. */
export async function readGroupFolder(pattern: GroupPattern): Promise<GroupFolder> {
  const names = (await fs.readdir(pattern.folder)).sort();
  const parts = names.map((name) => pattern.match(name)).filter((part) => part !== null);
  const sockets = new Map<string, string>();
  const skipped = new Map<string, string>();
  // One may have gone in the meantime.
  const found = await Promise.all(parts.map((part) => fs.lstat(pattern.pathOf(part)).catch(() => null)));
  for (const [index, part] of parts.entries()) {
    const stats = found[index];
    if (!stats?.isSocket() && !stats?.isSymbolicLink()) continue;
    const problem = stats.isSocket()
      ? memberLabelProblem(part)
      : 'it is a symbolic link, which a group does not follow';
    if (problem === null) sockets.set(part, identityOf(stats));
    else skipped.set(pattern.pathOf(part), problem);
  }
  return { sockets, skipped };
}

function identityOf({ dev, ino, ctimeMs }: Stats): string {
  return `${dev}:${ino}:${ctimeMs}`;
}

/** The folders that were made for the sockets of a group's channels, and go with them. */
export class OwnFolders {
  /** Their paths, by the labels of the channels. A successor of this process goes on with them. */
  readonly state: Map<string, Set<string>>;

  constructor(state = new Map<string, Set<string>>()) {
    this.state = state;
  }

  /**
   * Makes what is missing for the unix sockets that `forwards` listen on; gives what takes that back, where the folders
   * are empty. Throws `address-…` codes, and has made nothing then.
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

  /** Removes those that were made for a channel, unless there is still something in them. */
  remove(label: string): void {
    // Those within others first.
    this.#remove(label, [...(this.state.get(label) ?? [])].reverse());
  }

  /** Removes those of all channels. */
  removeAll(): void {
    for (const label of [...this.state.keys()]) this.remove(label);
  }

  #remove(label: string, folders: readonly string[]): void {
    const kept = this.state.get(label);
    for (const folder of folders) {
      try {
        rmdirSync(folder);
      } catch (error) {
        // The channel may have a successor, whose sockets are there already.
        if (systemCode(error) === 'ENOTEMPTY') continue;
      }
      kept?.delete(folder);
    }
    if (kept?.size === 0) this.state.delete(label);
  }
}
