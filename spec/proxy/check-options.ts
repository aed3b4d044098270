/** What is found out about options without a proxy, and that a proxy of them says the same. */
import { readdirSync } from 'node:fs';
import test from 'ava';
import type { ErrorCode } from '../../lib/errors.js';
import { type ForwardSpec, parseForwardSpec } from '../../lib/forward/spec.js';
import type { ChannelOptions } from '../../lib/proxy/channel-options.js';
import { findRefusal } from '../../lib/proxy/check-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder } from '../helpers/files.js';

const address = 'unix-connect:/run/vm1.sock';
const group = 'unix-connect:/run/vms/*.sock';
const outgoing = (text: string): ForwardSpec => parseForwardSpec('outgoing', text);
const incoming = (text: string): ForwardSpec => parseForwardSpec('incoming', text);

/** What a new proxy of these options throws; null where it does not. */
function thrownByProxy(options: ChannelOptions): unknown {
  try {
    new Proxy({ channels: [options], agent: 'test' });
    return null;
  } catch (error) {
    return error;
  }
}

const accepted = test.macro({
  title: (_, what: string) => `taken: ${what}`,
  exec(t, _what: string, options: ChannelOptions) {
    t.is(findRefusal(options), null);
    t.is(thrownByProxy(options), null);
  },
});

const refused = test.macro({
  title: (_, what: string) => `refused: ${what}`,
  exec(t, _what: string, options: ChannelOptions, message: RegExp, code: ErrorCode = 'bad-argument') {
    const refusal = findRefusal(options);
    t.is(refusal?.code, code);
    t.regex(refusal?.message ?? '', message);
    t.like(thrownByProxy(options), { code, message: refusal?.message });
  },
});

test(accepted, 'a channel', {
  address,
  forwards: [outgoing('a:0'), outgoing('b:/run/b,mode=0660,user=root'), incoming('c:22')],
});
test(accepted, 'a listener of this machine', { address: 'tcp-listen:127.0.0.1:0', label: 'vm1' });
test(accepted, 'a group', { address: group, template: [{ direction: 'outgoing', text: 'a:/run/{channel}' }] });
test(accepted, 'a group of which a member may be refused later', {
  address: group,
  template: [{ direction: 'outgoing', text: 'a:/run/{channel},user={channel}' }],
});

test(refused, 'a label', { address, label: 'VM1' }, /^channel label "VM1": it is not/);
test(refused, 'an address', { address: 'toy:x' }, /^channel "toy:x": should be KIND:ADDRESS/);
test(refused, 'two stars', { address: 'unix-connect:/run/**.sock' }, /more than one \*/);
test(
  refused,
  'a template of a channel',
  { address, template: [{ direction: 'outgoing', text: 'a:0' }] },
  /only a group/,
);
test(refused, 'a listener for everybody', { address: 'tcp-listen:0.0.0.0:7000' }, /needs TLS .* or --insecure/);
test(refused, 'TLS without a key', { address: 'tcp-listen:0.0.0.0:7000,tls=psk' }, /tls=psk needs a key/);
test(refused, 'TLS without its files', { address: 'stdio:,tls=cert,ca=/a,key=/k' }, /tls=cert without cert=/);
test(refused, 'files without TLS', { address: 'stdio:,ca=/a' }, /ca= without tls=cert/);
test(refused, 'another TLS', { address: 'stdio:,tls=on' }, /psk or cert/);
test(refused, 'a key that is missing', { address, keyFiles: ['/missing/key'] }, /^\/missing\/key: /, 'bad-file');
test(
  refused,
  'a user that is not known',
  { address, forwards: [outgoing('a:/run/a,user=nobody-such')] },
  /no user "nobody-such"/,
);
test(
  refused,
  'a group that is not known, of hybrid vsock',
  { address, forwards: [outgoing('a:0'), outgoing('*:vsock-mux:/run/v,group=none-such')] },
  /no group "none-such"/,
);
test(
  refused,
  'a listener that is for targets only',
  { address, forwards: [{ ...incoming('a:exec:cat'), direction: 'outgoing' }] },
  /^-o a: an endpoint of the kind exec cannot be used there$/,
);
test(
  refused,
  'commands for strangers',
  { address: 'tcp-connect:192.0.2.1:7000', exec: { commands: 'any' } },
  /--allow-exec: the peer could be/,
);
test(refused, 'copies of a folder that is missing', { address, copy: { root: '/missing' } }, /there is no such folder/);
test(
  refused,
  'a service that is offered twice',
  { address, copy: { root: null }, forwards: [incoming('copy:22')] },
  /service copy is offered twice/,
);
test(refused, 'a star in a folder', { address: 'unix-connect:/run/*/vm.sock' }, /\*/);
test(refused, 'an option that a group has not', { address: 'unix-connect:/run/*.sock,size=1' }, /no option "size"/);
test(refused, 'forwards of a group', { address: group, forwards: [outgoing('a:0')] }, /a template of texts/);
test(
  refused,
  'a template that is not valid',
  { address: group, template: [{ direction: 'outgoing', text: 'a:{channel}' }] },
  /^-o a:a: the address is not ADDR:PORT/,
);
test(refused, 'a key of a group', { address: group, keyFiles: ['/missing/key'] }, /^\/missing\/key: /, 'bad-file');
test(refused, 'permissions of a group', { address: group, copy: { root: '/missing' } }, /there is no such folder/);

test('nothing is opened or made to find out', (t) => {
  const folder = temporaryFolder(t);
  const forwards = [outgoing(`a:${folder}/a`), incoming(`log:file:${folder}/log`)];
  t.is(findRefusal({ address: `unix-listen:${folder}/channel`, forwards }), null);
  const template = [{ direction: 'outgoing', text: `a:${folder}/{channel}/a` }] as const;
  t.is(findRefusal({ address: `unix-connect:${folder}/*.sock`, template }), null);
  t.deepEqual(readdirSync(folder), []);
});
