/** Selects the protocol of a stream to an egress by its first byte: SOCKS 5, HTTP, or neither. */
import type { Conversation, ConversationContext, Tunnel } from './conversation.js';
import { beginsToken } from './head.js';
import { HttpConversation } from './http-conversation.js';
import { HttpReader } from './message.js';
import { HEAD_MS, headTimeout, httpAnswer, Refusal } from './refusal.js';
import { refusedSocks4, SOCKS_4, SOCKS_5, SocksConversation } from './socks.js';

/** Resolves with the requested tunnel, or null if the conversation is over. Rejects if the program has gone away. */
export async function converse(guest: Conversation, context: ConversationContext): Promise<Tunnel | null> {
  const reader = new HttpReader(guest);
  guest.expectWithin(HEAD_MS, headTimeout);
  const refuse = async (refusal: Refusal, answer: Buffer): Promise<null> => {
    context.onRefused(refusal);
    await guest.write(answer);
    guest.close();
    return null;
  };
  let first: number | null;
  try {
    const turn = guest.nextTurn();
    if (turn !== null) await turn;
    first = await reader.firstByte();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return refuse(error, httpAnswer(error, { isLast: true }));
  }
  if (first === null) {
    guest.close();
    return null;
  }
  if (first === SOCKS_4) return refuse(new Refusal('not-supported', 'only SOCKS 5 is supported'), refusedSocks4());
  if (first !== SOCKS_5 && !beginsToken(first)) {
    const refusal = new Refusal('bad-request', 'neither HTTP nor SOCKS 5; this proxy supports only these');
    return refuse(refusal, httpAnswer(refusal, { isLast: true }));
  }
  const Kind = first === SOCKS_5 ? SocksConversation : HttpConversation;
  const tunnel = await new Kind(guest, reader, context).run();
  return tunnel === null ? null : { ...tunnel, rest: reader.takeRest() };
}
