/** The place of the copies until they are there: it serves nobody. */
import type { Duplex } from 'node:stream';
import { VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';
import type { Log } from '../util/log-event.js';

export interface CopyServiceOptions {
  readonly root: string | null;
  readonly clock: Clock;
  readonly log: Log;
}

/** Refuses every stream. */
export class CopyService {
  constructor(_options: CopyServiceOptions) {}

  serve(stream: Duplex): void {
    stream.destroy(new VproxyError('exec-unavailable', 'files cannot be copied yet'));
  }

  async stop(): Promise<void> {
    return Promise.resolve();
  }
}
