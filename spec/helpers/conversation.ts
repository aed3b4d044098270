/** Conversations between a peer that writes frames by hand and the side under test, and how sessions must end or continue. */
import test, { type ExecutionContext } from 'ava';
import { formatWithLast } from '../../conformance/frame-log.js';
import { bytesOf, KEY } from '../../conformance/frame-maker.js';
import {
  type Conversations,
  fillLimits,
  formatHellos,
  type Given,
  namesHellos,
  parseScript,
  SILENT,
} from '../../conformance/script.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { VproxyError } from '../../lib/errors.js';
import { DatagramFlow } from '../../lib/forward/datagram/datagram-flow.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { KeptSessions } from '../../lib/session/resume/kept-sessions.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { FramePeer, type FramePeerOptions } from './frame-peer.js';
import { RecordingSink } from './local-ends.js';
import { ManualClock } from './time.js';

/** Checks that the only session so far has ended with `code`, and that the peer was notified where it must be. */
export function endedWith(t: ExecutionContext, peer: FramePeer, code: string): void {
  t.deepEqual(peer.codes, [code], peer.endings.map(({ message }) => message).join());
  t.is(peer.loop.session, null);
  for (const sink of peer.sinks.values()) t.true(sink.isOver);
  const goaways = peer.takeTexts().filter((text) => text.startsWith('GOAWAY'));
  t.deepEqual(goaways, SILENT.includes(code) ? [] : [`GOAWAY 0 ${code}`]);
}

type Act = (peer: FramePeer) => void;

export function endsWith(t: ExecutionContext, code: string, act: Act, options: FramePeerOptions = {}): void {
  const peer = FramePeer.established(options);
  act(peer);
  endedWith(t, peer, code);
}

/** Acts on an established side, and checks that the session continues: it still answers. */
export function goesOn(t: ExecutionContext, act: Act, options: FramePeerOptions = {}): FramePeer {
  const peer = FramePeer.established(options);
  act(peer);
  answersStill(t, peer);
  return peer;
}

function answersStill(t: ExecutionContext, peer: FramePeer, codes: readonly string[] = []): void {
  t.deepEqual(peer.codes, codes);
  const before = peer.log.take();
  peer.send(FRAME_TYPE.PING, 0, Buffer.from('are you?'));
  t.deepEqual(peer.takeTexts(), ['PONG 0']);
  peer.log.frames.push(...before);
}

/** How the program at the side under test uses a stream. */
const ACTS: Readonly<Record<string, (stream: SessionStream, what: string | undefined) => unknown>> = {
  accept: (stream) => stream.accept(),
  finish: (stream) => stream.finish(),
  release: (stream, bytes) => stream.release(Number(bytes)),
  reset: (stream, code = 'cancelled') => stream.reset(code, 'given up'),
  stop: (stream, code = 'local-error') => stream.stop(code, 'nobody reads '.repeat(16)),
  send: (stream, what) => stream.send(bytesOf(what), 0, bytesOf(what).length, false),
};

const ACTS_OF_SIDE: Readonly<Record<string, (peer: FramePeer, what: string) => void>> = {
  wait: ({ clock }, ms) => clock.advance(Number(ms)),
  jump: ({ clock }, ms) => clock.jump(Number(ms)),
  drain: ({ session }, why) => session.drain(why),
  deafen: (peer) => void (peer.isReading = false),
  read: (peer) => void (peer.isReading = true),
  leave: ({ loop }) => loop.stop(new VproxyError('shutdown', 'SIGTERM')),
};

/** Serves a stream like a program: a flow of datagrams, too. */
function serve(stream: SessionStream): void {
  if (!stream.isDatagram) {
    stream.accept();
    return;
  }
  const ignored = (): void => undefined;
  DatagramFlow.attach(stream, { onMessage: ignored, onClosed: ignored, onDropped: ignored }).accept();
}

/** A session in process, and the programs at its streams. */
class Conversation {
  readonly peer: FramePeer;
  /** Failures of the program at the side under test. */
  readonly notes: string[] = [];
  readonly #own: { readonly stream: SessionStream; readonly sink: RecordingSink }[] = [];
  readonly #isOpening: boolean;
  #hellos: number;

  constructor({ holds = false, opening = false, keyed = false, serves, ...options }: Given) {
    const clock = new ManualClock();
    const settings = {
      ...(keyed && { keys: () => [SecretKey.parse(KEY.toString('hex'))] }),
      ...(options.features?.includes('resume') && {
        resume: { kept: new KeptSessions(clock, 60_000), memoryBytes: 2 ** 20 },
      }),
    };
    const all = { ...options, clock, settings: { ...settings, ...options.settings } };
    this.#isOpening = opening;
    this.peer = opening ? FramePeer.opening(all) : FramePeer.established(all);
    this.#hellos = this.peer.log.hellos.length;
    this.peer.onStream = holds ? () => undefined : serve;
    if (serves === 'nothing') this.peer.session.server = null;
  }

  /** A step of the peer, or an action of the side under test. */
  do(step: string, pieceBytes?: number): void {
    const [word = '', id = '', ...what] = step.split(' ');
    const { peer } = this;
    peer.pieceBytes = pieceBytes;
    if (word === 'open') this.#open(id);
    else if (word === 'fill') peer.say(`DATA ${id} ${peer.settings.limits.streamCredit}`);
    else if (ACTS[word] !== undefined) ACTS[word](this.#end(id).stream, what[0]);
    else if (ACTS_OF_SIDE[word] !== undefined) ACTS_OF_SIDE[word](peer, id);
    else if (!peer.perform(step)) throw new Error(`unknown word "${word}"`);
    peer.pump();
  }

  told(id: string): string {
    return this.#end(id).sink.events.join(', ') || 'nothing';
  }

  /** The output since the last call. */
  take(frames: string): string {
    const { hellos } = this.peer.log;
    const shows = this.#isOpening || namesHellos(frames);
    const texts = this.peer.log.take().map(formatWithLast);
    if (shows && texts.includes('SERVICES 0'))
      texts.splice(texts.indexOf('SERVICES 0'), texts.includes('PING 0') ? 2 : 1, 'established');
    const said = shows ? formatHellos(hellos, this.#hellos, this.peer.nonce) : [];
    this.#hellos = hellos.length;
    return [...this.notes.splice(0), ...said, ...texts].join(', ') || 'nothing';
  }

  #open(service: string): void {
    const sink = new RecordingSink();
    try {
      this.#own.push({ stream: this.peer.session.open(service, null, sink), sink });
    } catch (error) {
      this.notes.push(`cannot open: ${(error as VproxyError).code}`);
    }
  }

  /** A stream of either side by its id, or one of the side under test by its service. */
  #end(id: string): { readonly stream: SessionStream; readonly sink: RecordingSink } {
    const [stream, sink] = [this.peer.streams.get(Number(id)), this.peer.sinks.get(Number(id))];
    if (stream !== undefined && sink !== undefined) return { stream, sink };
    const own = this.#own.find((end) => end.stream.service === id || end.stream.id === Number(id));
    if (own === undefined) throw new Error(`there is no stream ${id}`);
    return own;
  }
}

/** Holds a conversation with an established side in process; its frames arrive in pieces of this size, or whole. */
function converse(t: ExecutionContext, script: string, pieceBytes?: number): void {
  const { given } = parseScript(script);
  const { lines } = parseScript(fillLimits(script, { ...DEFAULT_LIMITS, ...given.limits }));
  const conversation = new Conversation(given);
  const { peer } = conversation;
  const codes: string[] = [];
  for (const { text, steps, answer, told, stallMs } of lines) {
    if (told !== null) t.is(conversation.told(told[0]), told[1], text);
    if (stallMs !== null) t.is(peer.session.counters.stallMs, stallMs, text);
    for (const step of steps) conversation.do(step, pieceBytes);
    if (answer === null) continue;
    const { frames, code } = answer;
    if (code !== undefined) {
      codes.push(code);
      if (frames === '') endedWith(t, peer, code);
      else t.is(peer.loop.session, null, text);
    }
    t.deepEqual(peer.codes, codes, text);
    const seen = conversation.take(frames);
    const [, known = '', more] = /^(.*?)(?:, )?(\.\.\.)?$/.exec(frames) ?? [];
    if (frames !== '') t.is(more === undefined ? seen : seen.slice(0, known.length), known, text);
  }
  if (peer.loop.session !== null) answersStill(t, peer, codes);
}

/** Defines a test for each title; `pieces` are the sizes in which frames arrive, one after the other. */
export function conversations(table: Conversations, pieces: readonly (number | undefined)[] = [undefined]): void {
  for (const [title, script] of Object.entries(table)) {
    test(title, (t) => {
      for (const pieceBytes of pieces) for (const one of [script].flat()) converse(t, one, pieceBytes);
    });
  }
}
