import test from 'ava';
import type { Direction } from '../../lib/forward/endpoint-kind.js';
import { formatForwardSpec } from '../../lib/forward/spec.js';
import { parseChannelArgument, parseForwardArgument } from '../../lib/settings/arguments.js';
import { toTemplate } from '../../lib/settings/forward-settings.js';

const meansChannel = test.macro({
  title: (_, text: string) => `-c ${text}`,
  exec: (t, text: string, label: string, address: string) =>
    t.deepEqual(parseChannelArgument(text), { label, address }),
});

test(meansChannel, 'unix-connect:/run/vm1.sock', 'default', 'unix-connect:/run/vm1.sock');
test(meansChannel, 'vm1=unix-connect:/run/vm1.sock', 'vm1', 'unix-connect:/run/vm1.sock');
test(meansChannel, 'a.b_c-1=tcp://[::1]:9000?frame=4096', 'a.b_c-1', 'tcp://[::1]:9000?frame=4096');
// An equals sign after the colon does not end a label.
test(meansChannel, 'unix-connect:/a,frame=4096', 'default', 'unix-connect:/a,frame=4096');
test(meansChannel, 'stdio:,frame=4096', 'default', 'stdio:,frame=4096');
test(meansChannel, 'vm1=stdio:,frame=4096', 'vm1', 'stdio:,frame=4096');
test(meansChannel, 'unix:///a?frame=4096', 'default', 'unix:///a?frame=4096');
test(meansChannel, 'exec:env A=b ssh', 'default', 'exec:env A=b ssh');
test(meansChannel, 'vm1=vm2=stdio:', 'vm1', 'vm2=stdio:');
test(meansChannel, `${'x'.repeat(64)}=stdio:`, 'x'.repeat(64), 'stdio:');
test(meansChannel, 'nothing', 'default', 'nothing');

for (const text of ['=stdio:', 'VM=stdio:', 'a b=stdio:', 'a,b=stdio:', 'a/b=stdio:', `${'x'.repeat(65)}=stdio:`]) {
  test(`-c ${text} is refused for its label`, (t) => {
    const error = t.throws(() => parseChannelArgument(text), { code: 'bad-argument' });
    t.regex(error.message, /^channel label ".*": it is not 1 to 64 of a-z/);
  });
}

const channels = (labels: readonly string[]) => new Map(labels.map((label) => [label, label === 'vms']));

const LABELS = ['vm1', 'vm2', '22', '-', 'sock', 'vms'];

const means = test.macro({
  title: (_, direction: Direction, text: string) => `${direction} ${text} with several channels`,
  exec(t, direction: Direction, text: string, label: string, forward: string) {
    const found = parseForwardArgument(direction, text, channels(LABELS));
    t.is(found.label, label);
    t.is(found.spec.direction, direction);
    t.is(formatForwardSpec(found.spec), forward);
  },
});

test(means, 'outgoing', 'vm1/ssh:127.0.0.1:9022', 'vm1', 'ssh:127.0.0.1:9022');
test(means, 'outgoing', 'vm2/ssh:9022', 'vm2', 'ssh:127.0.0.1:9022');
test(means, 'outgoing', 'vm2/x:/run/a/b', 'vm2', 'x:unix:/run/a/b');
test(means, 'outgoing', 'vm1/*:vsock-mux:/run/v,1=ssh', 'vm1', '*:vsock-mux:/run/v,1=ssh');
test(means, 'incoming', 'vm1/x:exec:cat a/b:vm2', 'vm1', 'x:exec:cat a/b:vm2');
test(means, 'outgoing', 'ssh:127.0.0.1:9022:vm1', 'vm1', 'ssh:127.0.0.1:9022');
test(means, 'outgoing', 'ssh:[::1]:9022:vm2', 'vm2', 'ssh:[::1]:9022');
test(means, 'incoming', 'ssh:22:vm2', 'vm2', 'ssh:127.0.0.1:22');
test(means, 'outgoing', 'x:/run/a:vm1', 'vm1', 'x:unix:/run/a');
test(means, 'outgoing', 'x:/run/a:-:vm1', 'vm1', 'x:unix:/run/a');
test(means, 'outgoing', 'x:/run/a,mode=0660:vm1', 'vm1', 'x:unix:/run/a,mode=0660');
test(means, 'incoming', 'x:vsock-mux:/run/v:22:vm1', 'vm1', 'x:vsock-mux:/run/v:22');
// A path that ends like a label is written with the label before it.
test(means, 'outgoing', 'vm1/x:/run/a:vm1', 'vm1', 'x:unix:/run/a:vm1');
// A channel whose name is a number or a hyphen is named before the service only.
test(means, 'outgoing', '22/ssh:9022', '22', 'ssh:127.0.0.1:9022');
test(means, 'outgoing', '-/x:/run/a', '-', 'x:unix:/run/a');
test(means, 'outgoing', '-/x:/run/a:-', '-', 'x:unix:/run/a');

test('a forward of a group has a place for the label of each channel, which means nothing elsewhere', (t) => {
  for (const text of [
    'vms/ssh:/run/{channel}/ssh.sock',
    'ssh:/run/{channel}/ssh.sock:vms',
    'vms/x-{channel}:{channel}.lan:22',
  ]) {
    const { label, spec } = parseForwardArgument('outgoing', text, channels(LABELS));
    t.is(label, 'vms');
    t.is(`vms/${toTemplate(spec).text.replace('unix:', '')}`, text.replace(/^(.*):vms$/, 'vms/$1'));
  }
  const { spec } = parseForwardArgument('outgoing', 'vm1/ssh:/run/{channel}/ssh.sock', channels(LABELS));
  t.like(spec.endpoint, { path: '/run/{channel}/ssh.sock' });
  t.throws(() => parseForwardArgument('outgoing', 'vm1/ssh:{channel}:22', channels(LABELS)), { code: 'bad-argument' });
  t.throws(() => parseForwardArgument('outgoing', 'vms/ssh:/{channel}', channels(LABELS.slice(0, 2))), {
    message: /no channel "vms"/,
  });
  t.throws(() => parseForwardArgument('outgoing', 'vms/ssh:{channel}', channels(LABELS)), {
    message: /^-o ssh:\{channel\}: the address is not/,
  });
});

const refuses = test.macro({
  title: (_, direction: Direction, text: string) => `${direction} ${text} is refused with several channels`,
  exec(t, direction: Direction, text: string, says: string) {
    const error = t.throws(() => parseForwardArgument(direction, text, channels(LABELS)), { code: 'bad-argument' });
    t.true(error.message.includes(says), error.message);
    t.true(error.message.startsWith(direction === 'outgoing' ? '-o ' : '-i '), error.message);
  },
});

test(refuses, 'outgoing', 'ssh:9022', 'which channel? There are: vm1, vm2, 22, -, sock, vms; write vm1/ssh:9022');
// A word that could be a port is one, even if a channel has that label.
test(refuses, 'outgoing', 'ssh:9022:22', 'which channel?');
test(refuses, 'incoming', 'x:vsock-mux:/run/v:22', 'which channel?');
test(refuses, 'outgoing', 'x:/run/a:-', 'which channel?');
// A path that merely ends like a label, and a command, which takes all that is left.
test(refuses, 'outgoing', 'x:/run/vm1.sock', 'which channel?');
test(refuses, 'incoming', 'x:exec:ssh host:vm1', 'which channel?');
test(refuses, 'outgoing', 'ssh:9022:vm9', 'the address is not ADDR:PORT');
test(refuses, 'outgoing', 'ssh:host:vm1', 'the address is not ADDR:PORT');
test(refuses, 'outgoing', 'vm9/ssh:9022', 'there is no channel "vm9"; there are: vm1, vm2');
test(refuses, 'outgoing', '/ssh:9022', 'there is no channel ""');
test(refuses, 'outgoing', 'vm1/vm2/ssh:9022', 'a service is 1 to 64');
test(refuses, 'outgoing', 'vm1/ssh', 'there is no colon');
test(refuses, 'outgoing', 'vm\u001b/ssh:1', 'no channel "vm\\x1b"');

test('with one channel a forward need not name it, and may', (t) => {
  for (const text of ['ssh:9022', 'ssh:9022:vm1', 'vm1/ssh:9022']) {
    const { label, spec } = parseForwardArgument('outgoing', text, channels(['vm1']));
    t.is(label, 'vm1');
    t.is(formatForwardSpec(spec), 'ssh:127.0.0.1:9022');
  }
});
