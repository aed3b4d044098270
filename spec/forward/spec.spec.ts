import test from 'ava';
import fc from 'fast-check';
import { VproxyError } from '../../lib/errors.js';
import { formatForwardSpec, parseForwardSpec } from '../../lib/forward/spec.js';

const accepts = test.macro({
  exec(t, text: string, service: string, endpoint: object) {
    t.deepEqual(parseForwardSpec('outgoing', text), { direction: 'outgoing', service, endpoint } as never);
    t.deepEqual(
      parseForwardSpec('outgoing', formatForwardSpec(parseForwardSpec('outgoing', text))).endpoint,
      endpoint as never,
    );
  },
  title: (_, text: string) => `${text} is a forward`,
});

const refuses = test.macro({
  exec(t, text: string, what: RegExp) {
    const error = t.throws(() => parseForwardSpec('incoming', text), { instanceOf: VproxyError, code: 'bad-argument' });
    t.regex(error.message, what);
    t.notRegex(error.message, /\n/);
  },
  title: (_, text) => `${JSON.stringify(text)} is no forward`,
});

test(accepts, 'ssh:127.0.0.1:22', 'ssh', { kind: 'tcp', host: '127.0.0.1', port: 22 });
test(accepts, 'ssh:9022', 'ssh', { kind: 'tcp', host: '127.0.0.1', port: 9022 });
test(accepts, 'ssh:[::1]:22', 'ssh', { kind: 'tcp', host: '::1', port: 22 });
test(accepts, 'ssh:localhost:0', 'ssh', { kind: 'tcp', host: 'localhost', port: 0 });
test(accepts, 'libvirt:/run/libvirt.sock', 'libvirt', { kind: 'unix', path: '/run/libvirt.sock' });
test(accepts, 'libvirt:/run/libvirt.sock:-', 'libvirt', { kind: 'unix', path: '/run/libvirt.sock' });
test(accepts, 'libvirt:unix:/run/a:b', 'libvirt', { kind: 'unix', path: '/run/a:b' });

test(accepts, 'ssh:tcp:[::1]:22', 'ssh', { kind: 'tcp', host: '::1', port: 22 });
test(accepts, '8:tcp:[::1]:22', '8', { kind: 'tcp', host: '::1', port: 22 });
test(accepts, 'x:/run/a,,b', 'x', { kind: 'unix', path: '/run/a,b' });
test(accepts, 'x:/run/a,mode=0660,user=root,group=7', 'x', {
  kind: 'unix',
  path: '/run/a',
  access: { mode: 0o660, user: 'root', group: '7' },
});
test(accepts, 'x:unix:/odd:-:-,group=a,,b', 'x', { kind: 'unix', path: '/odd:-', access: { group: 'a,b' } });

test('a hybrid vsock whose path ends like an empty port is the same again from its text', (t) => {
  const spec = parseForwardSpec('incoming', 'x:vsock-mux:/odd:-:-:22');
  t.deepEqual(spec.endpoint, { kind: 'vsock-mux', path: '/odd:-', port: 22 });
  t.deepEqual(parseForwardSpec('incoming', formatForwardSpec(spec)), spec);
});

test(accepts, 'dns:udp:53', 'dns', { kind: 'udp', host: '127.0.0.1', port: 53 });
test(accepts, 'dns:udp:[::1]:0', 'dns', { kind: 'udp', host: '::1', port: 0 });
test(refuses, 'dns:udp:0', /port 0 cannot be dialled/);

test(refuses, '*:22', /the service \* has no meaning/);
test(refuses, 'x:/run/a,mode=0660', /no option "mode" here; there are none/);
test(refuses, 'ssh', /no colon/);
test(refuses, ':22', /a service is/);
test(refuses, 'SSH:22', /a service is/);
test(refuses, 'ssh:', /ADDR:PORT/);
test(refuses, 'ssh:127.0.0.1', /ADDR:PORT/);
test(refuses, 'ssh:::1:22', /brackets/);
test(refuses, 'ssh:[localhost]:22', /brackets/);
test(refuses, 'ssh:[a[b]:22', /brackets/);
test(refuses, 'ssh:a b:22', /ADDR:PORT/);
test(refuses, 'ssh:a\u001b[2J:22', /ADDR:PORT/);
test(refuses, 'ssh:127.0.0.1:99999', /99999/);
test(refuses, 'ssh:0', /port 0 cannot be dialled/);
test(refuses, 'ssh:unix:relative', /absolute/);
test(refuses, `ssh:/${'x'.repeat(120)}`, /121 bytes exceeds 107/);
test(refuses, 'ssh:/a\0b', /NUL/);

test('any text is a forward or a bad argument in one line', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.constantFrom('', 's:', 's:unix:/', 's:[', 's:/'), (tail, head) => {
      try {
        parseForwardSpec('outgoing', head + tail);
      } catch (error) {
        if (!(error instanceof VproxyError) || error.code !== 'bad-argument' || error.message.includes('\n'))
          throw error;
      }
    }),
  );
  t.pass();
});

/** What ssh takes, and how it is written here. */
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
  test(`ssh's order is refused with how to write it: ${direction} ${text.replace('\u001b', 'ESC')}`, (t) => {
    const error = t.throws(() => parseForwardSpec(direction, text), { code: 'bad-argument' });
    t.true(error.message.endsWith(`: it begins with a port, as with ssh, and not with a service; expected ${written}`));
  });
}

test('what only looks like it is none', (t) => {
  t.is(parseForwardSpec('outgoing', '2222:/run/x.sock').service, '2222');
  t.is(parseForwardSpec('outgoing', '9p:564').service, '9p');
  t.is(parseForwardSpec('incoming', 'localhost:80').service, 'localhost');
  t.is(parseForwardSpec('incoming', '127.0.0.1:80').service, '127.0.0.1');
});
