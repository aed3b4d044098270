/** The audit log of a process. */
import type { AuditPlace } from '../lib/config/configuration.js';
import { VproxyError } from '../lib/errors.js';
import { AuditLog } from '../lib/proxy/audit-log.js';
import { systemClock } from '../lib/util/clock.js';
import { describeError } from '../lib/util/describe-error.js';
import { escapeText } from '../lib/util/escape.js';
import type { Log } from '../lib/util/log-event.js';

/** Opens it, and makes the file where there is none. Throws `cannot-create`. */
export function openAuditLog({ path, rotation }: AuditPlace, log: Log): AuditLog {
  const audit = new AuditLog({ path, rotation, clock: systemClock, log });
  try {
    audit.open();
    return audit;
  } catch (cause) {
    throw new VproxyError('cannot-create', `--audit ${escapeText(path)}: ${describeError(cause)}`, { cause });
  }
}
