/** Recordings of a channel's terminals, for commands run here and calls to the peer, if the rule of `exec` asks for it (docs/exec.md). */

import { badArgument, toVproxyError } from '../../errors.js';
import type { Log } from '../../events.js';
import type { RecordingRule, TerminalRecorder } from '../../services/exec/recording/terminal-recorder.js';
import type { TerminalRecorders } from '../../services/exec/served-call.js';
import type { StreamObserver } from '../../session/mux-stream.js';
import { requireOwnFolder } from '../../system/files/guarded-files.js';
import { type Clock, settledWithin } from '../../util/clock.js';
import { formatCount } from '../../util/units.js';
import type { ChannelOptions } from '../channel/channel-options.js';

/** The service that has terminals; its module is not loaded for its name. */
export const EXEC_SERVICE: typeof import('../../services/exec/exec-messages.js').EXEC_SERVICE = 'exec';

/** How long a stop waits for unwritten data, in milliseconds. */
const STOP_MS = 250;

interface RecordingsOptions {
  readonly label: string;
  readonly clock: Clock;
  readonly log: Log;
}

export class Recordings {
  readonly #options: RecordingsOptions;
  #rule: RecordingRule | null = null;
  /** Loaded with the first rule that records. */
  #recorder: Promise<TerminalRecorder> | null = null;
  #loaded: TerminalRecorder | null = null;

  constructor(options: RecordingsOptions) {
    this.#options = options;
  }

  /** Applies the rule to terminals that begin from now on. */
  adopt(options: Pick<ChannelOptions, 'policies'>): void {
    this.#rule = ruleOf(options);
    if (this.#rule === null || this.#recorder !== null) return;
    this.#recorder = this.#load(this.#rule);
    // A load failure surfaces where the recorder is needed.
    this.#recorder.catch(() => undefined);
  }

  /** Finds the recorder for a new terminal; null for none. */
  readonly find = async (): Promise<TerminalRecorders | null> => {
    const rule = this.#rule;
    const recorder = await this.#recorder;
    return rule === null || recorder === null ? null : { recorder, rule };
  };

  /** What records the terminal of a new stream to the peer's service `exec`; null for nothing. */
  async observer(): Promise<StreamObserver | null> {
    const found = await this.find();
    if (found === null) return null;
    const { RecordedCall } = await import('../../services/exec/recording/recorded-call.js');
    return new RecordedCall({ ...found, log: this.#options.log });
  }

  /** What cannot be handed over to a successor, human-readable. */
  get obstacles(): string[] {
    const count = this.#loaded?.openCount ?? 0;
    return count === 0 ? [] : [`${formatCount(count, 'recording')} of a terminal`];
  }

  /** Ends all recordings. */
  async stop(): Promise<void> {
    const recorder = await this.#recorder?.catch(() => null);
    if (recorder !== undefined && recorder !== null) await settledWithin(this.#options.clock, STOP_MS, recorder.stop());
  }

  async #load(rule: RecordingRule): Promise<TerminalRecorder> {
    const { TerminalRecorder } = await import('../../services/exec/recording/terminal-recorder.js');
    const recorder = new TerminalRecorder(this.#options);
    this.#loaded = recorder;
    await recorder.prepare(rule);
    return recorder;
  }
}

function ruleOf({ policies = {} }: Pick<ChannelOptions, 'policies'>): RecordingRule | null {
  const { recordFolder, recordsInput = false } = policies[EXEC_SERVICE] ?? {};
  return recordFolder === undefined ? null : { folder: recordFolder, hasInput: recordsInput };
}

/** Throws `bad-argument` if the folder for recordings is missing, or if others could change it. */
export function requireRecordable(options: Pick<ChannelOptions, 'policies'>): void {
  const rule = ruleOf(options);
  if (rule === null) return;
  try {
    requireOwnFolder(rule.folder);
  } catch (error) {
    throw badArgument(`[services.exec] record: ${toVproxyError(error).message}`, { cause: error });
  }
}
