/** Holds a conversation with a program: what its peer sends goes over the channel, what its local ends do through its services. */
import { setTimeout as delay } from 'node:timers/promises';
import { DEFAULT_LIMITS } from '../lib/codec/limits.js';
import { differs, type Expected, expectedIn } from './compare.js';
import { formatWithLast } from './frame-log.js';
import { bytesOf, isFrame } from './frame-maker.js';
import type { LocalEnd, Program } from './program.js';
import { fillLimits, formatHellos, type Given, type Line, limitsIn, parseScript, SILENT } from './script.js';
import { WirePeer } from './wire-peer.js';

/** The flush of a side with the usual limits (R-OPEN-1). */
const FLUSH = Buffer.alloc(DEFAULT_LIMITS.frame + 16);

/** Steps that leave a frame incomplete: no PING can follow. */
const TEARS = /^BYTES|!cut|!lost|!length/;

/** Steps of the programs at the streams. */
const LOCAL = /^(?:open|send|finish|release)\b/;

/** How long a program may take for what nothing tells: that it has done nothing, or has read from a socket. */
const QUIET_MS = 80;
const LOCAL_MS = 400;

/** More than a program that is not read may take, with the buffers of its system. */
const MAX_FILL_BYTES = 2 ** 24;

const shortened = (text: string): string => (text.length > 400 ? `${text.slice(0, 400)}…` : text);

export class Failure extends Error {
  readonly rows: Readonly<Record<'at' | 'sent' | 'expected' | 'came', string>>;

  constructor(at: string, sent: readonly string[], expected: string, came: string) {
    super(came);
    this.rows = { at: shortened(at), sent: shortened(sent.join(', ')), expected, came: shortened(came) };
  }
}

/** The program sent no HELLO: it may not speak the protocol at all. */
export class NoHello extends Failure {
  constructor(came: string) {
    super('the opening', [], 'a HELLO', came);
  }
}

/** Whether a step can be taken from outside. */
export function isOutside(step: string): boolean {
  const [word = '', what] = step.split(' ');
  if (word === 'wait') return Number(what) <= 7000;
  return (
    LOCAL.test(word) || /^(?:fill|leave|HELLO|BYTES|renew|pong|prove|resume|[\da-f]{2})$/.test(word) || isFrame(word)
  );
}

/** Why a program cannot be asked this; null if it can. */
function lacks(script: string, given: Given, lines: readonly Line[], { other, services }: WirePeer): string | null {
  const { limits = {}, integrity = 'full', features = [] } = given;
  for (const [name, value] of Object.entries(limits)) {
    const isRight = limitsIn(script).includes(name) || other?.limits[name as keyof typeof limits] === value;
    if (!isRight) return `limits.${name} other than ${value}`;
  }
  if (integrity === 'frame' && other?.integrity === 'full') return 'it requests integrity full';
  const missing = features.find((feature) => other?.features.includes(feature) === false);
  if (missing !== undefined) return `it does not announce ${missing}`;
  const steps = lines.flatMap((line) => line.steps);
  const service = ['target', 'flow', 'exec', 'clock', 'freeze'].find((name) => {
    const uses = name === 'target' ? /^OPEN \d+$/ : new RegExp(`^OPEN \\d+ .*${name}`);
    return services?.includes(name) === false && steps.some((step) => uses.test(step));
  });
  return service === undefined ? null : `it does not offer ${service}`;
}

/** The outcome: null, why it could not be held, or what was wrong. */
export async function play(script: string, program: Program, timeoutMs: number): Promise<null | string | Failure> {
  const { given } = parseScript(script);
  let peer: WirePeer | null = null;
  try {
    peer = new WirePeer(await program.open(timeoutMs), given);
    const talk = new Play(program, peer, timeoutMs);
    await talk.wait('a HELLO', () => peer?.other !== undefined);
    const { limits = DEFAULT_LIMITS, integrity = 'full' } = peer.other ?? {};
    peer.log.integrity = given.integrity === 'frame' ? integrity : 'full';
    if (given.opening !== true) {
      peer.write(Buffer.concat([FLUSH, peer.hello({ ack: peer.other?.nonce })]));
      await talk.wait('SERVICES', () => peer?.services !== null);
      peer.log.take();
    }
    const { lines } = parseScript(fillLimits(script, limits));
    const reason = lacks(script, given, lines, peer);
    if (reason === null) await talk.run(lines);
    return reason;
  } catch (error) {
    if (peer?.other === undefined)
      return new NoHello((await program.describeConduct(peer?.head ?? Buffer.alloc(0))) ?? (error as Error).message);
    return error instanceof Failure
      ? error
      : new Failure('the channel', [], 'a conversation', (error as Error).message);
  } finally {
    peer?.close();
    program.hangUp();
  }
}

class Play {
  readonly #program: Program;
  readonly #peer: WirePeer;
  readonly #timeoutMs: number;
  readonly #ends = new Map<number, LocalEnd>();
  readonly #own: { readonly name: string; readonly end: LocalEnd }[] = [];
  #hasLocalSteps = false;
  #steps: string[] = [];
  #hellos = 0;
  /** The nonce of the program in the session that is talked about. */
  #nonce = '';
  #isTorn = false;
  #pingsBefore = 0;

  constructor(program: Program, peer: WirePeer, timeoutMs: number) {
    this.#program = program;
    this.#peer = peer;
    this.#timeoutMs = timeoutMs;
  }

  async run(lines: readonly Line[]): Promise<void> {
    this.#hasLocalSteps = lines.some(({ steps, told }) => told !== null || steps.some((step) => LOCAL.test(step)));
    this.#begin();
    for (const line of lines) {
      if (line.told !== null) await this.#told(line.text, ...line.told);
      const expected = expectedIn(line.answer?.frames ?? '...');
      for (const step of line.steps) {
        this.#steps.push(step);
        await this.#do(step, expected);
      }
      if (line.answer !== null) await this.#answer(line.text, expected, line.answer.frames, line.answer.code);
    }
    const { fault } = this.#peer;
    if (fault !== null) this.#fail('the end', 'what the protocol allows', fault);
    if (!this.#isAlive() || this.#isTorn) return;
    if (!(await this.#ping())) this.#fail('PING', 'PONG 0', 'no PONG');
    for (const [id, { sent }] of this.#ends) {
      const received = this.#peer.received.get(id) ?? Buffer.alloc(0);
      if (!received.equals(sent.subarray(0, received.length))) this.#fail(`stream ${id}`, 'the bytes sent', 'others');
    }
  }

  /** Waits for something without which nothing can be said. */
  async wait(what: string, isDone: () => boolean): Promise<void> {
    const peer = this.#peer;
    await this.#until(() => isDone() || peer.fault !== null || peer.isClosed);
    const came = peer.fault ?? (peer.isClosed ? 'the end of the channel' : `nothing in ${this.#timeoutMs} ms`);
    if (!isDone()) this.#fail('the opening', what, came);
  }

  #begin(): void {
    this.#nonce = this.#peer.other?.nonce ?? '';
    this.#hellos = this.#peer.log.hellos.length;
    this.#steps = [];
  }

  async #do(step: string, expected: Expected): Promise<void> {
    const peer = this.#peer;
    const { dialled } = this.#program;
    const [word = '', id = '', what] = step.split(' ');
    if (word === 'wait') await delay(Number(id));
    else if (word === 'leave') this.#program.terminate();
    else if (word === 'fill') await this.#fill(Number(id));
    else if (LOCAL.test(word)) await this.#local(word, id, what, expected);
    else {
      if (word === 'pong') await this.#until(() => peer.pings > this.#pingsBefore);
      this.#isTorn ||= TEARS.test(step);
      const connections = dialled.length;
      const { frame = 0 } = peer.other?.limits ?? {};
      const bytes = word === 'DATA' && !step.includes('!') && /^\d+$/.test(what ?? '') ? Number(what) : 0;
      for (let left = bytes; left > 0; left -= frame) peer.say(`DATA ${id} ${Math.min(left, frame)}`);
      try {
        if (bytes === 0) peer.perform(step);
      } catch (error) {
        this.#fail(step, 'what it answers', (error as Error).message);
      }
      this.#pingsBefore = peer.pings;
      if (word !== 'OPEN' || !this.#hasLocalSteps) return;
      // Its connection, if it is accepted, belongs to this stream.
      const isAnswered = (name: string): boolean => this.#texts().some((text) => text.startsWith(`${name} ${id}`));
      const isAccepted = (): boolean => dialled.length > connections && isAnswered('ACCEPT');
      await this.#until(() => isAccepted() || isAnswered('REFUSE') || !this.#isAlive());
      const end = dialled[connections];
      if (end !== undefined) this.#ends.set(Number(id), end);
    }
  }

  /** An action of a program at a stream, after all that the peer has sent, and what the program under test does then. */
  async #local(word: string, id: string, what: string | undefined, expected: Expected): Promise<void> {
    await this.#ping();
    if (word === 'open') this.#own.push({ name: id, end: await this.#program.dial(this.#timeoutMs) });
    else if (word === 'send') this.#end(id).send(bytesOf(what));
    else if (word === 'finish') this.#end(id).socket.end();
    else this.#end(id).read();
    await this.#until(() => differs(expected, this.#texts()) === null, LOCAL_MS);
  }

  /** DATA as far as the credit of the stream goes, until no more of it comes. */
  async #fill(id: number): Promise<void> {
    const peer = this.#peer;
    const { frame = 0 } = peer.other?.limits ?? {};
    do {
      for (let left = peer.creditLeft(id); left > 0; left = peer.creditLeft(id)) {
        peer.say(`DATA ${id} ${Math.min(left, frame)}`);
        if ((peer.sent.get(id)?.length ?? 0) > MAX_FILL_BYTES) this.#fail(`fill ${id}`, 'credit that ends', 'credit');
      }
    } while (await this.#until(() => peer.creditLeft(id) > 0, LOCAL_MS));
  }

  #end(id: string): LocalEnd {
    for (const [index, streamId] of this.#peer.opened.entries()) {
      const own = this.#own[index];
      if (own !== undefined) this.#ends.set(streamId, own.end);
    }
    const end = this.#ends.get(Number(id)) ?? this.#own.find(({ name }) => name === id)?.end;
    return end ?? this.#fail(`stream ${id}`, 'its connection', 'none');
  }

  /** The local end has what it should have: whether bytes, and an end, came. The code of an end cannot be seen there. */
  async #told(at: string, id: string, events: string): Promise<void> {
    const end = this.#end(id);
    end.read();
    const isOver = /\b(?:fin|end)\b/.test(events);
    const sent = (): Buffer => this.#peer.sent.get(Number(id)) ?? Buffer.alloc(0);
    const isWhole = (): boolean => end.received.length > 0 && end.received.length === sent().length;
    const hasData = (): boolean => {
      if (!events.includes('data')) return end.received.length === 0;
      // What waits when a stream is reset may be dropped.
      return /\bend \S/.test(events) || isWhole();
    };
    const isDone = (): boolean => hasData() && end.hasEnded === isOver;
    await this.#until(isDone);
    const { received, hasEnded } = end;
    if (isDone() && received.equals(sent().subarray(0, received.length))) return;
    this.#fail(at, events, `${received.length} of ${sent().length} bytes${hasEnded ? ', and the end' : ''}`);
  }

  /** The output since the last arrow. */
  #texts(): string[] {
    const { log, nonce } = this.#peer;
    const texts = log.frames.map(formatWithLast);
    const first = texts.indexOf('SERVICES 0');
    if (first !== -1) texts[first] = 'established';
    return [...formatHellos(log.hellos, this.#hellos, nonce), ...texts];
  }

  /** Whether the session that the conversation began in still runs. */
  #isAlive(): boolean {
    const { services, fault } = this.#peer;
    return services !== null && fault === null && !this.#hasEnded();
  }

  #hasEnded(): boolean {
    return this.#peer.isClosed || this.#peer.other?.nonce !== this.#nonce;
  }

  async #answer(at: string, expected: Expected, frames: string, code: string | undefined): Promise<void> {
    const peer = this.#peer;
    const wantsEnd = code !== undefined || expected.hellos.includes('attempt');
    const isRight = (): boolean => differs(expected, this.#texts()) === null && (!wantsEnd || this.#hasEnded());
    await this.#until(() => isRight() || peer.fault !== null || (!wantsEnd && this.#hasEnded()));
    // Until the program has handled all that was sent to it, as far as that can be seen.
    if (peer.fault === null && !wantsEnd && !(await this.#ping())) await delay(QUIET_MS);
    const texts = this.#texts();
    const end = this.#hasEnded() ? [peer.isClosed ? 'the channel closes' : 'the channel is opened again'] : [];
    const came = [...texts, ...end].join(', ') || 'nothing';
    const difference = peer.fault ?? differs(expected, texts);
    if (difference !== null) this.#fail(at, frames, `${came} (${difference})`);
    if (wantsEnd !== this.#hasEnded())
      this.#fail(at, wantsEnd ? `the session ends ${code ?? ''}` : 'the session goes on', came);
    if (code !== undefined && frames === '') {
      const goaways = texts.filter((one) => one.startsWith('GOAWAY')).map((one) => one.split(' ')[2]);
      const wanted = SILENT.includes(code) ? '' : code;
      if (goaways.join() !== wanted) this.#fail(at, wanted === '' ? 'no GOAWAY' : `GOAWAY 0 ${code}`, came);
    }
    peer.log.take();
    if (wantsEnd) this.#isTorn = false;
    this.#begin();
  }

  /** Sends a PING that no conversation compares, and waits for its PONG; false if none can come, or none does. */
  async #ping(): Promise<boolean> {
    const peer = this.#peer;
    if (!this.#isAlive() || this.#isTorn) return false;
    const payload = `p${peer.sequence}`.padEnd(8, '-');
    peer.say(`PING 0 hex:${Buffer.from(payload).toString('hex')}`);
    const find = (): number =>
      peer.log.frames.findIndex((one) => one.name === 'PONG' && String(one.payload) === payload);
    await this.#until(() => find() !== -1 || !this.#isAlive());
    return find() !== -1 && peer.log.frames.splice(find(), 1).length > 0;
  }

  async #until(isDone: () => boolean, ms = this.#timeoutMs): Promise<boolean> {
    const end = performance.now() + ms;
    while (!isDone()) {
      if (performance.now() > end) return false;
      await delay(2);
    }
    return true;
  }

  #fail(at: string, expected: string, came: string): never {
    throw new Failure(at, this.#steps, expected, came);
  }
}
