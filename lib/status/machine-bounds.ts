/** Words and bounds of the facts about a machine. Imports no schemas, which the answering side does not need. */

/** The longest text, in characters. */
export const MAX_TEXT_LENGTH = 256;

/** The longest lists. */
export const MAX_DISKS = 64;
export const MAX_INTERFACES = 64;
export const MAX_ADDRESSES = 32;
export const MAX_FAILED_UNITS = 32;

/** What `systemctl is-system-running` prints; also `unknown` if systemd could not be queried. */
export const SYSTEMD_STATES = [
  'initializing',
  'starting',
  'running',
  'degraded',
  'maintenance',
  'stopping',
  'offline',
  'unknown',
] as const;

export const CLOUD_INIT_STATES = ['not-started', 'running', 'done', 'degraded', 'error', 'disabled'] as const;
