/** The table of findings of `vproxy doctor`: each has a spec. */
import test from 'ava';
import { FINDINGS, type FindingId } from '../../../cli/doctor/findings.js';
import { DOMAIN_CASES } from './cases/domains.js';
import { EGRESS_CASES } from './cases/egress.js';
import { KEY_CASES } from './cases/keys.js';
import { LINE_CASES } from './cases/lines.js';
import { LISTENER_CASES } from './cases/listeners.js';
import { MACHINE_CASES } from './cases/machine.js';
import { PEER_CASES } from './cases/peers.js';
import { PORT_CASES } from './cases/ports.js';
import { SOCKET_CASES } from './cases/sockets.js';

const TABLES = [
  MACHINE_CASES,
  PORT_CASES,
  SOCKET_CASES,
  LISTENER_CASES,
  LINE_CASES,
  DOMAIN_CASES,
  EGRESS_CASES,
  KEY_CASES,
  PEER_CASES,
];

test('each finding is brought about by a case', (t) => {
  const provoked = new Set<FindingId>(TABLES.flat().map(({ id }) => id));
  t.deepEqual(
    Object.keys(FINDINGS).filter((id) => !provoked.has(id as FindingId)),
    [],
  );
});
