/** A man in the middle, in memory: he has every byte of both sides in his hand, and may change, drop, repeat and insert any. */
import { encodeFrame, FRAME_TYPE } from '../../lib/codec/header.js';
import { MAGIC, readHello } from '../../lib/codec/hello.js';
import { carryOn, type PairOptions, SessionPair, type Side } from '../helpers/session-pair.js';

export type HelloFields = Record<string, unknown>;

/** The new fields of a HELLO of `from`; null takes it out. */
export type Edit = (fields: HelloFields, from: Side) => HelloFields | null;

/** What goes on to the other side of what `from` has written at once. */
export type Attack = (bytes: Buffer, from: Side) => Buffer;

/** Magic and HELLO with these fields. */
export function helloOf(fields: HelloFields): Buffer {
  const payload = Buffer.from(JSON.stringify(fields));
  return Buffer.concat([MAGIC, encodeFrame(FRAME_TYPE.HELLO, 0, payload, 0)]);
}

/** What a HELLO without any protection says. */
export const CLEAR_HELLO = {
  ...{ version: { min: 1, max: 1 }, nonce: '7'.repeat(32), ack: null, instance: '8'.repeat(32), integrity: 'full' },
  limits: { frame: 131_072, streamCredit: 65_536, inFlight: 1_048_576, streams: 1024, opens: 256 },
};

/** Changes all HELLOs that are whole, and leaves everything else as it is: what can be done without a key. */
export function editing(edit: Edit): Attack {
  return (bytes, side) => {
    const out: Buffer[] = [];
    let from = 0;
    for (let at = bytes.indexOf(MAGIC); at !== -1; at = bytes.indexOf(MAGIC, Math.max(from, at + 1))) {
      const found = readHello(bytes, at + MAGIC.length);
      if (typeof found === 'string') continue;
      const edited = edit(JSON.parse(found.payload.toString()) as HelloFields, side);
      out.push(bytes.subarray(from, at), edited === null ? Buffer.alloc(0) : helloOf(edited));
      from = found.end;
    }
    return Buffer.concat([...out, bytes.subarray(from)]);
  };
}

/** The newest HELLO in what a side wrote, and what came after it. */
export function splitOpening(bytes: Buffer): { readonly last: HelloFields; readonly behind: Buffer } {
  const at = bytes.lastIndexOf(MAGIC);
  const found = readHello(bytes, at + MAGIC.length);
  if (at === -1 || typeof found === 'string') throw new Error('there is no HELLO');
  return { last: JSON.parse(found.payload.toString()) as HelloFields, behind: bytes.subarray(found.end) };
}

/** All that waits on the way, so that HELLOs are not cut. */
const PIECE_BYTES = 2 ** 20;

const HONEST: Attack = (bytes) => bytes;

export class AttackedPair extends SessionPair {
  /** All that each side wrote. */
  readonly written: Readonly<Record<string, Buffer[]>> = { a: [], b: [] };
  /** The services that streams were opened to, on either side. */
  readonly reached: string[] = [];
  readonly #injected: Readonly<Record<string, Buffer[]>> = { a: [], b: [] };
  #attack = HONEST;

  constructor(options: PairOptions = {}) {
    super(options);
    for (const side of this.sides) {
      side.services = ['echo'];
      side.onSession = (session) => session.on('stream', ({ service }) => this.reached.push(service));
      this.#standBefore(side);
    }
  }

  override connect(): void {
    super.connect();
    for (const side of this.sides) this.#standBefore(side);
  }

  other(side: Side): Side {
    return side === this.a ? this.b : this.a;
  }

  /** Does this from now on. */
  attack(attack: Attack): void {
    this.#attack = attack;
  }

  /** A side gets bytes that nobody wrote. */
  inject(to: Side, bytes: Buffer): void {
    this.#injected[to.name]?.push(bytes);
  }

  async pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second += 1) {
      await carryOn(this, PIECE_BYTES);
      this.clock.advance(1000);
    }
    await carryOn(this, PIECE_BYTES);
  }

  /** Ends the attack, and waits: whether both sides come to be in a session with each other. */
  async comesTogether(): Promise<boolean> {
    this.#attack = HONEST;
    for (let second = 0; second < 300 && !this.#isTogether; second += 1) await this.pass(1);
    return this.#isTogether;
  }

  get #isTogether(): boolean {
    const [one, other] = this.sides.map(({ loop }) => loop.session);
    return one?.agreement.peer.nonce !== undefined && one.agreement.peer.nonce === other?.agreement.self.nonce;
  }

  #standBefore(side: Side): void {
    const { outbound, name } = side;
    const take = outbound.take.bind(outbound);
    outbound.take = (count) => {
      const { bytes, drained } = take(count);
      this.written[name]?.push(bytes);
      const passed = bytes.length > 0 ? this.#attack(Buffer.from(bytes), side) : bytes;
      const injected = this.#injected[this.other(side).name]?.splice(0) ?? [];
      return { bytes: Buffer.concat([...injected, passed]), drained };
    };
  }
}
