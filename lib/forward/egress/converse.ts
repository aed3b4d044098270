/** What a stream to an egress says first, and who answers it: SOCKS 5, HTTP, or nobody. */
import type { Destination } from './admission.js';
import { HEAD_MS, headTimeout, httpAnswer, Refusal } from './answers.js';
import type { Conversation } from './conversation.js';
import type { EgressConnection } from './dial.js';
import { beginsToken } from './head.js';
import { HttpConversation } from './http-conversation.js';
import { MessageReader } from './message.js';
import type { KeptTogether } from './origin.js';
import type { EgressRules } from './rules.js';
import { refusedSocks4, SOCKS_4, SOCKS_5, SocksConversation } from './socks.js';

/** A destination that was connected to. */
export interface Reached extends EgressConnection {
  readonly destination: Destination;
  /** When, by the clock of the target. */
  readonly atMs: number;
  /** The rules that let it out. */
  readonly rules: EgressRules | null;
}

/** How a connection to an origin server ended. */
export interface OriginEnding {
  readonly uploadedBytes: number;
  readonly downloadedBytes: number;
  /** Null: in order, or because it was needed no more. */
  readonly code: string | null;
}

/** What a conversation gets from its target. */
export interface ConversationContext {
  /** The rules of the moment: other ones are another object. */
  rules(): EgressRules | null;
  /** Rejects with a {@link Refusal}, and where the program is gone. */
  dial(destination: Destination): Promise<Reached>;
  /** A request is refused. */
  onRefused(refusal: Refusal): void;
  /** A connection to an origin server is closed. */
  onLeft(reached: Reached, ending: OriginEnding): void;
  /** The connections that all conversations of the target keep. */
  readonly keptTogether: KeptTogether;
}

/** What a program asked to be connected to. */
export interface TunnelOffer {
  readonly reached: Reached;
  /** What the program is sent before anything of the destination. */
  readonly answer: Buffer;
}

/** What a stream is to be spliced with. */
export interface Tunnel extends TunnelOffer {
  /** What came behind the request, which goes to the destination. */
  readonly rest: Buffer;
}

/** Resolves with the tunnel that was asked for, or null where nothing more is to be said. Rejects where the program is gone. */
export async function converse(guest: Conversation, context: ConversationContext): Promise<Tunnel | null> {
  const reader = new MessageReader(guest);
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
  if (first === SOCKS_4)
    return refuse(new Refusal('not-supported', 'of SOCKS only version 5 is spoken here'), refusedSocks4());
  if (first !== SOCKS_5 && !beginsToken(first)) {
    const refusal = new Refusal('bad-request', 'this is a proxy for HTTP and SOCKS 5, and neither was spoken');
    return refuse(refusal, httpAnswer(refusal, { isLast: true }));
  }
  const Kind = first === SOCKS_5 ? SocksConversation : HttpConversation;
  const tunnel = await new Kind(guest, reader, context).run();
  return tunnel === null ? null : { ...tunnel, rest: reader.takeRest() };
}
