/** Everything that the doctor can find. docs/doctor.md has the same tables, and a spec provokes each row. */
import { DOMAIN_FINDINGS } from './findings/domains.js';
import { KEY_FINDINGS } from './findings/keys.js';
import { LINE_FINDINGS } from './findings/lines.js';
import { LISTENER_FINDINGS } from './findings/listeners.js';
import { MACHINE_FINDINGS } from './findings/machine.js';
import { PATH_FINDINGS } from './findings/paths.js';
import { PEER_FINDINGS } from './findings/peers.js';
import { PORT_FINDINGS } from './findings/ports.js';
import { SOCKET_FINDINGS } from './findings/sockets.js';

/** Every finding by its id. */
export const FINDINGS = {
  ...MACHINE_FINDINGS,
  ...PATH_FINDINGS,
  ...PORT_FINDINGS,
  ...SOCKET_FINDINGS,
  ...LISTENER_FINDINGS,
  ...LINE_FINDINGS,
  ...DOMAIN_FINDINGS,
  ...KEY_FINDINGS,
  ...PEER_FINDINGS,
} as const;

/** The id of a finding. */
export type FindingId = keyof typeof FINDINGS;
