/** Messages of DNS: none, or what is the same when it is written and read again; frames from every split; addresses that are refused are in no record that is left. */

import assert from 'node:assert/strict';
import type { Verdict } from '../../../lib/forward/egress/rules.js';
import { admitRecords } from '../../../lib/forward/resolver/admitted.js';
import { type DnsMessage, formatMessage, MAX_RECORDS, parseMessage } from '../../../lib/system/dns/dns-message.js';
import { type DomainName, hostOf, keyOf, labelsOf, parseName } from '../../../lib/system/dns/domain-names.js';
import { frameMessage, MessageFrames } from '../../../lib/system/dns/message-frames.js';
import { addressesIn } from '../../../lib/system/dns/resource-records.js';
import { formatAddress } from '../../../lib/util/addresses.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { type Outcome, outcomeOf } from '../outcome.js';

const MAX_FRAME_BYTES = 600;

/** What no message that is written here comes to. */
const UNLIMITED = 2 ** 20;

/** Input: flags (1 frames of a stream, else one message), sizes, bytes. */
export function fuzzDnsMessages(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const isStream = (input.byte() & 1) > 0;
  const sizes = input.sizes();
  if (isStream) checkFrames(input.rest(), sizes);
  else checkMessage(input.rest());
}

function checkFrames(stream: Buffer, sizes: readonly number[]): void {
  const expected = plainFrames(stream);
  for (const chunks of everySplit(stream, sizes)) {
    const messages: string[] = [];
    const end = outcomeOf(['protocol-error'], () => {
      const frames = new MessageFrames(MAX_FRAME_BYTES);
      for (const chunk of chunks) {
        frames.push(chunk);
        for (let next = frames.next(); next !== null; next = frames.next()) messages.push(next.toString('hex'));
      }
    });
    assert.deepEqual([messages, isRefused(end)], expected);
  }
  const [messages] = expected;
  const whole = Buffer.concat(messages.map((hex) => frameMessage(Buffer.from(hex, 'hex'))));
  assert.ok(stream.subarray(0, whole.length).equals(whole));
}

/** Whether it ended with an error. */
const isRefused = (outcome: Outcome<unknown>): boolean => 'code' in outcome;

function plainFrames(stream: Buffer): readonly [messages: string[], isRefused: boolean] {
  const messages: string[] = [];
  for (let at = 0; at + 2 <= stream.length; ) {
    const end = at + 2 + stream.readUInt16BE(at);
    if (end - at - 2 > MAX_FRAME_BYTES) return [messages, true];
    if (end > stream.length) break;
    messages.push(stream.toString('hex', at + 2, end));
    at = end;
  }
  return [messages, false];
}

function checkMessage(bytes: Buffer): void {
  const message = parseMessage(bytes);
  if (message === null) return;
  const { question, answers, authorities } = message;
  assert.equal(message.id, bytes.readUInt16BE(0));
  assert.deepEqual([answers.length, authorities.length], [bytes.readUInt16BE(6), bytes.readUInt16BE(8)]);
  const records = [...answers, ...authorities];
  assert.ok(records.length <= MAX_RECORDS + 1);
  for (const { name } of [...records, ...(question === null ? [] : [question])]) checkName(name);
  // Of a text in OPT what is no UTF-8 is lost, once.
  const again = parseMessage(formatMessage(message, UNLIMITED)) as DnsMessage;
  assert.deepEqual(parseMessage(formatMessage(again, UNLIMITED)), again);
  assert.deepEqual({ ...again, edns: null }, { ...message, edns: null });
  checkAdmitted(message);
}

function checkName(name: DomainName): void {
  const labels = labelsOf(name);
  assert.ok(name.length <= 255 && labels.every(({ length }) => length > 0 && length <= 63));
  assert.equal(
    labels.reduce((sum, { length }) => sum + 1 + length, 1),
    name.length,
  );
  const host = hostOf(name);
  if (host !== null) assert.equal(keyOf(parseName(host) ?? Buffer.alloc(0)), keyOf(name));
}

/** No address that begins with an even number is left. */
function checkAdmitted(message: DnsMessage): void {
  const judge = (address: string): Verdict => {
    const isAllowed = Number.parseInt(address.replace(/^:/, '0'), 10) % 2 === 1;
    return { isAllowed, rule: null, why: '' };
  };
  const { answers, authorities, refused } = admitRecords(message, judge);
  const missing = message.answers.length + message.authorities.length - answers.length - authorities.length;
  assert.equal(refused === null, missing === 0);
  for (const record of [...answers, ...authorities]) {
    const addresses = addressesIn(record);
    assert.ok(addresses?.every((address) => judge(formatAddress(address)).isAllowed));
  }
}
