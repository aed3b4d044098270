/** Words and bounds of what a machine says of itself. Loads no schemas: who answers does not need them. */

/** The longest text, in characters. */
export const MAX_TEXT_LENGTH = 256;

/** The longest lists. */
export const MAX_DISKS = 64;
export const MAX_INTERFACES = 64;
export const MAX_ADDRESSES = 32;
export const MAX_FAILED_UNITS = 32;

/** What `systemctl is-system-running` prints; `unknown`, too, where it could not be asked. */
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

/** How far cloud-init is. */
export const CLOUD_INIT_STATES = ['not-started', 'running', 'done', 'degraded', 'error', 'disabled'] as const;
