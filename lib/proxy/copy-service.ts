/** Files from and to the peer as a part of a channel: where it may read and write, if anywhere (docs/copy.md). */
import type { ServiceRegistry } from '../forward/service-registry.js';
import type { Clock } from '../util/clock.js';
import type { Log } from '../util/log-event.js';
import { BuiltInService } from './built-in-service.js';

/** The name of the service. */
export const COPY_SERVICE = 'copy';

/** Which files the peer may read and write: those under an absolute path, or null: all. */
export interface CopyPermission {
  /** An absolute path, or null. */
  readonly root: string | null;
}

export interface CopyServiceOptions {
  readonly registry: ServiceRegistry;
  readonly clock: Clock;
  readonly log: Log;
}

/** The service `copy` of a channel, which offers nothing before it has a permission. */
export function copyService({ registry, clock, log }: CopyServiceOptions): BuiltInService<CopyPermission> {
  return new BuiltInService({
    name: COPY_SERVICE,
    registry,
    log,
    load: async ({ root }) => {
      const { CopyService } = await import('../copy/copy-service.js');
      return new CopyService({ root, clock, log });
    },
  });
}
