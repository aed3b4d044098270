/** The near end of the load, as seen by the controlling process. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { within } from '../../../spec/helpers/time.js';
import type { LoadAnswer, LoadCommand, LoadFigures } from './command.js';

/** The default deadline of a command. */
const COMMAND_TIMEOUT_MS = 30_000;

/** A process of the load generator. The first command starts it, and the next one after a failure restarts it. */
export class LoadClient {
  readonly #timeoutMs: number;
  #child: ChildProcess | undefined;
  #cpuSeconds = 0;

  /** The default deadline of a command, in milliseconds. */
  constructor(timeoutMs = COMMAND_TIMEOUT_MS) {
    this.#timeoutMs = timeoutMs;
  }

  /** CPU time that all its commands have taken so far, in seconds. */
  get cpuSeconds(): number {
    return this.#cpuSeconds;
  }

  /** Runs a command to its end. Rejects when it fails or times out; held connections are then closed. */
  async run(command: LoadCommand, timeoutMs = this.#timeoutMs): Promise<LoadFigures> {
    const child = (this.#child ??= startClient());
    const answered = new Promise<LoadAnswer>((resolve, reject) => {
      child.once('message', resolve);
      child.once('exit', () => reject(new Error('the load generator ended')));
    });
    try {
      child.send(command);
      const answer = await within(timeoutMs, command.kind, answered);
      this.#cpuSeconds += answer.cpuSeconds;
      if ('failure' in answer) throw new Error(answer.failure);
      return answer.figures;
    } catch (error) {
      this.stop();
      throw error;
    } finally {
      child.removeAllListeners('message').removeAllListeners('exit');
    }
  }

  /** Ends the process, and with it all held connections. */
  stop(): void {
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }
}

function startClient(): ChildProcess {
  // Unlike JSON, this supports Infinity.
  return fork(fileURLToPath(new URL('client.js', import.meta.url)), { serialization: 'advanced' });
}
