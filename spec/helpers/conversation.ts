/** Conversations between a peer that writes frames by hand and the side under test, and how sessions must end or continue. */
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { VproxyError } from '../../lib/errors.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { formatSeen, jsonOf, type SeenFrame } from './frame-log.js';
import { bytesOf, isFrame } from './frame-maker.js';
import { FramePeer, type FramePeerOptions } from './frame-peer.js';
import { RecordingSink } from './local-ends.js';

/** The codes with which a side leaves without a GOAWAY (R-CODE-3). */
const SILENT = ['peer-restarted', 'desync'];

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

function answersStill(t: ExecutionContext, peer: FramePeer): void {
  t.deepEqual(peer.endings, []);
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

/** GOAWAY with the highest id served, if there is one. */
const formatWithLast = (frame: SeenFrame): string =>
  frame.type === FRAME_TYPE.GOAWAY && jsonOf(frame)['last'] !== 0
    ? `${formatSeen(frame)} ${String(jsonOf(frame)['last'])}`
    : formatSeen(frame);

class Conversation {
  readonly peer: FramePeer;
  /** Failures of the program at the side under test. */
  readonly notes: string[] = [];
  readonly #own: { readonly stream: SessionStream; readonly sink: RecordingSink }[] = [];

  constructor(options: FramePeerOptions, holds: boolean) {
    this.peer = FramePeer.established(options);
    if (holds) this.peer.onStream = () => undefined;
  }

  /** A frame of the peer, in capitals, or an action of the side under test. */
  do(step: string): void {
    const [word = '', id = '', ...what] = step.split(' ');
    if (isFrame(word)) this.peer.say(step);
    else if (word === 'open') this.#open(id);
    else if (ACTS[word] !== undefined) ACTS[word](this.#end(id).stream, what[0]);
    else if (ACTS_OF_SIDE[word] !== undefined) ACTS_OF_SIDE[word](this.peer, id);
    else throw new Error(`unknown word "${word}"`);
    this.peer.pump();
  }

  told(id: string): readonly string[] {
    return this.#end(id).sink.events;
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

/** `limits.streams=2, holds=true`: what the sides agreed on, and whether the side under test leaves streams unanswered. */
function parseGiven(text: string): FramePeerOptions & { readonly holds?: boolean } {
  const given: Record<string, unknown> = {};
  for (const [, group = '', key, value = ''] of text.matchAll(/([a-zA-Z]+)(?:\.([a-zA-Z]+))?=([^,\s]+)/g)) {
    const parsed: unknown = /^[a-z]+$/.test(value) && !/true|false/.test(value) ? value : JSON.parse(value);
    given[group] = key === undefined ? parsed : { ...(given[group] as object | undefined), [key]: parsed };
  }
  return given;
}

/**
 * Holds a conversation with an established side. A line, or a part between semicolons, has steps, and after `->` the output of
 * the side under test since the last arrow: frames as formatted by `formatSeen`, `nothing`, or `...` for anything.
 *
 *     given limits.opens=2, holds=true               what the sides agreed on
 *     OPEN 1, DATA 1 hello, DATA 1 500 -> ACCEPT 1   frames of the peer, DATA as a text or a number of bytes
 *     open far, send far 500 -> OPEN 2 far, DATA 2 500   actions of the program at the side under test
 *     1 is told data, fin                            the events of the local end of a stream
 *     2000 ms were stalls                            what the session has counted so far
 *     RESET 9 -> ends protocol-error                 how the session ends, with the matching GOAWAY
 *
 * Unless it ends, it must still answer.
 */
function converse(t: ExecutionContext, script: string): void {
  const lines = script.split(/[;\n]/).map((line) => line.trim());
  const { holds = false, ...options } = parseGiven(lines.find((line) => line.startsWith('given ')) ?? '');
  const conversation = new Conversation(options, holds);
  const { peer } = conversation;
  let hasEnded = false;
  for (const line of lines) {
    if (line === '' || line.startsWith('given ')) continue;
    const [, id, told] = /^(\S+) is told (.*)$/.exec(line) ?? [];
    const [, ms] = /^(\d+) ms were stalls$/.exec(line) ?? [];
    if (id !== undefined) t.is(conversation.told(id).join(', ') || 'nothing', told ?? '', line);
    if (ms !== undefined) t.is(peer.session.counters.stallMs, Number(ms), line);
    if (id !== undefined || ms !== undefined) continue;
    const [steps = '', answer] = line.split(/ ?-> /);
    for (const step of steps.split(', ')) conversation.do(step);
    if (answer === undefined) continue;
    const [, frames, code] = /^(.*?)(?:, )?(?:ends (\S+))?$/.exec(answer) ?? [];
    if (code !== undefined) {
      hasEnded = true;
      if (frames === '') endedWith(t, peer, code);
      else t.deepEqual([peer.loop.session, ...peer.codes], [null, code], line);
    } else t.deepEqual(peer.codes, [], line);
    const seen = [...conversation.notes.splice(0), ...peer.log.take().map(formatWithLast)];
    if (frames !== '' && frames !== '...') t.is(seen.join(', ') || 'nothing', frames ?? '', line);
  }
  if (!hasEnded) answersStill(t, peer);
}

/** Defines a test for each title, holding one conversation or several independent ones. */
export function conversations(scripts: Readonly<Record<string, string | readonly string[]>>): void {
  for (const [title, script] of Object.entries(scripts)) {
    test(title, (t) => {
      for (const one of [script].flat()) converse(t, one);
    });
  }
}
