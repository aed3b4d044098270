/** SOCKS 5 as an egress reads it: from every split the destination, and the replies, that a simple second parser finds. */
import assert from 'node:assert/strict';
import { type Destination, parseDestination } from '../../../lib/forward/egress/admission.js';
import type { Conversation, ConversationContext } from '../../../lib/forward/egress/conversation.js';
import { Refusal } from '../../../lib/forward/egress/refusal.js';
import { SOCKS_5, SocksConversation } from '../../../lib/forward/egress/socks.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { assertShowable } from '../outcome.js';
import { readerOf } from './egress-chunks.js';

/** What comes of a conversation: what was dialled, and the first two bytes of each reply. */
type Course = readonly [dialled: Destination | null, ...replies: string[]];

/** By the rules, or because it is none. */
const DENIED = 2;
const AGREED = '0500';
const NONE_AGREED = '05ff';

/** Input: sizes, then all that a guest sends. */
export async function fuzzEgressSocks(bytes: Uint8Array): Promise<void> {
  const input = new FuzzInput(bytes);
  const sizes = input.sizes();
  const stream = input.rest();
  const expected = plainCourse(stream);
  for (const chunks of everySplit(stream, sizes)) assert.deepEqual(await converse(chunks), expected);
}

/** A conversation in which each destination is refused by the rules. */
async function converse(chunks: readonly Buffer[]): Promise<Course> {
  let dialled: Destination | null = null;
  const replies: string[] = [];
  const guest = {
    write: (bytes: Buffer) => Promise.resolve(void replies.push(bytes.toString('hex', 0, 2))),
    expectNothing: () => undefined,
    close: () => undefined,
  } as unknown as Conversation;
  const context = {
    dial(destination: Destination) {
      dialled = destination;
      return Promise.reject(new Refusal('denied', 'no entry allows it'));
    },
    onRefused: ({ message }: Error) => assertShowable(message),
  } as unknown as ConversationContext;
  assert.equal(await new SocksConversation(guest, readerOf(chunks), context).run(), null);
  return [dialled, ...replies];
}

function plainCourse(bytes: Buffer): Course {
  const [, count = 0] = bytes;
  const methods = bytes.subarray(2, 2 + count);
  if (bytes.length < 2 || methods.length < count || !methods.includes(0)) return [null, NONE_AGREED];
  const refused = (code: number): Course => [null, AGREED, `05${Buffer.from([code]).toString('hex')}`];
  const request = bytes.subarray(2 + count);
  const [version, command, reserved, type, length = 0] = request;
  if (request.length < 4 || version !== SOCKS_5 || reserved !== 0) return refused(1);
  const size = { 1: 4, 3: 1 + length, 4: 16 }[type ?? 0];
  if (size === undefined) return refused(8);
  const [host, port] = [request.subarray(4, 4 + size), request.subarray(4 + size, 6 + size)];
  if (port.length < 2) return refused(1);
  if (command !== 1) return refused(7);
  try {
    const dialled = parseDestination(plainHost(host, type), (port[0] as number) * 256 + (port[1] as number));
    return [dialled, AGREED, `050${DENIED}`];
  } catch (error) {
    if (error instanceof Refusal) return refused(DENIED);
    throw error;
  }
}

function plainHost(bytes: Buffer, type: number | undefined): string {
  if (type === 1) return bytes.join('.');
  return type === 3 ? bytes.toString('utf8', 1) : (bytes.toString('hex').match(/.{4}/g) ?? []).join(':');
}
