import test from 'ava';
import fc from 'fast-check';
import { VproxyError } from '../../lib/errors.js';
import type { Direction } from '../../lib/forward/forms/endpoint-form.js';
import { formatForwardSpec, parseForwardSpec } from '../../lib/forward/spec.js';
import { fixtureRows } from '../helpers/files.js';
import { ANY_CHARACTER } from '../helpers/searches.js';

const tcp = (host: string, port: number) => ({ kind: 'tcp', host, port });
const unix = (path: string, access?: object) => ({ kind: 'unix', path, ...(access !== undefined && { access }) });
const file = (path: string, rotation?: object) => ({ kind: 'file', path, ...(rotation !== undefined && { rotation }) });
const mux = (path: string, more: object) => ({ kind: 'vsock-mux', path, ...more });
const resolver = (name: string, ...servers: readonly (readonly [host: string, port: number])[]) => ({
  ...{ kind: 'resolver', name },
  ...(servers.length > 0 && { servers: servers.map(([host, port]) => ({ host, port })) }),
});

const READ: readonly (readonly [direction: Direction, text: string, endpoint: object])[] = [
  ['outgoing', 'ssh:127.0.0.1:22', tcp('127.0.0.1', 22)],
  ['outgoing', 'ssh:9022', tcp('127.0.0.1', 9022)],
  ['outgoing', 'ssh:[::1]:22', tcp('::1', 22)],
  ['outgoing', 'ssh:localhost:0', tcp('localhost', 0)],
  ['outgoing', 'ssh:tcp:[::1]:22', tcp('::1', 22)],
  ['outgoing', '8:tcp:[::1]:22', tcp('::1', 22)],
  ['outgoing', 'libvirt:/run/libvirt.sock', unix('/run/libvirt.sock')],
  ['outgoing', 'libvirt:/run/libvirt.sock:-', unix('/run/libvirt.sock')],
  ['outgoing', 'libvirt:unix:/run/a:b', unix('/run/a:b')],
  ['outgoing', 'x:/run/a,,b', unix('/run/a,b')],
  ['outgoing', 'x:/run/a,mode=0660,user=root,group=7', unix('/run/a', { mode: 0o660, user: 'root', group: '7' })],
  ['outgoing', 'x:unix:/odd:-:-,group=a,,b', unix('/odd:-', { group: 'a,b' })],
  ['outgoing', 'dns:udp:53', { kind: 'udp', host: '127.0.0.1', port: 53 }],
  ['outgoing', 'dns:udp:[::1]:0', { kind: 'udp', host: '::1', port: 0 }],
  ['incoming', 'run:exec:grep -c "a,b:c" | tr a b', { kind: 'exec', command: 'grep -c "a,b:c" | tr a b' }],
  ['incoming', 'web:egress:internet', { kind: 'egress', name: 'internet' }],
  ['incoming', 'internet:egress:', { kind: 'egress', name: '' }],
  ['incoming', 'syslog:file:/var/log/vm1.log', file('/var/log/vm1.log')],
  ['incoming', 'syslog:file:/a,,b,rotate=10M,keep=3', file('/a,b', { maxBytes: 10 * 2 ** 20, keep: 3 })],
  ['incoming', 'syslog:file:/a,rotate=5000', file('/a', { maxBytes: 5000, keep: 5 })],
  ['incoming', 'ssh:vsock-mux:/run/fc.sock:22', mux('/run/fc.sock', { port: 22 })],
  ['incoming', 'ssh:vsock-mux:/run/a:b,,c:4294967295', mux('/run/a:b,c', { port: 4294967295 })],
  // Its path ends like an empty port.
  ['incoming', 'x:vsock-mux:/odd:-:-:22', mux('/odd:-', { port: 22 })],
  ['outgoing', '*:vsock-mux:/run/vm1.vsock', mux('/run/vm1.vsock', {})],
  [
    ...(['outgoing', '*:vsock-mux:/run/v,1234=ssh,mode=0660'] as const),
    mux('/run/v', { services: { 1234: 'ssh' }, access: { mode: 0o660 } }),
  ],
  ['incoming', 'dns:resolver:', resolver('')],
  ['incoming', 'dns:resolver:internet', resolver('internet')],
  ['incoming', 'dns:resolver:,server=10.0.0.1', resolver('', ['10.0.0.1', 53])],
  [
    ...(['incoming', 'dns:resolver:x,server=10.0.0.1:5353,server=::1,server=[::1]:54'] as const),
    resolver('x', ['10.0.0.1', 5353], ['::1', 53], ['::1', 54]),
  ],
];

for (const [direction, text, endpoint] of READ) {
  test(`${text} is an ${direction} forward`, (t) => {
    const spec = parseForwardSpec(direction, text);
    t.deepEqual(spec, { direction, service: text.slice(0, text.indexOf(':')), endpoint } as never);
    t.deepEqual(parseForwardSpec(direction, formatForwardSpec(spec)), spec);
  });
}

const TCP = 'SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path';

for (const [says, ...forwards] of [
  [`path of a unix socket too long: 121 bytes (max 107); expected ${TCP}`, `-i ssh:/${'x'.repeat(120)}`],
  ...fixtureRows('refused-forwards.txt'),
] as const) {
  for (const forward of forwards) {
    const direction = forward.startsWith('-i ') ? 'incoming' : 'outgoing';
    const text = forward.slice('-i '.length);
    test(`${JSON.stringify(text)} is not an ${direction} forward`, (t) => {
      const wanted = { instanceOf: VproxyError, code: 'bad-argument' };
      const { message } = t.throws(() => parseForwardSpec(direction, text), wanted);
      t.true(message.endsWith(`: ${says}`), message);
      t.notRegex(message, /\n/);
    });
  }
}

test('any text is a forward, or a bad argument in one line', (t) => {
  fc.assert(
    fc.property(
      fc.string({ unit: ANY_CHARACTER }),
      fc.constantFrom('', 's:', 's:unix:/', 's:[', 's:/'),
      (tail, head) => {
        try {
          parseForwardSpec('outgoing', head + tail);
        } catch (error) {
          if (!(error instanceof VproxyError) || error.code !== 'bad-argument' || error.message.includes('\n'))
            throw error;
        }
      },
    ),
  );
  t.pass();
});

/** ssh's order, and how to write it here. */
for (const [direction, text, written] of [
  ['outgoing', '2222:127.0.0.1:22', '-o NAME:2222 here, and -i NAME:127.0.0.1:22 at the peer, with a NAME such as ssh'],
  ['incoming', '2222:127.0.0.1:22', '-i NAME:127.0.0.1:22 here, and -o NAME:2222 at the peer, with a NAME such as ssh'],
  ['outgoing', '8080:80', '-o NAME:8080 here, and -i NAME:80 at the peer, with a NAME such as web'],
  ['outgoing', '*:2222:vm:80', '-o NAME:0.0.0.0:2222 here, and -i NAME:vm:80 at the peer, with a NAME such as web'],
  ['outgoing', '[::1]:1:[::2]:22', '-o NAME:[::1]:1 here, and -i NAME:[::2]:22 at the peer, with a NAME such as ssh'],
  [
    'outgoing',
    'localhost:1:a\u001b:2',
    '-o NAME:localhost:1 here, and -i NAME:a\\x1b:2 at the peer, with a NAME such as web',
  ],
] as const) {
  test(`ssh's order is refused with the correct form: ${direction} ${text.replace('\u001b', 'ESC')}`, (t) => {
    const error = t.throws(() => parseForwardSpec(direction, text), { code: 'bad-argument' });
    t.true(error.message.endsWith(`: begins with a port, as in ssh, instead of a service; expected ${written}`));
  });
}

test('texts that only look like the order of ssh are forwards', (t) => {
  t.is(parseForwardSpec('outgoing', '2222:/run/x.sock').service, '2222');
  t.is(parseForwardSpec('outgoing', '9p:564').service, '9p');
  t.is(parseForwardSpec('incoming', 'localhost:80').service, 'localhost');
});
