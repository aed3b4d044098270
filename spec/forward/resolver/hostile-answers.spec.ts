/** Hostile answers of a DNS server, over real sockets: what the guest who asked gets, and that nothing refused is in it. */

import test from 'ava';
import { specialRangeOf } from '../../../lib/forward/egress/networks.js';
import { Resolver } from '../../../lib/forward/resolver/resolver.js';
import { parseMessage } from '../../../lib/system/dns/dns-message.js';
import { formatName } from '../../../lib/system/dns/domain-names.js';
import { NameServers } from '../../../lib/system/dns/name-servers.js';
import { addressesIn } from '../../../lib/system/dns/resource-records.js';
import { formatAddress } from '../../../lib/util/addresses.js';
import { a, answerTo, bytesOf, dnsServer, query, question, rulesOf, shown } from '../../helpers/dns.js';
import { ManualClock, within } from '../../helpers/time.js';
import { HOSTILE_ANSWERS, type HostileAnswer } from './hostile-answers.js';

/** An address of this machine that no range gives away. */
const OWN = '198.41.0.4';

const GOOD = '93.184.216.34';

const hostOf = (index: number): string => `row${index}.example.org`;

function expectedOf({ outcome }: HostileAnswer, name: string): string {
  if (outcome === 'ignored') return `rcode 0; ${name}. 300 A ${GOOD}`;
  if (outcome === 'failure') return "rcode 2; EDE 23 the host's resolver did not answer";
  return outcome.shown.replaceAll('<name>', name);
}

/** Whether an answer has an address that no guest may be told, or more than OPT in its additional section. */
function hasRefused(bytes: Buffer | null): boolean {
  if ((bytes?.readUInt16BE(10) ?? 0) > 1) return true;
  const message = bytes === null ? null : parseMessage(bytes);
  return [...(message?.answers ?? []), ...(message?.authorities ?? [])]
    .flatMap((one) => addressesIn(one) ?? [])
    .some((address) => specialRangeOf(address) !== null || formatAddress(address) === OWN);
}

test(`of ${HOSTILE_ANSWERS.length} hostile answers of a DNS server a guest gets what is right, or nothing`, async (t) => {
  const server = await dnsServer(t, (asked, transport) => {
    const name = formatName((asked.question ?? question('x')).name).replace(/\.$/, '');
    const row = HOSTILE_ANSWERS[Number(/^row(\d+)\./.exec(name)?.[1])];
    const good = answerTo(asked, [a(name, GOOD)]);
    if (row === undefined) return [good];
    const sent = row.send(asked, name, transport);
    return row.outcome === 'ignored' && !sent.some((one) => 'isTruncated' in one && one.isTruncated)
      ? [...sent, good]
      : sent;
  });
  const clock = new ManualClock();
  const upstream = new NameServers({ clock, servers: () => [{ host: '127.0.0.1', port: server.port }] });
  t.teardown(() => upstream.stop());
  const own = new Set([OWN]);
  const resolver = new Resolver({
    egress: 'internet',
    rules: () => rulesOf(['*:*']),
    clock,
    ask: (asked) => upstream.ask(asked),
    addressesOf: () => null,
    ownAddresses: () => own,
  });
  const ask = (name: string, type: HostileAnswer['type']) =>
    within(20_000, name, resolver.answer(bytesOf(query(name, type)), { transport: 'tcp', onRefused: () => undefined }));
  const faults: string[] = [];
  for (const [index, row] of HOSTILE_ANSWERS.entries()) {
    const name = hostOf(index);
    // Asked again, it may be a kept answer.
    for (const turn of ['first', 'again']) {
      const bytes = await ask(name, row.type);
      const said = shown(bytes);
      if (said !== expectedOf(row, name) || hasRefused(bytes)) faults.push(`${row.what}, ${turn}: ${said}`);
    }
  }
  t.deepEqual(faults, []);
  t.is(shown(await ask('www.example.org', 'A')), `rcode 0; www.example.org. 300 A ${GOOD}`);
});

test('the table has at least the 35 hostile answers that were found', (t) => {
  t.true(HOSTILE_ANSWERS.length >= 35, `${HOSTILE_ANSWERS.length}`);
});
