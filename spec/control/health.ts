/** `/healthz` and `/readyz`, for probes. */
import test from 'ava';
import type { ProcessControl } from '../../lib/control/context/context.js';
import { answerReadiness } from '../../lib/control/context/health.js';
import { ask, startControl } from '../helpers/control.js';
import { steeredPair, TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

/** The answer of a process with channels vm1, vm2, …, of which the first `up` are ready. */
function readiness(up: number, count: number, process: Pick<ProcessControl, 'ready' | 'isDraining'>, query = '') {
  const channels = Array.from({ length: count }, (_, index) => ({ label: `vm${index + 1}`, isReady: index < up }));
  const { status, body } = answerReadiness({ proxy: { listReady: () => channels }, process }, query);
  return `${status} ${body}`;
}

for (const [ready, up, count, query, expected] of [
  ['any', 1, 3, '', '200 ready: session on 1 of 3 channels'],
  ['all', 2, 3, '', '503 not ready: session on 2 of 3 channels, 3 needed; none on vm3'],
  ['all', 0, 0, '', '200 ready: session on 0 of 0 channels'],
  [2, 2, 3, '', '200 ready: session on 2 of 3 channels'],
  [2, 1, 200, '', '503 not ready: session on 1 of 200 channels, 2 needed; none on vm2, vm3, vm4, vm5, vm6, 194 more'],
  [3, 2, 2, '', '503 not ready: session on 2 of 2 channels, 3 needed'],
  [0, 0, 1, 'service=ssh', '200 ready: service ssh on 0 of 1 channels'],
  ['any', 1, 3, 'channel=vm3', '503 not ready: session on 0 of 1 channels, 1 needed; none on vm3'],
  ['all', 1, 3, 'channel=vm1&service=ssh', '200 ready: service ssh on 1 of 1 channels'],
  ['any', 1, 1, 'channel=vm2', '404 channel: no channel "vm2"'],
  ['any', 1, 1, 'channel=%1b[2J', '404 channel: no channel "\\x1b[2J"'],
  ['any', 1, 1, 'service=', '400 service: "" is not a valid service name'],
  ['any', 1, 1, 'chanel=vm1', '400 chanel: unknown field; did you mean channel?'],
  ['any', 1, 1, 'channel=vm1&channel=vm1', '400 channel: given twice'],
] as const) {
  test(`ready = ${ready}, ${up} of ${count} up, "${query}": ${expected}`, (t) => {
    t.is(readiness(up, count, { ready }, query), `${expected}\n`);
  });
}

test('a draining process is not ready, whatever it has', (t) => {
  t.is(readiness(1, 1, { ready: 0, isDraining: true }), '503 not ready: draining\n');
});

test('probes over TCP: a service of the peer, HEAD, and a channel without a peer', async (t) => {
  const alone = await startControl(t, new TestProxy(t, 'unix-connect:/nowhere/c').proxy);
  const { control } = await steeredPair(t, { peer: { incoming: ['ssh:22'] } });
  const joined = await control.server.listenForMetrics({ host: '127.0.0.1', port: 0 });
  const lonely = await alone.server.listenForMetrics({ host: '127.0.0.1', port: 0 });
  const probe = async (path: string, method = 'GET', at = joined) => (await ask(at, method, path)).status;
  await eventually(async () => (await probe('/readyz?service=ssh')) === 200, { what: 'the service' });
  const statuses = [await probe('/readyz?service=db'), await probe('/healthz'), await probe('/healthz?x=1')];
  t.deepEqual(statuses, [503, 200, 400]);
  t.deepEqual([await probe('/readyz', 'HEAD'), await probe('/readyz', 'POST')], [200, 405]);
  t.deepEqual([await probe('/healthz', 'GET', lonely), await probe('/readyz', 'HEAD', lonely)], [200, 503]);
});
