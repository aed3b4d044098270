/** The terminals of a channel that are recorded, where the rule of `exec` has a folder for them: those of commands here, and of calls to the peer (docs/exec.md). */

import { toVproxyError, VproxyError } from '../../errors.js';
import type { Log } from '../../events.js';
import type { RecordingRule, TerminalRecorder } from '../../exec/recording/terminal-recorder.js';
import type { TerminalRecorders } from '../../exec/served-call.js';
import type { MuxStream } from '../../session/mux-stream.js';
import { requireOwnFolder } from '../../system/files/guarded-files.js';
import { type Clock, settledWithin } from '../../util/clock.js';
import type { ChannelOptions } from '../channel-options.js';
import { EXEC_SERVICE } from './built-in.js';

/** The time that a stop waits for what is not on the disk yet, in milliseconds. */
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

  constructor(options: RecordingsOptions) {
    this.#options = options;
  }

  /** Puts the rule in force, for the terminals that begin from now on. */
  adopt(options: Pick<ChannelOptions, 'policies'>): void {
    this.#rule = ruleOf(options);
    if (this.#rule === null || this.#recorder !== null) return;
    this.#recorder = this.#load(this.#rule);
    // A code that cannot be loaded fails what needs it.
    this.#recorder.catch(() => undefined);
  }

  /** Who records a terminal that begins; null: nobody. */
  readonly find = async (): Promise<TerminalRecorders | null> => {
    const rule = this.#rule;
    const recorder = await this.#recorder;
    return rule === null || recorder === null ? null : { recorder, rule };
  };

  /** What is to be done with a stream to the service `exec` of the peer when it is opened, so that its terminal is recorded. */
  async watcher(): Promise<(stream: MuxStream) => void> {
    const found = await this.find();
    if (found === null) return () => undefined;
    const { RecordedCall } = await import('../../exec/recording/recorded-call.js');
    return (stream) => stream.observe(new RecordedCall({ ...found, log: this.#options.log }));
  }

  /** Ends all recordings. */
  async stop(): Promise<void> {
    const recorder = await this.#recorder?.catch(() => null);
    if (recorder !== undefined && recorder !== null) await settledWithin(this.#options.clock, STOP_MS, recorder.stop());
  }

  async #load(rule: RecordingRule): Promise<TerminalRecorder> {
    const { TerminalRecorder } = await import('../../exec/recording/terminal-recorder.js');
    const recorder = new TerminalRecorder(this.#options);
    await recorder.prepare(rule);
    return recorder;
  }
}

function ruleOf({ policies = {} }: Pick<ChannelOptions, 'policies'>): RecordingRule | null {
  const { recordFolder, recordsInput = false } = policies[EXEC_SERVICE] ?? {};
  return recordFolder === undefined ? null : { folder: recordFolder, hasInput: recordsInput };
}

/** Throws `bad-argument` where terminals are to be recorded in a folder that is missing, or that others could change. */
export function requireRecordable(options: Pick<ChannelOptions, 'policies'>): void {
  const rule = ruleOf(options);
  if (rule === null) return;
  try {
    requireOwnFolder(rule.folder);
  } catch (error) {
    throw new VproxyError('bad-argument', `[services.exec] record: ${toVproxyError(error).message}`, { cause: error });
  }
}
