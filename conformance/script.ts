/**
 * Conversations between a peer that writes frames by hand and the side under test, as texts: data, which `play.ts` holds with any
 * program, and spec/helpers/conversation.ts with a session in process.
 *
 * A line, or a part between semicolons, has steps, and after `->` the output of the side under test since the last arrow: frames as
 * formatted by `formatSeen`, `nothing`, or `...` for anything.
 *
 *     given limits.opens=2, holds=true               what the sides agreed on
 *     OPEN 1, DATA 1 hello, DATA 1 500 -> ACCEPT 1   frames of the peer, DATA as a text or a number of bytes
 *     OPEN 1 {"service":7}, FIN 1 !flags=1           other payloads, and faults
 *     fill 1 -> ...                                  DATA on a stream, as far as its credit goes
 *     open far, send far 500 -> OPEN 2 far, DATA 2 500   actions of the program at the side under test
 *     1 is told data, fin                            the events of the local end of a stream
 *     2000 ms were stalls                            what the session has counted so far
 *     RESET 9 -> ends protocol-error                 how the session ends, with the matching GOAWAY
 *
 * After `given opening=true` the side under test has begun to open, and is not established:
 *
 *     HELLO {"name":7} -name -> nothing              magic and HELLO, with another field, or without it
 *     HELLO -> hello, established                    the side's HELLO answers; the first frames of a session
 *     renew, BYTES 00*16                             a nonce as after a restart; any bytes, repeated
 *     wait 6500 -> repeat, attempt                   the same HELLO again; one with a fresh nonce
 *     RESUME 0 40, resume                            a wrong RESUME; the right one, and what the side has not received
 *     prove, pong                                    the right AUTH; a PONG for the newest PING
 *
 * `$nonce` and `$instance` are those of the side's newest HELLO, `$session` is the id of the session before the newest flush;
 * `{streamCredit-1}` and `{frame+1}` come from its limits. Unless it
 * has ended, a session must still answer after the last line.
 */
import type { Hello } from '../lib/codec/hello.js';
import type { Limits } from '../lib/codec/limits.js';
import type { FrameMakerOptions } from './frame-maker.js';

/** Conversations by their titles, which begin with the numbers of their rules: each one, or several independent ones. */
export type Conversations = Readonly<Record<string, string | readonly string[]>>;

/** The codes with which a side leaves without a GOAWAY (R-CODE-3). */
export const SILENT: readonly string[] = ['peer-restarted', 'desync'];

export interface Given extends FrameMakerOptions {
  /** Of the side under test. */
  readonly limits?: Partial<Limits>;
  /** In process: more settings of the side under test, and the bytes that its channel takes before back-pressure. */
  readonly settings?: object;
  readonly capacityBytes?: number;
  /** The side under test leaves streams unanswered. */
  readonly holds?: boolean;
  /** The side under test has begun to open, and is not established. */
  readonly opening?: boolean;
  /** Both sides have a key. */
  readonly keyed?: boolean;
  /** The protocol leaves it open: what this implementation does. */
  readonly inside?: boolean;
  /** What the side under test serves besides; `nothing` in process: it refuses each stream. */
  readonly serves?: string;
  /** What a side may lack without breaking a rule. */
  readonly needs?: readonly string[];
}

export interface Line {
  readonly text: string;
  readonly steps: readonly string[];
  /** Null: nothing is compared yet. */
  readonly answer: { readonly frames: string; readonly code: string | undefined } | null;
  /** The local end of a stream, and its events. */
  readonly told: readonly [id: string, events: string] | null;
  readonly stallMs: number | null;
}

/** `limits.streams=2, holds=true, features=datagram+resume` */
function parseGiven(text: string): Given {
  const given: Record<string, unknown> = {};
  for (const [, group = '', key, value = ''] of text.matchAll(/([a-zA-Z]+)(?:\.([a-zA-Z]+))?=([^,\s]+)/g)) {
    const isText = /^[a-z]+$/.test(value) && !/true|false/.test(value);
    const parsed: unknown =
      group === 'features' || group === 'needs' ? value.split('+') : isText ? value : JSON.parse(value);
    given[group] = key === undefined ? parsed : { ...(given[group] as object | undefined), [key]: parsed };
  }
  return given;
}

function parseLine(text: string): Line {
  const [, id, events] = /^(\S+) is told (.*)$/.exec(text) ?? [];
  const [, ms] = /^(\d+) ms were stalls$/.exec(text) ?? [];
  const told = id === undefined ? null : ([id, events ?? ''] as const);
  const stallMs = ms === undefined ? null : Number(ms);
  if (told !== null || stallMs !== null) return { text, steps: [], answer: null, told, stallMs };
  const [steps = '', answer] = text.split(/ ?-> /);
  const [, frames = '', code] = /^(.*?)(?:, )?(?:ends (\S+))?$/.exec(answer ?? '') ?? [];
  return { text, steps: steps.split(', '), answer: answer === undefined ? null : { frames, code }, told, stallMs };
}

export function parseScript(script: string): { readonly given: Given; readonly lines: readonly Line[] } {
  const lines = script.split(/[;\n]/).flatMap((line) => line.trim() || []);
  const isGiven = (line: string): boolean => line.startsWith('given ');
  return { given: parseGiven(lines.find(isGiven) ?? ''), lines: lines.filter((line) => !isGiven(line)).map(parseLine) };
}

const LIMIT = /\{(frame|streamCredit|inFlight|streams|opens)([+-]\d+)?\}/g;

/** The limits of the side under test that a script adapts to. */
export const limitsIn = (script: string): string[] => [...script.matchAll(LIMIT)].map(([, name = '']) => name);

export const fillLimits = (script: string, limits: Limits): string =>
  script.replace(LIMIT, (_, name: keyof Limits, more = '0') => `${limits[name] + Number(more)}`);

/** HELLOs of a side, from number `from` on, as a peer with `nonce` sees them; of several repeats only the first. */
export function formatHellos(hellos: readonly Hello[], from: number, nonce: string): string[] {
  const texts = hellos.slice(from).flatMap((hello, index) => {
    const before = hellos[from + index - 1];
    const isFresh = before !== undefined && before.nonce !== hello.nonce;
    if (hello.ack === nonce && (isFresh || before?.ack !== nonce)) return isFresh ? ['attempt', 'hello'] : ['hello'];
    return isFresh ? ['attempt'] : before === undefined ? [] : ['repeat'];
  });
  return texts.filter((text, index) => text !== 'repeat' || texts.indexOf('repeat') === index);
}

/** Whether an answer names HELLOs, or the beginning of a session: those are not compared in others. */
export const namesHellos = (frames: string): boolean => /(?:^|, )(?:hello|attempt|repeat|established)\b/.test(frames);
