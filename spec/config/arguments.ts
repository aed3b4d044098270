/** Parsing of channels and forwards of `-c`, `-o` and `-i`. */
import test from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import { describeForward, formatForwardSpec } from '../../lib/forward/spec.js';
import { parseChannelArgument, parseForwardArgument } from '../../lib/settings/arguments.js';

test('a label ends at an equals sign before the first colon, and must have the form of a label', (t) => {
  const longest = 'x'.repeat(64);
  for (const text of ['unix:///a?frame=4096', 'stdio:,frame=4096', 'exec:env A=b ssh']) {
    const address = parseChannel(text);
    t.deepEqual(parseChannelArgument(text), { label: 'default', address });
    for (const label of ['vm1', 'a.b_c-1', longest]) {
      t.deepEqual(parseChannelArgument(`${label}=${text}`), { label, address });
    }
  }
  t.throws(() => parseChannelArgument('vm1=vm2=stdio:'), { code: 'bad-argument', message: /^channel "vm2=stdio:"/ });
  const refusal = { code: 'bad-argument', message: /^channel label ".*": must be 1 to 64 of a-z/ };
  for (const label of ['', 'VM', 'a b', 'a,b', 'a/b', `${longest}x`]) {
    t.throws(() => parseChannelArgument(`${label}=stdio:`), refusal, label);
  }
});

/** `vms` is a group. */
const LABELS = ['vm1', 'vm2', '22', '-', 'sock', 'vms'];

const read = (argument: string, labels = LABELS) => {
  const direction = argument.startsWith('-o ') ? 'outgoing' : 'incoming';
  return parseForwardArgument(direction, argument.slice(3), new Map(labels.map((label) => [label, label === 'vms'])));
};

test('a forward names one of several channels, before its service', (t) => {
  for (const [argument, meaning] of [
    ['-o vm1/ssh:127.0.0.1:9022', 'vm1/ssh:127.0.0.1:9022'],
    ['-o vm2/x:/run/a/b', 'vm2/x:unix:/run/a/b'],
    ['-o vm1/*:vsock-mux:/run/v,1=ssh', 'vm1/*:vsock-mux:/run/v,1=ssh'],
    ['-i vm1/x:exec:cat a/b:vm2', 'vm1/x:exec:cat a/b:vm2'],
    // A path that ends like a label needs the label in front.
    ['-o vm1/x:/run/a:vm1', 'vm1/x:unix:/run/a:vm1'],
    ['-o 22/ssh:9022', '22/ssh:127.0.0.1:9022'],
    ['-o -/x:/run/a:-', '-/x:unix:/run/a'],
  ] as const) {
    const { label, spec } = read(argument);
    t.is(`${label}/${formatForwardSpec(spec)}`, meaning, argument);
  }
});

test('a forward for an ambiguous or unknown channel is rejected with the reason', (t) => {
  for (const [argument, says] of [
    // A word that could be a port is a port, even if a channel has that label.
    ['-o ssh:9022:22', 'missing channel label'],
    ['-o x:/run/a:-', 'missing channel label'],
    ['-i x:vsock-mux:/run/v:22', 'missing channel label'],
    // A path that merely ends like a label, and a command, which takes the rest.
    ['-o x:/run/vm1.sock', 'missing channel label'],
    ['-i x:exec:ssh host:vm1', 'missing channel label'],
    ['-o ssh:9022', 'missing channel label; defined: vm1, vm2, 22, -, sock, vms; for the first one write vm1/ssh:9022'],
    ['-o ssh:[::1]:9022:vm2', 'the label comes first; write vm2/ssh:[::1]:9022'],
    ['-o x:/run/a,mode=0660:vm1', 'the label comes first; write vm1/x:/run/a,mode=0660'],
    ['-o ssh:/run/{channel}/ssh.sock:vms', 'the label comes first; write vms/ssh:/run/{channel}/ssh.sock'],
    ['-o ssh:9022:vm9', 'not a valid ADDR:PORT'],
    ['-o ssh:host:vm1', 'not a valid ADDR:PORT'],
    ['-o vm9/ssh:9022', 'no channel "vm9"; available: vm1, vm2'],
    ['-o /ssh:9022', 'no channel ""'],
    ['-o vm\u001b/ssh:1', 'no channel "vm\\x1b"'],
    ['-o vm1/vm2/ssh:9022', 'not a valid service name'],
    ['-o vm1/ssh', 'no colon after the service'],
    ['-o vms/ssh:{channel}', 'not a valid ADDR:PORT'],
    ['-o vm1/ssh:{channel}:22', 'not a valid ADDR:PORT'],
  ] as const) {
    const { message } = t.throws(() => read(argument), { code: 'bad-argument' }, argument);
    t.true(message.startsWith(argument.slice(0, 3)) && message.includes(says), message);
  }
});

test('the only channel may be named, but need not be', (t) => {
  for (const argument of ['-o ssh:9022', '-o vm1/ssh:9022']) {
    const { label, spec } = read(argument, ['vm1']);
    t.deepEqual([label, formatForwardSpec(spec)], ['vm1', 'ssh:127.0.0.1:9022']);
  }
});

test('a forward of a group has a placeholder for the label of each channel, which has no meaning elsewhere', (t) => {
  for (const [argument, text] of [
    ['-o vms/ssh:/run/{channel}/ssh.sock', 'ssh:unix:/run/{channel}/ssh.sock'],
    ['-o vms/x-{channel}:{channel}.lan:22', 'x-{channel}:{channel}.lan:22'],
  ] as const) {
    const { label, spec } = read(argument);
    t.deepEqual([label, describeForward(spec).text], ['vms', text]);
  }
  t.like(read('-o vm1/ssh:/run/{channel}/ssh.sock').spec.endpoint, { path: '/run/{channel}/ssh.sock' });
});
