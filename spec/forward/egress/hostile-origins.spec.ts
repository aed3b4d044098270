/** Hostile origin servers, over real sockets: what the guest who asked gets, and that nothing of one answer is in the next. */
import test, { type ExecutionContext } from 'ava';
import { EgressScene, readAll, readUntil } from '../../helpers/egress.js';
import { localServer } from '../../helpers/proxies.js';
import { HIDDEN_ANSWER, HOSTILE_ORIGINS, type HostileOrigin } from './hostile-origins.js';

const NEXT = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext';
const NEXT_TOLD = NEXT.replace('\r\n\r\n', '\r\nVia: 1.1 vproxy\r\n\r\n');

const request = (method: string): string => `${method} http://one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n`;

/** Asks a server, and once more where the first answer came whole; returns what is wrong, or null. */
async function faultOf(t: ExecutionContext, row: HostileOrigin): Promise<string | null> {
  const { answer, isClosing = false, method = 'GET', outcome } = row;
  let asked = 0;
  const server = await localServer(t, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', () => {
      asked += 1;
      const said = asked === 1 ? answer : NEXT;
      if (isClosing && asked === 1) socket.end(said, 'latin1');
      else socket.write(said, 'latin1');
    });
  });
  const scene = new EgressScene(t, { routes: { 'one.test:80': server.port } });
  const guest = scene.open();
  if (typeof outcome === 'object') {
    const seen = (told: string): string => JSON.stringify({ told, dialled: scene.dialled.length });
    guest.write(request(method), 'latin1');
    const first = await readUntil(guest, outcome.told);
    if (first !== outcome.told) return seen(first);
    guest.end(request('GET'), 'latin1');
    const next = (await readAll(guest)).toString('latin1');
    return next === NEXT_TOLD && scene.dialled.length === (outcome.isKept ? 1 : 2) ? null : seen(next);
  }
  guest.end(request(method), 'latin1');
  const told = await readAll(guest).then(
    (bytes) => bytes.toString('latin1'),
    () => null,
  );
  if (outcome === 'broken-off') return told === null ? null : `not reset: ${JSON.stringify(told)}`;
  const isRefused =
    /^HTTP\/1\.1 502 Bad Answer\r\nContent-Type: text\/plain\r\n(?:[^\r\n]+\r\n)*\r\nvproxy: one\.test:80 [\x20-\x7e]+\n$/.test(
      told ?? '',
    );
  return isRefused && told?.includes('hidden') === false ? null : JSON.stringify(told);
}

for (const outcome of ['bad-answer', 'broken-off', 'passed on'] as const) {
  const rows = HOSTILE_ORIGINS.filter(
    (row) => (typeof row.outcome === 'object' ? 'passed on' : row.outcome) === outcome,
  );
  test(`${rows.length} answers of hostile origin servers: ${outcome}`, async (t) => {
    const faults: string[] = [];
    for (const row of rows) {
      const fault = await faultOf(t, row);
      if (fault !== null) faults.push(`${row.what}: ${fault}`);
    }
    t.deepEqual(faults, []);
  });
}

test('the table has at least the 35 hostile origin servers that were found, and none says what it hides', (t) => {
  t.true(HOSTILE_ORIGINS.length >= 35, `${HOSTILE_ORIGINS.length}`);
  for (const { outcome } of HOSTILE_ORIGINS)
    if (typeof outcome === 'object') t.false(outcome.told.includes(HIDDEN_ANSWER));
});
