/** Terminal recordings: their files, size limits and log events (docs/exec.md). */
import { randomBytes } from 'node:crypto';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { type Log, makeEvent } from '../../../events.js';
import { createInOwnFolder } from '../../../system/files/guarded-files.js';
import type { Clock } from '../../../util/clock.js';
import { describeError, escapeText, quoteWord } from '../../../util/escape.js';
import type { CommandFacts } from '../command-log.js';
import type { TerminalRequest } from '../exec-messages.js';
import { CAST_ENDING } from './asciicast.js';
import { TerminalRecording } from './terminal-recording.js';

/** The recording settings of the rule for `exec`. */
export interface RecordingRule {
  /** The absolute path of the folder, which no other user can change. */
  readonly folder: string;
  /** Whether to record typed input, too, which includes passwords. */
  readonly hasInput: boolean;
}

export interface TerminalRecorderOptions {
  /** The label of the channel, the prefix of file names. */
  readonly label: string;
  readonly clock: Clock;
  readonly log: Log;
  /** The maximum size of a recording, in bytes. Default 64 MiB. */
  readonly maxBytes?: number;
  /** The maximum size of all recordings in a folder, in bytes, checked against the last scan. Default 1 GiB. */
  readonly maxFolderBytes?: number;
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly timeOfDay?: () => number;
}

const MAX_BYTES = 67_108_864;
const MAX_FOLDER_BYTES = 1_073_741_824;

/** A recording counts at least this many bytes, so that their number is bounded, too. */
const LEAST_BYTES = 4096;

/** The caller's `TERM` is truncated to this many characters. */
const MAX_TERM_LENGTH = 64;

export class TerminalRecorder {
  readonly #options: Required<TerminalRecorderOptions>;
  readonly #folders = new Map<string, FolderSize>();
  readonly #open = new Set<TerminalRecording>();

  constructor(options: TerminalRecorderOptions) {
    this.#options = { maxBytes: MAX_BYTES, maxFolderBytes: MAX_FOLDER_BYTES, timeOfDay: Date.now, ...options };
  }

  /** Scans the size of a folder, before the first recording begins. Never rejects. */
  prepare({ folder }: RecordingRule): Promise<void> {
    return this.#sizeOf(folder).look();
  }

  /** Begins recording a command's terminal. On failure logs a warning and returns null: the command runs unrecorded. */
  begin({ folder, hasInput }: RecordingRule, facts: CommandFacts, terminal: TerminalRequest): TerminalRecording | null {
    const { label, clock, log, timeOfDay, maxBytes } = this.#options;
    const atMs = timeOfDay();
    const name = `${label}-${stampOf(atMs)}-${randomBytes(4).toString('hex')}${CAST_ENDING}`;
    const path = join(folder, name);
    const warn = (what: string, why: string): void => {
      const message = `${what}: ${escapeText(why, 300)}; the command continues`;
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
      const onCut = (why: string) => warn(`recording ${escapeText(path)} stopped early`, why);
      const recording = new TerminalRecording({ path, fd, clock, header, hasInput, maxBytes, whyFull, onCut });
      this.#open.add(recording);
      void recording.closed.then(() => this.#open.delete(recording));
      return recording;
    } catch (error) {
      warn(`cannot record a terminal in ${escapeText(folder)}`, describeError(error));
      return null;
    }
  }

  /** The number of recordings that have not ended, or are not completely written. */
  get openCount(): number {
    return this.#open.size;
  }

  /** Ends all recordings; resolves when they are written. */
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
    return size.bytes < maxFolderBytes ? null : `the recordings in ${folder} have reached ${maxFolderBytes} bytes`;
  }

  #sizeOf(folder: string): FolderSize {
    const size = this.#folders.get(folder) ?? new FolderSize(folder);
    this.#folders.set(folder, size);
    return size;
  }
}

/** `20261123T084512Z`, in UTC. */
const stampOf = (atMs: number): string => new Date(atMs).toISOString().replace(/[-:]|\.\d+/g, '');

/** The size of all recordings in a folder, including those of other processes, as of the last scan. */
class FolderSize {
  readonly #folder: string;
  #looking: Promise<void> | null = null;
  bytes = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Scans the folder in the background; joins a scan in progress. Resolves when done; never rejects. */
  look(): Promise<void> {
    // An unreadable folder is reported when a file is created in it.
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
