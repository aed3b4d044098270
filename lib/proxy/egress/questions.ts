/** Destinations that guests request and no rule names: each waits for an operator's answer, within bounds (docs/egress.md). */
import { randomBytes } from 'node:crypto';
import { VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import type { Destination } from '../../forward/egress/rules.js';
import type { EgressQuestion } from '../../status/types.js';
import { formatHostPort } from '../../util/addresses/host-port.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { escapeText, quoteWord } from '../../util/escape.js';
import { formatCount, formatDuration, formatElapsed } from '../../util/units.js';

/** Limits: open questions of a channel, connections waiting for one, and ended questions kept to explain a late answer. */
export const MAX_QUESTIONS = 32;
export const MAX_WAITING = 64;
const MAX_ENDED = 64;

/** How a question ended; `settled`: other rules decided it, or no connection was left. */
type QuestionEnd = 'allowed' | 'denied' | 'expired' | 'settled';

interface Question {
  readonly status: Omit<EgressQuestion, 'connections'>;
  readonly target: Destination;
  /** Called with null when the rules decide now, or with why the destination is refused; with what tells that its program left. */
  readonly waiting: Map<(refused: string | null) => void, AbortSignal>;
  readonly cancel: CancelTimer;
}

interface Ended {
  readonly id: string;
  readonly how: QuestionEnd;
  readonly destination: string;
  readonly egress: string;
  readonly atMs: number;
}

interface QuestionsOptions {
  readonly channel: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** The open questions of one channel. */
export class Questions {
  readonly #options: QuestionsOptions;
  readonly #open = new Map<string, Question>();
  #ended: Ended[] = [];
  /** The question whose answer is being made a rule. */
  #answering: Question | null = null;

  constructor(options: QuestionsOptions) {
    this.#options = options;
  }

  /**
   * Waits at most `askMs` for an answer. Resolves with null when the rules decide now, or with the reason for a refusal.
   * Rejects with the reason of `signal`. If no place is left, the first connection whose program has `left` gives its own.
   */
  ask(
    egress: string,
    target: Destination,
    askMs: number,
    why: string,
    signal: AbortSignal,
    left = signal,
  ): Promise<string | null> {
    const destination = formatHostPort(target);
    const known = [...this.#open.values()].find(
      ({ status }) => status.egress === egress && status.destination === destination,
    );
    if (known === undefined && this.#open.size >= MAX_QUESTIONS)
      return Promise.resolve(`${MAX_QUESTIONS} other destinations wait for an answer`);
    if (known !== undefined && known.waiting.size >= MAX_WAITING && !makeRoom(known))
      return Promise.resolve(`${MAX_WAITING} other connections wait for the same answer`);
    // An aborted signal fires no event.
    signal.throwIfAborted();
    const question = known ?? this.#begin(egress, target, destination, askMs, why);
    const decided = new Promise<string | null>((resolve, reject) => {
      const leave = (): void => {
        question.waiting.delete(settle);
        reject(signal.reason as Error);
        if (question.waiting.size === 0) this.#end(question, 'settled', null);
      };
      const settle = (refused: string | null): void => {
        signal.removeEventListener('abort', leave);
        resolve(refused);
      };
      signal.addEventListener('abort', leave);
      question.waiting.set(settle, left);
    });
    // A listener may answer synchronously.
    if (known === undefined) this.#announce(question);
    return decided;
  }

  #begin(egress: string, target: Destination, destination: string, askMs: number, why: string): Question {
    const { channel, clock } = this.#options;
    const nowMs = Date.now();
    const [askedAt, until] = [new Date(nowMs).toISOString(), new Date(nowMs + askMs).toISOString()] as const;
    const status = { id: randomBytes(4).toString('hex'), channel, egress, destination, why, askedAt, until };
    const cancel = clock.schedule(askMs, () =>
      this.#end(question, 'expired', `no answer within ${formatDuration(askMs)}`),
    );
    const question: Question = { status, target, waiting: new Map(), cancel };
    this.#open.set(status.id, question);
    return question;
  }

  #announce({ status: { id, egress, destination, why, until }, target: { host, port } }: Question): void {
    const message = `egress "${egress}": ${escapeText(destination)} waits for an answer: ${escapeText(why)} (question ${id})`;
    this.#options.log(makeEvent('egress-asked', message, { egress, question: id, host, port, why, until }));
  }

  #end(question: Question, how: QuestionEnd, refused: string | null): void {
    const { clock, log } = this.#options;
    const { status, target, waiting, cancel } = question;
    const { id, egress, destination } = status;
    if (!this.#open.delete(id)) return;
    cancel();
    this.#ended = [...this.#ended.slice(1 - MAX_ENDED), { id, how, destination, egress, atMs: clock.now() }];
    const connections = waiting.size;
    const message = `egress "${egress}": ${escapeText(destination)} ${how}, ${formatCount(connections, 'connection')} waited (question ${id})`;
    const { host, port } = target;
    log(makeEvent('egress-answered', message, { egress, question: id, host, port, answer: how, connections }));
    for (const settle of waiting.keys()) settle(refused);
    waiting.clear();
  }

  /** The oldest first. */
  list(): EgressQuestion[] {
    return [...this.#open.values()].map(({ status, waiting }) => ({ ...status, connections: waiting.size }));
  }

  /** Whether it is open, or has ended not long ago. */
  knows(id: string): boolean {
    return this.#open.has(id) || this.#ended.some((one) => one.id === id);
  }

  /** An open question. Throws `not-found`, which says how it ended. */
  find(id: string): EgressQuestion {
    const found = this.list().find((question) => question.id === id);
    if (found !== undefined) return found;
    const ended = this.#ended.find((one) => one.id === id);
    if (ended === undefined) throw new VproxyError('not-found', `no question "${escapeText(id, 64)}"`);
    const place = `${this.#options.channel}/${ended.egress}`;
    const age = formatElapsed(this.#options.clock.now() - ended.atMs);
    const how = `${ended.how} ${age} ago; to allow it: vproxy egress allow ${place} ${quoteWord(ended.destination)}`;
    throw new VproxyError('not-found', `question ${id} is over: ${how}`);
  }

  /** Answers an open question: `change` makes the rules say so. */
  answer<T>(id: string, isAllowed: boolean, change: () => T): T {
    const question = this.#open.get(id);
    this.#answering = question ?? null;
    try {
      const changed = change();
      if (question !== undefined) this.#end(question, isAllowed ? 'allowed' : 'denied', null);
      return changed;
    } finally {
      this.#answering = null;
    }
  }

  /** Ends the questions for which `isOpen` is no longer true. */
  settle(isOpen: (egress: string, target: Destination) => boolean): void {
    for (const question of [...this.#open.values()])
      if (question !== this.#answering && !isOpen(question.status.egress, question.target))
        this.#end(question, 'settled', null);
  }

  /** Ends all, with the channel. */
  stop(): void {
    for (const question of [...this.#open.values()]) this.#end(question, 'settled', 'the channel is closed');
  }
}

/** Refuses a connection whose program has ended its direction, and may have exited; false if there is none. */
function makeRoom({ waiting }: Question): boolean {
  const [settle] = [...waiting].find(([, left]) => left.aborted) ?? [];
  if (settle === undefined) return false;
  waiting.delete(settle);
  settle('its program has ended its direction, and others wait for the same answer');
  return true;
}
