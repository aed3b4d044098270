/** Findings of `vproxy doctor` except on sockets and peers, which are slow. Each has a case, and a row in docs/doctor.md. */
import test from 'ava';
import { FINDINGS } from '../../../cli/doctor/findings.js';
import { REMEDIES } from '../../../lib/remedies.js';
import { projectText } from '../../helpers/files.js';
import { runCases } from './cases/case.js';
import { DOMAIN_CASES } from './cases/domains.js';
import { EGRESS_CASES } from './cases/egress.js';
import { KEY_CASES } from './cases/keys.js';
import { LINE_CASES } from './cases/lines.js';
import { LISTENER_CASES } from './cases/listeners.js';
import { MACHINE_CASES } from './cases/machine.js';
import { PEER_CASES } from './cases/peers.js';
import { PORT_CASES } from './cases/ports.js';
import { SOCKET_CASES } from './cases/sockets.js';

const QUICK = [MACHINE_CASES, PORT_CASES, LISTENER_CASES, LINE_CASES, DOMAIN_CASES, EGRESS_CASES, KEY_CASES].flat();

runCases(QUICK);

const CASES = [...QUICK, ...SOCKET_CASES, ...PEER_CASES];

test('each finding is provoked by a case, and each remedy of what the doctor examines', (t) => {
  const provoked = new Set(CASES.map(({ id }) => id));
  t.deepEqual(
    Object.keys(FINDINGS).filter((id) => !provoked.has(id)),
    [],
  );
  const shown = new Set(CASES.map(({ subject, id }) => `${subject} ${id}`));
  const remedies = Object.entries(REMEDIES).flatMap(([subject, table]) =>
    subject === 'anything' ? [] : Object.keys(table).map((code) => `${subject} ${code}`),
  );
  t.deepEqual(
    remedies.filter((one) => !shown.has(one)),
    [],
  );
});

test('no finding of its own repeats the remedy of an error', (t) => {
  const ofErrors = new Set<string>(Object.values(REMEDIES).flatMap((table) => Object.values<string>(table)));
  const own = Object.values<{ remedy: string | null }>(FINDINGS).flatMap(({ remedy }) => remedy ?? []);
  t.deepEqual(
    own.filter((text) => ofErrors.has(text)),
    [],
  );
});

test('docs/doctor.md lists each finding: its level, a sentence on its meaning, its remedy', (t) => {
  const text = projectText('docs/doctor.md');
  const rows = [...text.matchAll(/^\| `([a-z-]+-[a-z-]+)` \| (\w+) \| ([A-Z].*?\.) \| (|.*?[^.]) ?\|$/gm)];
  t.deepEqual(
    rows.map(([, id, level, , remedy]) => [id, level, remedy]).sort(),
    Object.entries<{ level: string; remedy: string | null }>(FINDINGS)
      .map(([id, { level, remedy }]) => [id, level, remedy ?? ''])
      .sort(),
  );
});
