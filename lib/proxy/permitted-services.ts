/** The services of a channel that need the operator's permission, and which permissions are other ones. */
import type { ServiceRegistry } from '../forward/service-registry.js';
import type { Clock } from '../util/clock.js';
import type { Log } from '../util/log-event.js';
import type { ChannelOptions } from './channel-options.js';
import { COPY_SERVICE, copyService } from './copy-service.js';
import { EXEC_SERVICE, execService } from './exec-service.js';

export type Permissions = Pick<ChannelOptions, 'exec' | 'copy'>;

export interface PermittedServicesOptions {
  readonly registry: ServiceRegistry;
  readonly clock: Clock;
  readonly log: Log;
}

/** Offers what is allowed. `start` once, then `stop` once. */
export class PermittedServices {
  readonly #exec: ReturnType<typeof execService>;
  readonly #copy: ReturnType<typeof copyService>;

  constructor(options: PermittedServicesOptions) {
    this.#exec = execService(options);
    this.#copy = copyService(options);
  }

  /** Gives what puts permissions in force; see {@link BuiltInService.prepare}. Throws `bad-argument` where another has the name of a service. */
  prepare({ exec = null, copy = null }: Permissions): () => void {
    const steps = [this.#exec.prepare(exec), this.#copy.prepare(copy)];
    return () => {
      for (const step of steps) step();
    };
  }

  /** Loads what serves the services that are offered. */
  start(): void {
    this.#exec.start();
    this.#copy.start();
  }

  /** Ends commands and copies, within half a second. */
  async stop(): Promise<void> {
    await Promise.all([this.#exec.stop(), this.#copy.stop()]);
  }
}

/** The services that are allowed. */
export const permittedNames = ({ exec = null, copy = null }: Permissions): string[] => [
  ...(exec === null ? [] : [EXEC_SERVICE]),
  ...(copy === null ? [] : [COPY_SERVICE]),
];

/** The services of which the permission is another one. */
export const changedPermissions = (one: Permissions, other: Permissions): string[] => [
  ...(isSame(one.exec, other.exec) ? [] : [EXEC_SERVICE]),
  ...(isSame(one.copy, other.copy) ? [] : [COPY_SERVICE]),
];

const isSame = (one: object | null = null, other: object | null = null): boolean =>
  JSON.stringify(one) === JSON.stringify(other);
