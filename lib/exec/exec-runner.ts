/** The place of the runner of commands until it is there: it serves nobody. */
import type { Duplex } from 'node:stream';
import { VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import type { Log } from '../util/log-event.js';

/** What may be run. */
export interface ExecRules {
  readonly commands: 'any' | readonly string[];
}

export interface ExecRunnerOptions {
  readonly rules: ExecRules;
  readonly clock: Clock;
  readonly log: Log;
}

/** Refuses every stream. */
export class ExecRunner {
  readonly #streams = new Set<Duplex>();

  constructor(_options: ExecRunnerOptions) {}

  serve(stream: Duplex): void {
    this.#streams.add(stream);
    stream.destroy(new VproxyError('exec-unavailable', 'commands cannot be run yet'));
  }

  get runningCount(): number {
    return 0;
  }

  async stop(): Promise<void> {
    for (const stream of this.#streams) stream.destroy();
    return Promise.resolve();
  }
}
