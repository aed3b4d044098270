/** Recordings of terminals: where they are kept, how much of them there may be, and what is logged of them (docs/exec.md). */
import { randomBytes } from 'node:crypto';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { type Log, makeEvent } from '../../events.js';
import { createInOwnFolder } from '../../system/files/guarded-files.js';
import type { Clock } from '../../util/clock.js';
import { describeError, escapeText, quoteWord } from '../../util/escape.js';
import type { CommandFacts } from '../command-log.js';
import type { TerminalRequest } from '../exec-messages.js';
import { CAST_ENDING } from './asciicast.js';
import { TerminalRecording } from './terminal-recording.js';

/** What the rule of `exec` says of recordings. */
export interface RecordingRule {
  /** The absolute path of the folder, which nobody else can change. */
  readonly folder: string;
  /** Whether what is typed is recorded, too: passwords among it. */
  readonly hasInput: boolean;
}

export interface TerminalRecorderOptions {
  /** The label of the channel, with which the names of files begin. */
  readonly label: string;
  readonly clock: Clock;
  readonly log: Log;
  /** The most that a recording may have, in bytes. Default 64 MiB. */
  readonly maxBytes?: number;
  /** The most that all recordings in a folder may have, in bytes, as was found when it was looked at last. Default 1 GiB. */
  readonly maxFolderBytes?: number;
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly timeOfDay?: () => number;
}

const MAX_BYTES = 67_108_864;
const MAX_FOLDER_BYTES = 1_073_741_824;

/** What a recording counts at least, in bytes, so that their number is bounded, too. */
const LEAST_BYTES = 4096;

/** How much is kept of what a caller says that `TERM` is, in characters. */
const MAX_TERM_LENGTH = 64;

/** Makes the recordings of a channel. */
export class TerminalRecorder {
  readonly #options: Required<TerminalRecorderOptions>;
  readonly #folders = new Map<string, FolderSize>();
  readonly #open = new Set<TerminalRecording>();

  constructor(options: TerminalRecorderOptions) {
    this.#options = { maxBytes: MAX_BYTES, maxFolderBytes: MAX_FOLDER_BYTES, timeOfDay: Date.now, ...options };
  }

  /** Looks at how much there is in a folder, before the first recording begins. Never rejects. */
  prepare({ folder }: RecordingRule): Promise<void> {
    return this.#sizeOf(folder).look();
  }

  /** Begins the recording of a command's terminal. Null where that cannot be, of which the log warns: the command runs all the same. */
  begin({ folder, hasInput }: RecordingRule, facts: CommandFacts, terminal: TerminalRequest): TerminalRecording | null {
    const { label, clock, log, timeOfDay, maxBytes } = this.#options;
    const atMs = timeOfDay();
    const name = `${label}-${stampOf(atMs)}-${randomBytes(4).toString('hex')}${CAST_ENDING}`;
    const path = join(folder, name);
    const warn = (what: string, why: string): void => {
      const message = `${what}: ${escapeText(why, 300)}; the command goes on`;
      log(makeEvent('recording-failed', message, { recording: path, why }));
    };
    const whyFull = (): string | null => this.#whyFull(folder);
    const { columns, rows, term } = terminal;
    const header = {
      size: { columns, rows },
      timestamp: Math.floor(atMs / 1000),
      command: facts.argv.length === 0 ? null : facts.argv.map(quoteWord).join(' '),
      term: term.slice(0, MAX_TERM_LENGTH),
    };
    try {
      const full = whyFull();
      if (full !== null) throw new Error(full);
      const fd = createInOwnFolder(folder, name);
      const onCut = (why: string) => warn(`the recording ${escapeText(path)} ends before its terminal`, why);
      const recording = new TerminalRecording({ path, fd, clock, header, hasInput, maxBytes, whyFull, onCut });
      this.#open.add(recording);
      void recording.closed.then(() => this.#open.delete(recording));
      return recording;
    } catch (error) {
      warn(`no terminal is recorded in ${escapeText(folder)}`, describeError(error));
      return null;
    }
  }

  /** Ends all recordings; resolved when they are on their disk. */
  async stop(): Promise<void> {
    await Promise.all(
      [...this.#open].map((recording) => {
        recording.end();
        return recording.closed;
      }),
    );
  }

  #whyFull(folder: string): string | null {
    const { maxFolderBytes } = this.#options;
    const size = this.#sizeOf(folder);
    void size.look();
    return size.bytes < maxFolderBytes ? null : `the recordings in ${folder} may have ${maxFolderBytes} bytes`;
  }

  #sizeOf(folder: string): FolderSize {
    const size = this.#folders.get(folder) ?? new FolderSize(folder);
    this.#folders.set(folder, size);
    return size;
  }
}

/** `20261123T084512Z`, in UTC. */
const stampOf = (atMs: number): string => new Date(atMs).toISOString().replace(/[-:]|\.\d+/g, '');

/** How much the recordings in a folder have, those of other processes among them: what it was when it was looked at last. */
class FolderSize {
  readonly #folder: string;
  #looking: Promise<void> | null = null;
  bytes = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Looks, beside everything else, unless somebody does; resolved when that is done. Never rejects. */
  look(): Promise<void> {
    // A folder that cannot be read is reported where a file is made in it.
    this.#looking ??= this.#sum()
      .catch(() => undefined)
      .finally(() => {
        this.#looking = null;
      });
    return this.#looking;
  }

  async #sum(): Promise<void> {
    let bytes = 0;
    for await (const { name } of await fs.opendir(this.#folder)) {
      if (!name.endsWith(CAST_ENDING)) continue;
      const found = await fs.lstat(join(this.#folder, name)).catch(() => null);
      bytes += Math.max(found?.size ?? 0, LEAST_BYTES);
    }
    this.bytes = bytes;
  }
}
