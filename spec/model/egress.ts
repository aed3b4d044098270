/** Random lives of an egress that asks, beside a model: nothing is reached that the model denies, and nothing waits in vain. */
import test from 'ava';
import fc from 'fast-check';
import type { LogEvent } from '../../lib/events.js';
import { parseDestination } from '../../lib/forward/egress/admission.js';
import { EgressDialer } from '../../lib/forward/egress/dial.js';
import { Refusal } from '../../lib/forward/egress/refusal.js';
import { MAX_FOR_S } from '../../lib/forward/egress/rules.js';
import { RunningEgresses } from '../../lib/proxy/egress/grants.js';
import { rulesOf } from '../helpers/dns.js';
import { searchRuns } from '../helpers/searches.js';
import { ManualClock } from '../helpers/time.js';

const PLACES = ['a.example:1', 'b.example:2', 'c.example:3'] as const;
type Place = (typeof PLACES)[number];
type Verdict = 'allow' | 'deny' | 'ask';

/** Entries by their end, by the clock; never: infinity. */
type Entries = Map<Place, number>;

interface Waiting {
  readonly place: Place;
  readonly gone: AbortController;
  outcome: string | null;
}

/** An egress, and what a model expects of it. */
class Life {
  readonly clock = new ManualClock();
  readonly events: LogEvent[] = [];
  readonly egresses: RunningEgresses;
  #configured: { readonly allow: readonly Place[]; readonly deny: readonly Place[]; readonly askMs: number | null };
  #changedAskMs: number | null = null;
  #isBlocked = false;
  readonly #allowed: Entries = new Map();
  readonly #denied: Entries = new Map();
  readonly #dialer: EgressDialer;
  readonly connections: Waiting[] = [];
  /** When each question is over, by its place. */
  readonly #until = new Map<Place, number>();

  constructor() {
    this.#configured = { allow: [], deny: [], askMs: 5000 };
    const options = {
      ...{ clock: this.clock, forwards: () => [], onRevoked: () => 0 },
      log: (event: LogEvent) => void this.events.push(event),
    };
    this.egresses = new RunningEgresses('vm1', this.#rules, options);
    this.#dialer = new EgressDialer({
      name: 'internet',
      rules: () => this.egresses.egresses.get('internet') ?? null,
      clock: this.clock,
      // What is allowed has no address: nothing leaves this process.
      lookup: () => Promise.resolve([]),
    });
  }

  get #rules() {
    const { allow, deny, askMs } = this.#configured;
    return new Map([['internet', { ...rulesOf(allow, deny), askMs }]]);
  }

  get askMs(): number | null {
    return this.#isBlocked ? null : (this.#changedAskMs ?? this.#configured.askMs);
  }

  verdict(place: Place): Verdict {
    const { allow, deny } = this.#configured;
    if (this.#isBlocked || deny.includes(place) || this.#denied.has(place)) return 'deny';
    if (allow.includes(place) || this.#allowed.has(place)) return 'allow';
    return this.askMs === null ? 'deny' : 'ask';
  }

  connect(place: Place): void {
    if (this.verdict(place) === 'ask' && !this.#until.has(place))
      this.#until.set(place, this.clock.now() + (this.askMs ?? 0));
    const [host = '', port] = place.split(':');
    const one: Waiting = { place, gone: new AbortController(), outcome: null };
    this.#dialer.dial(parseDestination(host, Number(port)), one.gone.signal).then(
      () => (one.outcome = 'reached'),
      (error: unknown) => (one.outcome = error instanceof Refusal ? error.reason : 'gone'),
    );
    this.connections.push(one);
  }

  leave(index: number): void {
    const [one] = this.connections.splice(index % Math.max(1, this.connections.length), 1);
    one?.gone.abort(new Error('left'));
    if (one !== undefined && !this.connections.some(({ place }) => place === one.place)) this.#until.delete(one.place);
  }

  answer(index: number, isAllowed: boolean, forMs: number | null): void {
    const { questions } = this.egresses;
    const question = questions[index % Math.max(1, questions.length)];
    if (question === undefined) return;
    this.egresses.answer(question.id, isAllowed, forMs);
    this.#add(question.destination as Place, isAllowed, forMs);
  }

  allow(place: Place, forMs: number | null): void {
    if (this.#isBlocked) return;
    this.egresses.allow('internet', [place], forMs);
    this.#add(place, true, forMs);
  }

  #add(place: Place, isAllowed: boolean, forMs: number | null): void {
    for (const entries of [this.#allowed, this.#denied]) entries.delete(place);
    (isAllowed ? this.#allowed : this.#denied).set(place, forMs === null ? Infinity : this.clock.now() + forMs);
  }

  ask(askMs: number): void {
    if (this.#isBlocked) return;
    this.egresses.allow('internet', [], null, askMs);
    this.#changedAskMs = askMs;
  }

  change(isBlocked: boolean): void {
    if (isBlocked) this.egresses.block('internet');
    else this.egresses.reset('internet');
    this.#isBlocked = isBlocked;
    this.#changedAskMs = null;
    this.#allowed.clear();
    this.#denied.clear();
  }

  reload(allow: readonly Place[], deny: readonly Place[], askMs: number | null): void {
    this.#configured = { allow, deny, askMs };
    this.egresses.adopt(this.#rules);
  }

  pass(ms: number): void {
    this.clock.advance(ms);
    const nowMs = this.clock.now();
    for (const entries of [this.#allowed, this.#denied])
      for (const [place, untilMs] of entries) if (untilMs <= nowMs) entries.delete(place);
  }

  /** Compares everything; connections that are decided are over. */
  async check(t: { is(one: unknown, other: unknown, message?: string): void }, step: string): Promise<void> {
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
    const nowMs = this.clock.now();
    for (const [place, untilMs] of this.#until)
      if (untilMs <= nowMs || this.verdict(place) !== 'ask') {
        const expected = this.verdict(place) === 'allow' ? 'not-found' : 'denied';
        for (const one of this.connections) if (one.place === place) t.is(one.outcome, expected, `${step}: ${place}`);
        this.#until.delete(place);
      }
    for (const one of this.connections)
      if (!this.#until.has(one.place))
        t.is(one.outcome, this.verdict(one.place) === 'allow' ? 'not-found' : 'denied', step);
      else t.is(one.outcome, null, `${step}: ${one.place} is decided too early`);
    this.connections.splice(0, Infinity, ...this.connections.filter(({ outcome }) => outcome === null));
    t.is(
      this.egresses.questions
        .map(({ destination }) => destination)
        .sort()
        .join(),
      [...this.#until.keys()].sort().join(),
      step,
    );
  }

  /** Each question that was asked has one end in the log, and each answer its change. */
  checkLog(t: { is(one: unknown, other: unknown): void }): void {
    const of = (name: string, kind: string) =>
      this.events.filter(
        ({ event, fields }) =>
          event === name && (kind === '' || fields['answer'] === kind || fields['change'] === kind),
      );
    t.is(of('egress-asked', '').length, of('egress-answered', '').length);
    t.is(of('egress-answered', 'denied').length, of('egress-changed', 'denied').length);
    t.is(
      new Set(of('egress-answered', '').map(({ fields }) => fields['question'])).size,
      of('egress-asked', '').length,
    );
  }
}

const place = fc.constantFrom(...PLACES);
const forMs = fc.constantFrom(null, 1000, 4000, MAX_FOR_S * 1000);
const askMs = fc.constantFrom(1000, 5000, 30_000);
const some = fc.uniqueArray(place);

const STEPS = fc.oneof(
  { weight: 5, arbitrary: fc.record({ connect: place }) },
  { weight: 3, arbitrary: fc.record({ answer: fc.nat(5), isAllowed: fc.boolean(), forMs }) },
  { weight: 1, arbitrary: fc.record({ allow: place, forMs }) },
  { weight: 1, arbitrary: fc.record({ ask: askMs }) },
  { weight: 1, arbitrary: fc.record({ block: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ reload: some, deny: some, askMs: fc.option(askMs) }) },
  { weight: 2, arbitrary: fc.record({ leave: fc.nat(5) }) },
  { weight: 3, arbitrary: fc.record({ pass: fc.constantFrom(1, 999, 1000, 5000, 30_000) }) },
);

test('a random life of an egress that asks is that of its model, and its log tells it', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(STEPS, { minLength: 1, maxLength: 30 }), async (steps) => {
      const life = new Life();
      for (const [index, step] of steps.entries()) {
        if ('connect' in step) life.connect(step.connect);
        else if ('answer' in step) life.answer(step.answer, step.isAllowed, step.forMs);
        else if ('allow' in step) life.allow(step.allow, step.forMs);
        else if ('ask' in step) life.ask(step.ask);
        else if ('block' in step) life.change(step.block);
        else if ('reload' in step) life.reload(step.reload, step.deny, step.askMs);
        else if ('leave' in step) life.leave(step.leave);
        else life.pass(step.pass);
        await life.check(t, `step ${index}`);
      }
      life.egresses.stop();
      await life.check({ is: () => undefined }, 'the end');
      life.checkLog(t);
      t.is(life.clock.pending, 0);
    }),
    { numRuns: searchRuns(600) },
  );
});
