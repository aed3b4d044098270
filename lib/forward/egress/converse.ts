/** What a stream to an egress says first, and who answers it: SOCKS 5, HTTP, or nobody. */
import type { Conversation, ConversationContext, Tunnel } from './conversation.js';
import { beginsToken } from './head.js';
import { HttpConversation } from './http-conversation.js';
import { HttpReader } from './message.js';
import { HEAD_MS, headTimeout, httpAnswer, Refusal } from './refusal.js';
import { refusedSocks4, SOCKS_4, SOCKS_5, SocksConversation } from './socks.js';

/** Resolves with the tunnel that was asked for, or null where nothing more is to be said. Rejects where the program is gone. */
export async function converse(guest: Conversation, context: ConversationContext): Promise<Tunnel | null> {
  const reader = new HttpReader(guest);
  guest.expectWithin(HEAD_MS, headTimeout());
  const refuse = async (refusal: Refusal, answer: Buffer): Promise<null> => {
    context.onRefused(refusal);
    await guest.write(answer);
    guest.close();
    return null;
  };
  let first: number | null;
  try {
    await guest.nextStep();
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
