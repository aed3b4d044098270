import test from 'ava';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import { givenIn } from '../helpers/given-options.js';

test('--vsock-port gives ports a meaning on every hybrid listener, which may say otherwise itself', (t) => {
  const { channels } = mergeConfiguration(
    null,
    parseRunFlags(
      givenIn({
        channel: 'unix-connect:/x',
        outgoing: ['*:vsock-mux:/a', '*:vsock-mux:/b,22=other', 'ssh:9022'],
        'vsock-port': ['22=ssh', '80=web'],
      }),
    ),
  );
  t.deepEqual(
    channels[0]?.forwards?.map(({ endpoint }) => endpoint),
    [
      { kind: 'vsock-mux', path: '/a', services: { 22: 'ssh', 80: 'web' } },
      { kind: 'vsock-mux', path: '/b', services: { 22: 'other', 80: 'web' } },
      { kind: 'tcp', host: '127.0.0.1', port: 9022 },
    ],
  );
});
