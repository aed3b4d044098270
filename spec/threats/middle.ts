/** A man in the middle, in memory, who can read, change, drop, repeat and insert any byte of both sides. */
import { encodeFrame, FRAME_TYPE } from '../../lib/codec/header.js';
import { MAGIC, readHello } from '../../lib/codec/hello.js';
import { carryOn, type PairOptions, SessionPair, type Side } from '../helpers/session-pair.js';

export type HelloFields = Record<string, unknown>;

/** The new fields of a HELLO of `from`; null takes it out. */
export type Edit = (fields: HelloFields, from: Side) => HelloFields | null;

/** Returns what the other side gets for bytes that `from` has written at once. */
export type Attack = (bytes: Buffer, from: Side) => Buffer;

/** Magic and HELLO with these fields. */
export function helloOf(fields: HelloFields): Buffer {
  const payload = Buffer.from(JSON.stringify(fields));
  return Buffer.concat([MAGIC, encodeFrame(FRAME_TYPE.HELLO, 0, payload, 0)]);
}

/** The fields of a HELLO without any protection. */
export const CLEAR_HELLO = {
  ...{ version: { min: 1, max: 1 }, nonce: '7'.repeat(32), ack: null, instance: '8'.repeat(32), integrity: 'full' },
  limits: { frame: 131_072, streamCredit: 65_536, inFlight: 1_048_576, streams: 1024, opens: 256 },
};

/** Changes all complete HELLOs and nothing else, which is possible without a key. */
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

/** The newest HELLO in a side's bytes, and the bytes after it. */
export function splitOpening(bytes: Buffer): { readonly last: HelloFields; readonly behind: Buffer } {
  const at = bytes.lastIndexOf(MAGIC);
  const found = readHello(bytes, at + MAGIC.length);
  if (at === -1 || typeof found === 'string') throw new Error('there is no HELLO');
  return { last: JSON.parse(found.payload.toString()) as HelloFields, behind: bytes.subarray(found.end) };
}

/** More than ever waits on the way, so that HELLOs are not cut. */
const PIECE_BYTES = 2 ** 20;

const HONEST: Attack = (bytes) => bytes;

export class AttackedPair extends SessionPair {
  /** All bytes written by each side. */
  readonly written: Readonly<Record<string, Buffer[]>> = { a: [], b: [] };
  /** The services to which streams were opened, on either side. */
  readonly reached: string[] = [];
  readonly #injected: Readonly<Record<string, Buffer[]>> = { a: [], b: [] };
  #attack = HONEST;

  constructor(options: PairOptions = {}) {
    super(options);
    for (const side of this.sides) {
      side.services = ['echo'];
      side.onSession = (session) => (session.server = { serve: ({ service }) => this.reached.push(service) });
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

  /** Applies this attack from now on. */
  attack(attack: Attack): void {
    this.#attack = attack;
  }

  /** Injects bytes into a side's input. */
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

  /** Ends the attack, and waits; returns whether both sides establish a session with each other. */
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
