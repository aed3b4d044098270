/** Holds a conversation with a program: what its peer sends goes over the channel, what its local ends do through its services. */
import { setTimeout as delay } from 'node:timers/promises';
import { DEFAULT_LIMITS } from '../../../lib/codec/limits.js';
import { formatWithLast } from '../../helpers/frame-log.js';
import { bytesOf, isFrame } from '../../helpers/frame-maker.js';
import { fillLimits, formatHellos, type Given, type Line, parseScript, SILENT } from '../../helpers/script.js';
import { differs, type Expected, expectedIn, isStillPossible } from './compare.js';
import type { LocalEnd, Program } from './program.js';
import { WirePeer } from './wire-peer.js';

export interface Failure {
  readonly line: string;
  readonly sent: string;
  readonly expected: string;
  readonly came: string;
}

/** The flush of a side with the usual limits (R-OPEN-1). */
const FLUSH = Buffer.alloc(DEFAULT_LIMITS.frame + 16);

/** Steps that leave a frame incomplete: no PING can follow. */
const TEARS = /^BYTES|!cut|!lost|!length/;

/** Steps of the programs at the streams. */
const LOCAL = /^(?:open|send|finish|release)$/;

/** How long a program may take for what nothing tells: that it has done nothing, or has read from a socket. */
const QUIET_MS = 80;
const LOCAL_MS = 400;

/** More than a program that is not read may take, with the buffers of its system. */
const MAX_FILL_BYTES = 2 ** 24;

class Failed extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.line);
    this.failure = failure;
  }
}

/** Why a program cannot be asked this; null if it can. */
function lacks(
  given: Given,
  lines: readonly Line[],
  { other, services }: WirePeer,
  isAdaptive: boolean,
): string | null {
  if (other === undefined) return 'it sends no HELLO';
  const { limits = {}, integrity = 'full', features = [] } = given;
  for (const [name, value] of Object.entries(limits))
    if (!isAdaptive && other.limits[name as keyof typeof limits] !== value) return `limits.${name} other than ${value}`;
  if (integrity === 'frame' && other.integrity === 'full') return 'it requests integrity full';
  const missing = features.find((feature) => !other.features.includes(feature));
  if (missing !== undefined) return `it does not announce ${missing}`;
  const needs = (service: string, pattern: RegExp): boolean =>
    services?.includes(service) === false && lines.some(({ steps }) => steps.some((step) => pattern.test(step)));
  if (needs('target', /^OPEN \d+$/)) return 'it does not offer target';
  return needs('flow', /^OPEN \d+ .*flow/) ? 'it does not offer flow' : null;
}

class Play {
  readonly #program: Program;
  readonly #peer: WirePeer;
  readonly #timeoutMs: number;
  readonly #ends = new Map<number, LocalEnd>();
  readonly #own: { readonly name: string; readonly end: LocalEnd }[] = [];
  readonly #hasLocalSteps: boolean;
  #sent: string[] = [];
  #hellos = 0;
  /** The nonce of the program in the session that is talked about. */
  #nonce = '';
  #isTorn = false;
  #pingsBefore = 0;

  constructor(program: Program, peer: WirePeer, lines: readonly Line[], timeoutMs: number) {
    this.#program = program;
    this.#peer = peer;
    this.#timeoutMs = timeoutMs;
    this.#hasLocalSteps = lines.some(
      ({ steps, told }) => told !== null || steps.some((step) => LOCAL.test(step.split(' ')[0] ?? '')),
    );
    this.#begin();
  }

  async run(lines: readonly Line[]): Promise<void> {
    for (const line of lines) {
      if (line.told !== null) await this.#told(line, ...line.told);
      const expected = expectedIn(line.answer?.frames ?? '...');
      for (const step of line.steps) {
        this.#sent.push(step);
        await this.#do(step, expected);
      }
      if (line.answer === null) continue;
      await this.#answer(line, expected, line.answer.code);
      this.#sent = [];
    }
    if (!this.#isAlive() || this.#isTorn) return;
    if (!(await this.#ping())) this.#fail('PING', 'PONG 0', 'no PONG');
    this.#judgeStreams();
  }

  #begin(): void {
    this.#nonce = this.#peer.other?.nonce ?? '';
    this.#hellos = this.#peer.log.hellos.length;
  }

  async #do(step: string, expected: Expected): Promise<void> {
    const peer = this.#peer;
    const [word = '', id = '', what] = step.split(' ');
    if (word === 'wait') return void (await delay(Number(id)));
    if (word === 'leave') return this.#program.terminate();
    if (word === 'fill') return this.#fill(Number(id));
    if (word === 'pong') await this.#until(() => peer.pings > this.#pingsBefore);
    if (LOCAL.test(word)) return this.#local(word, id, what, expected);
    if (TEARS.test(step)) this.#isTorn = true;
    const connections = this.#program.dialled.length;
    const { frame = 0 } = peer.other?.limits ?? {};
    // As the peer's frames may be: a larger one is a case of its own.
    for (let left = Number(word === 'DATA' && /^\d+$/.test(what ?? '') ? what : 0); left > frame; left -= frame) {
      peer.say(`DATA ${id} ${frame}`);
      step = `DATA ${id} ${left - frame}`;
    }
    peer.perform(step);
    this.#pingsBefore = peer.pings;
    if (word !== 'OPEN' || !this.#hasLocalSteps) return;
    const { dialled } = this.#program;
    const isAnswered = (): boolean => this.#texts().some((text) => text === `ACCEPT ${id}`);
    const isDone = (): boolean =>
      (dialled.length > connections && isAnswered()) ||
      this.#texts().some((text) => text.startsWith(`REFUSE ${id} `)) ||
      !this.#isAlive();
    await this.#until(isDone);
    const end = dialled[connections];
    if (end !== undefined) this.#ends.set(Number(id), end);
  }

  /** An action of a program at a stream, after all that the peer has sent, and what the program under test does then. */
  async #local(word: string, id: string, what: string | undefined, expected: Expected): Promise<void> {
    await this.#ping();
    if (word === 'open') this.#own.push({ name: id, end: await this.#program.dial() });
    else {
      const end = this.#end(id);
      if (word === 'send') end.send(bytesOf(what));
      else if (word === 'finish') end.socket.end();
      else end.read();
    }
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
    if (end === undefined)
      throw new Failed({ line: `stream ${id}`, sent: this.#steps(), expected: 'its connection', came: 'none' });
    return end;
  }

  /** The local end has what it should have: whether bytes, and an end, came. The code of an end cannot be seen there. */
  async #told(line: Line, id: string, events: string): Promise<void> {
    const end = this.#end(id);
    end.read();
    // What waits when a stream is reset may be dropped.
    const isReset = /\bend \S/.test(events);
    const wants = { data: /\bdata\b/.test(events), over: /\b(?:fin|end)\b/.test(events) };
    const sent = (): Buffer => this.#peer.sent.get(Number(id)) ?? Buffer.alloc(0);
    const isDone = (): boolean =>
      (!wants.data || isReset || (end.received.length > 0 && end.received.length === sent().length)) &&
      end.hasEnded === wants.over;
    await this.#until(isDone);
    const { received, hasEnded } = end;
    if (!isDone() || (!wants.data && received.length > 0) || !received.equals(sent().subarray(0, received.length))) {
      const came = `${received.length} of ${sent().length} bytes${hasEnded ? ', and the end' : ''}`;
      this.#fail(line.text, events, came);
    }
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
    const { other, services, isClosed, fault } = this.#peer;
    return services !== null && !isClosed && fault === null && other?.nonce === this.#nonce;
  }

  async #answer(line: Line, expected: Expected, code: string | undefined): Promise<void> {
    const hasEnded = (): boolean => this.#peer.isClosed || this.#peer.other?.nonce !== this.#nonce;
    const isRight = (): boolean => differs(expected, this.#texts()) === null && (code === undefined || hasEnded());
    const isHopeless = (): boolean => this.#peer.fault !== null || !isStillPossible(expected, this.#texts());
    await this.#until(() => isRight() || isHopeless());
    if (this.#peer.fault === null && code === undefined) await this.#settle();
    const texts = this.#texts();
    const { fault } = this.#peer;
    const difference = fault ?? differs(expected, texts);
    const came = `${texts.join(', ') || 'nothing'}${difference === null ? '' : ` (${difference})`}`;
    if (difference !== null) this.#fail(line.text, line.answer?.frames ?? '', came);
    if (code !== undefined) this.#judgeEnd(line, texts, code, hasEnded());
    else if (hasEnded() && this.#nonce !== '' && !expected.hellos.includes('attempt'))
      this.#fail(
        line.text,
        'the session continues',
        `${came}, and the channel ${this.#peer.isClosed ? 'closes' : 'is opened again'}`,
      );
    this.#peer.log.take();
    if (code !== undefined || expected.hellos.includes('attempt')) this.#isTorn = false;
    this.#begin();
  }

  #judgeEnd({ text, answer }: Line, texts: readonly string[], code: string, hasEnded: boolean): void {
    const came = texts.join(', ') || 'nothing';
    const wants = `the channel closed, or opened again after ${code}`;
    if (!hasEnded) this.#fail(text, wants, came);
    if (answer?.frames !== '') return;
    const goaways = texts.filter((one) => one.startsWith('GOAWAY')).map((one) => one.split(' ')[2]);
    const wanted = SILENT.includes(code) ? [] : [code];
    if (goaways.join() !== wanted.join())
      this.#fail(text, wanted.length === 0 ? 'no GOAWAY' : `GOAWAY 0 ${code}`, came);
  }

  /** What the local ends wrote arrives as written. */
  #judgeStreams(): void {
    for (const [id, end] of this.#ends) {
      const received = this.#peer.received.get(id) ?? Buffer.alloc(0);
      if (!received.equals(end.sent.subarray(0, received.length)))
        this.#fail(`stream ${id}`, 'the bytes of its local end', 'others');
    }
  }

  /** Waits until the program has handled all that was sent to it, as far as that can be seen. */
  async #settle(): Promise<void> {
    if (!this.#isAlive() || this.#isTorn || !(await this.#ping())) await delay(QUIET_MS);
  }

  /** Sends a PING that no conversation compares, and waits for its PONG; false if it does not come. */
  async #ping(): Promise<boolean> {
    const peer = this.#peer;
    if (!this.#isAlive() || this.#isTorn) return false;
    const payload = `p${peer.sequence}`.padEnd(8, '-');
    peer.say(`PING 0 hex:${Buffer.from(payload).toString('hex')}`);
    const find = (): number =>
      peer.log.frames.findIndex((one) => one.name === 'PONG' && String(one.payload) === payload);
    await this.#until(() => find() !== -1 || !this.#isAlive());
    const at = find();
    if (at !== -1) peer.log.frames.splice(at, 1);
    return at !== -1;
  }

  async #until(isDone: () => boolean, ms = this.#timeoutMs): Promise<boolean> {
    for (const end = performance.now() + ms; !isDone(); await delay(2)) if (performance.now() > end) return false;
    return true;
  }

  #steps(): string {
    const steps = this.#sent.join(', ');
    return steps.length > 300 ? `${steps.slice(0, 300)}…` : steps;
  }

  #fail(line: string, expected: string, came: string): never {
    throw new Failed({ line, sent: this.#steps(), expected, came });
  }
}

/** The outcome: null, why it could not be held, or what was wrong. */
export async function play(
  script: string,
  program: Program,
  { timeoutMs, isAdaptive }: { readonly timeoutMs: number; readonly isAdaptive: boolean },
): Promise<null | string | Failure> {
  const { given } = parseScript(script);
  const peer = new WirePeer(await program.open(timeoutMs), given);
  const wait = async (isDone: () => boolean, what: string): Promise<void> => {
    for (const end = performance.now() + timeoutMs; !isDone(); await delay(2)) {
      if (peer.fault === null && !peer.isClosed && performance.now() < end) continue;
      const came = peer.fault ?? (peer.isClosed ? 'the end of the channel' : `nothing in ${timeoutMs} ms`);
      throw new Failed({ line: 'the opening', sent: '', expected: what, came });
    }
  };
  try {
    await wait(() => peer.other !== undefined, 'a HELLO');
    const { limits = DEFAULT_LIMITS, integrity } = peer.other ?? {};
    peer.log.integrity = given.integrity === 'frame' ? (integrity ?? 'full') : 'full';
    const { lines } = parseScript(fillLimits(script, limits));
    if (given.opening !== true) {
      peer.write(Buffer.concat([FLUSH, peer.hello({ ack: peer.other?.nonce })]));
      await wait(() => peer.services !== null, 'SERVICES');
      peer.log.take();
    }
    const reason = lacks(given, lines, peer, isAdaptive);
    if (reason !== null) return reason;
    await new Play(program, peer, lines, timeoutMs).run(lines);
    return null;
  } catch (error) {
    if (error instanceof Failed) return error.failure;
    throw error;
  } finally {
    peer.close();
    program.hangUp();
  }
}

/** Whether a word of a conversation is a step that a program can be asked for from outside. */
export const isOutside = (step: string): boolean => {
  const [word = '', what] = step.split(' ');
  if (word === 'wait') return Number(what) <= 7000;
  return (
    /^(?:open|send|finish|release|fill|leave|HELLO|BYTES|renew|pong|prove|[\da-f]{2})$/.test(word) || isFrame(word)
  );
};
