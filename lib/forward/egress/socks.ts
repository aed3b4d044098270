/** A SOCKS 5 conversation (RFC 1928): CONNECT, without authentication. */

import { VproxyError } from '../../errors.js';
import { parseDestination } from './admission.js';
import type { Conversation, ConversationContext, TunnelOffer } from './conversation.js';
import { Incomplete } from './head.js';
import type { HttpReader } from './message.js';
import { Refusal } from './refusal.js';
import type { Destination } from './rules.js';

/** The first byte of each version. */
export const SOCKS_4 = 4;
export const SOCKS_5 = 5;

const NO_AUTHENTICATION = 0;
const NO_ACCEPTABLE_METHOD = 0xff;
const COMMAND_CONNECT = 1;
const GENERAL_FAILURE = 1;
const COMMAND_NOT_SUPPORTED = 7;
const ADDRESS_TYPE_NOT_SUPPORTED = 8;
const ADDRESS_TYPE = { ipv4: 1, name: 3, ipv6: 4 } as const;

/** The SOCKS 4 reply to any request: rejected or failed. */
export const refusedSocks4 = (): Buffer => Buffer.from([0, 0x5b, 0, 0, 0, 0, 0, 0]);

/** A reply (section 6). It hides this side's bound address: 0.0.0.0:0. */
const reply = (code: number): Buffer => Buffer.from([SOCKS_5, code, 0, ADDRESS_TYPE.ipv4, 0, 0, 0, 0, 0, 0]);

export class SocksConversation {
  readonly #guest: Conversation;
  readonly #reader: HttpReader;
  readonly #context: ConversationContext;
  /** Before a method is agreed, the only possible reply is that none is acceptable. */
  #hasMethod = false;

  constructor(guest: Conversation, reader: HttpReader, context: ConversationContext) {
    this.#guest = guest;
    this.#reader = reader;
    this.#context = context;
  }

  /** Resolves with the tunnel's destination, or null if it was refused. Rejects if the program has gone away. */
  async run(): Promise<TunnelOffer | null> {
    const guest = this.#guest;
    try {
      await this.#agree();
      const destination = await this.#destination();
      guest.expectNothing();
      if (guest.isLeaving) throw new VproxyError('cancelled', 'the service is no longer offered');
      return { reached: await this.#context.dial(destination), answer: reply(0) };
    } catch (error) {
      const refusal = error instanceof Incomplete ? new Refusal('bad-request', error.message) : error;
      if (!(refusal instanceof Refusal)) throw error;
      this.#context.onRefused(refusal);
      await guest.write(this.#hasMethod ? reply(refusal.socks) : Buffer.from([SOCKS_5, NO_ACCEPTABLE_METHOD]));
      guest.close();
      return null;
    }
  }

  /** Section 3. */
  async #agree(): Promise<void> {
    const [, count = 0] = await this.#reader.exactly(2);
    const methods = await this.#reader.exactly(count);
    if (!methods.includes(NO_AUTHENTICATION))
      throw new Refusal('not-supported', 'only SOCKS without authentication is supported');
    this.#hasMethod = true;
    await this.#guest.write(Buffer.from([SOCKS_5, NO_AUTHENTICATION]));
  }

  /** Sections 4 and 5. */
  async #destination(): Promise<Destination> {
    const [version, command, reserved, type] = await this.#reader.exactly(4);
    if (version !== SOCKS_5 || reserved !== 0)
      throw new Refusal('bad-request', 'not a SOCKS 5 request', { socks: GENERAL_FAILURE });
    const host = await this.#host(type);
    const port = (await this.#reader.exactly(2)).readUInt16BE();
    if (command !== COMMAND_CONNECT)
      throw new Refusal('not-supported', 'only CONNECT is supported in SOCKS', { socks: COMMAND_NOT_SUPPORTED });
    return parseDestination(host, port);
  }

  async #host(type: number | undefined): Promise<string> {
    if (type === ADDRESS_TYPE.ipv4) return [...(await this.#reader.exactly(4))].join('.');
    if (type === ADDRESS_TYPE.ipv6) {
      const bytes = await this.#reader.exactly(16);
      return Array.from({ length: 8 }, (_, group) => bytes.readUInt16BE(2 * group).toString(16)).join(':');
    }
    if (type !== ADDRESS_TYPE.name)
      throw new Refusal('not-supported', 'unknown SOCKS 5 address type', {
        socks: ADDRESS_TYPE_NOT_SUPPORTED,
      });
    const [length = 0] = await this.#reader.exactly(1);
    const bytes = await this.#reader.exactly(length);
    // Invalid UTF-8 becomes a character that no name can have.
    return bytes.toString('utf8');
  }
}
