/** Findings of `vproxy doctor` except on sockets and peers, which are slow. Each has a case, and a row in docs/doctor.md. */
import test from 'ava';
import { FINDINGS } from '../../../cli/doctor/findings.js';
import { heldOpen } from '../../../cli/doctor/process-list.js';
import { REMEDIES } from '../../../lib/remedies.js';
import { projectText } from '../../helpers/files.js';
import { fakeMachineWithProc } from '../../helpers/machines.js';
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

test('a process is stopped by its unit only if it is the main process of a service', async (t) => {
  const manager = '/user.slice/user-7.slice/user@7.service';
  const processes: Readonly<Record<number, [parent: number, cgroup: string, stop: string | null]>> = {
    1: [0, '/init.scope', null],
    2: [1, '/system.slice/ssh.service', 'systemctl stop ssh.service'],
    3: [2, '/system.slice/ssh.service', 'kill 3'],
    4: [1, '/user.slice/user-7.slice/session-3.scope', 'kill 4'],
    5: [1, '/system.slice/cron.service', 'kill 5'],
    6: [1, '/system.slice/cron.service', 'kill 6'],
    7: [1, `${manager}/init.scope`, null],
    8: [7, `${manager}/app.slice/mine.service`, 'kill 8'],
    9: [8, `${manager}/app.slice/mine.service`, 'kill 9'],
    10: [7, `${manager}/tmux-spawn-2.scope`, 'kill 10'],
    11: [3, '/system.slice/other.service', 'kill 11'],
  };
  const all = Object.entries(processes);
  const files = all.flatMap(([pid, [parent, cgroup]]): [string, string][] => [
    [`proc/${pid}/comm`, ['1', '7'].includes(pid) ? 'systemd\n' : 'program\n'],
    [`proc/${pid}/stat`, `${pid} (a b) c) S ${parent} 1`],
    [`proc/${pid}/cgroup`, `0::${cgroup}\n`],
  ]);
  const links = Object.fromEntries(all.map(([pid]) => [`proc/${pid}/fd/3`, '/dev/ttyS9']));
  const found = await fakeMachineWithProc(t, { files: Object.fromEntries(files), links }).processes();
  t.deepEqual(
    found.holdersOf('/dev/ttyS9').map(({ stop }) => stop()),
    all.map(([, [, , stop]]) => stop),
  );
  const [first] = found.holdersOf('/dev/ttyS9').slice(2);
  t.regex(heldOpen('it is open', first ? [first] : []).remedy ?? '', /: kill 3$/);
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
