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
