/** Commands for the peer as a part of a channel: what it may run, where it may run anything (docs/exec.md). */
import { access } from 'node:fs/promises';
import { systemCode } from '../errors.js';
import type { ExecRules } from '../exec/allowed-programs.js';
import type { ServiceRegistry } from '../forward/service-registry.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import type { Log } from '../util/log-event.js';
import { BuiltInService } from './built-in-service.js';

/** The name of the service, without the module that has it, which is loaded where commands are allowed. */
export const EXEC_SERVICE: typeof import('../exec/messages.js').EXEC_SERVICE = 'exec';

/** What the peer may run here. */
export type ExecPermission = ExecRules;

export interface ExecServiceOptions {
  readonly registry: ServiceRegistry;
  readonly clock: Clock;
  readonly log: Log;
}

/** The service `exec` of a channel, which offers nothing before it has a permission. */
export function execService({ registry, clock, log }: ExecServiceOptions): BuiltInService<ExecPermission> {
  return new BuiltInService({
    name: EXEC_SERVICE,
    registry,
    log,
    load: async (rules) => {
      const [{ ExecRunner }, { spawnInTerminal }] = await Promise.all([
        import('../exec/exec-runner.js'),
        import('../exec/pty/spawn-in-terminal.js'),
        warnOfMissing(rules, log),
      ]);
      return new ExecRunner({ rules, clock, log, spawnInTerminal });
    },
  });
}

/** A program may be installed later, so this is no error. */
async function warnOfMissing({ commands }: ExecPermission, log: Log): Promise<void> {
  for (const path of commands === 'any' ? [] : commands) {
    await access(path).catch((error: unknown) => {
      if (!['ENOENT', 'ENOTDIR'].includes(systemCode(error))) return;
      const message = `${escapeText(path)} is allowed to be run, but it is not there`;
      log({ level: 'warn', event: 'exec-missing', message, fields: { path } });
    });
  }
}
