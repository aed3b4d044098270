/** No spelling of an address of the host gets a guest there, by any way in, under rules for all that is public. */

import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { EgressDialer } from '../../../lib/forward/egress/dial.js';
import { Resolver } from '../../../lib/forward/resolver/resolver.js';
import { formatAddress, parseAddress } from '../../../lib/util/addresses.js';
import { answerTo, bytesOf, query, record, rulesOf, shown } from '../../helpers/dns.js';
import { EgressScene } from '../../helpers/egress.js';
import { localServer } from '../../helpers/proxies.js';
import { ManualClock } from '../../helpers/time.js';
import { OWN_ADDRESS_ROWS, OWN_PUBLIC, type OwnAddressRow } from './own-address-spellings.js';

const EVERYTHING_PUBLIC = rulesOf(['*:*']);

const isOwn = (address: string): boolean => OWN_PUBLIC.has(address);

const isAddress6 = (text: string): boolean => text.includes(':') && parseAddress(text) !== null;

/** As a request-target has it. */
const hostOf = (text: string): string => (isAddress6(text) ? `[${text}]` : text);

/** SOCKS 5 for a host by its name, which may be the text of an address. */
function socksByName(text: string, port: number): Buffer {
  const name = Buffer.from(text);
  const ending = Buffer.alloc(2);
  ending.writeUInt16BE(port);
  return Buffer.concat([Buffer.from([5, 1, 0, 5, 1, 0, 3, name.length]), name, ending]);
}

/** SOCKS 5 for an address by its bytes. */
function socksByAddress(text: string, port: number): Buffer {
  const bytes = parseAddress(text) ?? new Uint8Array();
  const type = bytes.length === 4 ? 1 : 4;
  return Buffer.concat([Buffer.from([5, 1, 0, 5, 1, 0, type]), bytes, Buffer.from([port >> 8, port & 255])]);
}

/** The ways in for a text: what the guest says. */
function waysOf(text: string, port: number): Buffer[] {
  const host = hostOf(text);
  const heads = [
    `CONNECT ${host}:${port} HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`,
    `GET http://${host}:${port}/ HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`,
  ].map((head) => Buffer.from(head));
  const names = [socksByName(text, port), ...(parseAddress(text) === null ? [] : [socksByAddress(text, port)])];
  return [...heads, ...names];
}

const REASONS = { spelling: /^bad-(?:destination|request)$/, address: /^denied$/, name: /^denied$/ } as const;

/** Runs rows against a target whose dialler is the real one; returns those that were not refused as they should be. */
async function runRows(t: ExecutionContext, rows: readonly OwnAddressRow[]): Promise<string[]> {
  let reached = 0;
  const server = await localServer(t, () => (reached += 1), { host: '::', port: 0 });
  const lookups: string[] = [];
  const state = { leadsTo: '127.0.0.1' };
  const dialer = new EgressDialer({
    name: 'internet',
    rules: () => EVERYTHING_PUBLIC,
    clock: new ManualClock(),
    isOwn,
    // The most careless resolver there is: any text leads to the host.
    lookup: (name) => {
      lookups.push(name);
      return Promise.resolve([state.leadsTo]);
    },
  });
  const scene = new EgressScene(t, { dialer });
  const faults: string[] = [];
  for (const { kind, text } of rows) {
    state.leadsTo = kind === 'name' ? text : '127.0.0.1';
    for (const words of waysOf(kind === 'name' ? 'name.example' : text, server.port)) {
      const [refusedBefore, lookupsBefore] = [scene.refused.length, lookups.length];
      const told = await scene.say(words);
      const { reason } = scene.refused[refusedBefore]?.facts ?? {};
      const lookedUp = lookups.length - lookupsBefore;
      const isRight =
        scene.refused.length === refusedBefore + 1 &&
        REASONS[kind].test(reason ?? '') &&
        lookedUp === (kind === 'name' ? 1 : 0) &&
        !/ 200 |^\x05\0\x05\0/.test(told) &&
        // Where a name leads is not for the guest.
        (kind !== 'name' || !told.includes(text));
      if (!isRight)
        faults.push(`${kind} ${text} by ${JSON.stringify(words.toString())}: ${reason}, ${lookedUp} look-ups`);
    }
  }
  await setImmediate();
  if (reached > 0) faults.push(`${reached} connections to the host`);
  return faults;
}

for (const kind of ['spelling', 'address', 'name'] as const) {
  const rows = OWN_ADDRESS_ROWS.filter((row) => row.kind === kind);
  test(`an egress for all that is public refuses ${rows.length} ways to the host, each a ${kind}`, async (t) => {
    t.deepEqual(await runRows(t, rows), []);
  });
}

test('the table has at least the 393 ways to the host that were found', (t) => {
  t.true(OWN_ADDRESS_ROWS.length >= 393, `${OWN_ADDRESS_ROWS.length}`);
});

test('what is no plain destination in the table is no text of an address', (t) => {
  for (const { kind, text } of OWN_ADDRESS_ROWS) t.is(parseAddress(text) === null, kind === 'spelling', text);
});

test('a resolver leaves each of these addresses out of its answers, as an address and as a hint', async (t) => {
  const faults: string[] = [];
  for (const { kind, text } of OWN_ADDRESS_ROWS) {
    if (kind !== 'name') continue;
    const address = Buffer.from(parseAddress(text) ?? []);
    const [type, key] = address.length === 4 ? (['A', 4] as const) : (['AAAA', 6] as const);
    const hint = Buffer.concat([Buffer.from([0, 1, 0, 0, key, 0, address.length]), address]);
    for (const [asked, data] of [
      [type, address],
      ['HTTPS', hint],
    ] as const) {
      const resolver = new Resolver({
        egress: 'internet',
        rules: () => EVERYTHING_PUBLIC,
        clock: new ManualClock(),
        ask: (question) =>
          Promise.resolve(answerTo({ ...query('x'), question }, [record('name.example', asked, data)])),
        addressesOf: (host) => (host === 'hosts.example' && asked === type ? [formatAddress(address)] : null),
        ownAddresses: () => OWN_PUBLIC,
      });
      for (const name of ['name.example', 'hosts.example']) {
        const bytes = await resolver.answer(bytesOf(query(name, asked)), {
          transport: 'udp',
          onRefused: () => undefined,
        });
        const said = shown(bytes);
        // A record that is left would be shown before the error.
        if (!/^rcode 0; EDE 15 an address of /.test(said)) faults.push(`${name} ${asked} ${text}: ${said}`);
      }
    }
  }
  t.deepEqual(faults, []);
});
