/** The egresses of a running channel: the configured rules, and the changes made to them at run time (docs/egress.md). */
import { badArgument } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import { isAsked } from '../../forward/egress/admission.js';
import {
  allowedBy,
  checkAskMs,
  type EgressRules,
  MAX_ADDED,
  MAX_FOR_S,
  parseEgressEntry,
} from '../../forward/egress/rules.js';
import { type ResolvedName, ResolvedNames } from '../../forward/redirect/resolved-names.js';
import type { ForwardSpec } from '../../forward/spec.js';
import type { EgressQuestion, EgressStatus } from '../../status/types.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import { formatCount } from '../../util/units.js';
import { egressOf, resolveEntry } from './definitions.js';
import { EgressCounts } from './egress-stats.js';
import { Questions } from './questions.js';
import { describeEgressRules, rulesOf } from './test-egress.js';

interface Added {
  /** Its canonical text. */
  readonly entry: string;
  /** When it expires, in uptime of this machine, and as ISO 8601; null: never. */
  readonly untilMs: number | null;
  readonly until: string | null;
}

/** `isBlocked`: without added entries. `denied`: entries of `deny` that answers to questions added. */
interface Changes {
  readonly isBlocked: boolean;
  readonly added: readonly Added[];
  readonly denied: readonly Added[];
  /** How long to ask; null: as configured. */
  readonly askMs: number | null;
}

/** By egress name. */
export type EgressChanges = ReadonlyMap<string, Changes>;

type EgressChange = 'allowed' | 'denied' | 'asking' | 'blocked' | 'expired' | 'reset';

interface RunningEgressesOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Returns the forwards that the list of egresses shows. */
  readonly forwards: () => readonly ForwardSpec[];
  /** Resets the connections that these added rules allowed (null: all); returns their number. */
  readonly onRevoked: (egress: string, rules: ReadonlySet<string> | null) => number;
}

/** How late an entry may expire after a suspend, in milliseconds. */
const MAX_PAUSE_MS = 1000;

const UNCHANGED: Changes = { isBlocked: false, added: [], denied: [], askMs: null };
const BLOCKED: Changes = { ...UNCHANGED, isBlocked: true };

export class RunningEgresses {
  /** The label of the channel. */
  readonly channel: string;
  /** The rules in effect, by egress name. A change replaces the rules of its egress by another object. */
  readonly egresses = new Map<string, EgressRules>();
  #changes: Map<string, Changes>;
  readonly #options: RunningEgressesOptions;
  readonly #questions: Questions;
  /** What they did in the last hour. */
  readonly counts: EgressCounts;
  /** What their resolvers have answered. */
  readonly names: ResolvedNames;
  #configured: ReadonlyMap<string, EgressRules>;
  #cancelTimer: CancelTimer = () => undefined;
  #isStopped = false;

  /** With the `changes` of a predecessor, call `goOn`. */
  constructor(
    channel: string,
    configured: ReadonlyMap<string, EgressRules>,
    options: RunningEgressesOptions,
    changes: EgressChanges = new Map(),
    names: readonly ResolvedName[] = [],
  ) {
    this.channel = channel;
    this.#configured = configured;
    this.#options = options;
    this.#changes = new Map(changes);
    this.#questions = new Questions({ channel, ...options });
    this.counts = new EgressCounts(options.clock);
    this.names = new ResolvedNames(options.clock, names);
    this.#apply(configured);
  }

  get changes(): EgressChanges {
    return this.#changes;
  }

  /** Adopts other configured rules. Changes stay, unless their egress is gone, which resets them; other open connections continue. */
  adopt(configured: ReadonlyMap<string, EgressRules>): void {
    const gone = [...this.#changes.keys()].filter((name) => !configured.has(name));
    for (const name of gone) this.#end(name);
    this.#apply(configured);
    this.goOn();
  }

  #apply(configured: ReadonlyMap<string, EgressRules>): void {
    this.#configured = configured;
    this.egresses.clear();
    for (const [name, rules] of configured) this.egresses.set(name, this.#changed(name, rules));
    this.#settle();
  }

  /** Ends the questions that other rules have answered. */
  #settle(): void {
    this.#questions.settle((egress, target) => isAsked(this.egresses.get(egress) ?? null, target) !== null);
  }

  /** The rules in effect. `deny` of the configuration wins over added entries. */
  #changed(name: string, rules: EgressRules): EgressRules {
    const { isBlocked, added, denied, ...changes } = this.#changesOf(name);
    const askMs = changes.askMs ?? rules.askMs;
    const place = `${this.channel}/${name}`;
    if (isBlocked) return { ...rules, place, allow: [], deny: [parseEgressEntry('*:*')], askMs: null };
    const parsed = (entries: readonly Added[]) => textsIn(entries).map(parseEgressEntry);
    return {
      ...rules,
      allow: [...rules.allow, ...parsed(added).map((entry) => ({ ...entry, isAdded: true }))],
      deny: [...rules.deny, ...parsed(denied)],
      askMs,
      place,
      ask: (target, why, ...signals) => this.#questions.ask(name, target, askMs ?? 0, why, ...signals),
    };
  }

  /** Takes over the changes, and the resolved names, from the channel that this one replaces. */
  inherit(from: RunningEgresses): void {
    const configured = this.#configured;
    this.#changes = new Map([...from.#changes].filter(([name]) => configured.has(name)));
    for (const name of this.#changes.keys()) from.#changes.delete(name);
    this.names.inherit(from.names.state);
    this.#apply(configured);
    this.goOn();
  }

  /** Resets changes of an egress that this channel no longer has. */
  #end(name: string): void {
    const changes = this.#changesOf(name);
    this.#changes.delete(name);
    const { isBlocked, added, denied, askMs } = changes;
    if (!isBlocked && added.length + denied.length === 0 && askMs === null) return;
    const connections = this.#options.onRevoked(name, rulesIn(added));
    this.#log(name, 'reset', textsIn([...added, ...denied]), null, connections);
  }

  get #upMs(): number {
    const { clock } = this.#options;
    return clock.upMs?.() ?? clock.now();
  }

  /** Waits for the end of the next entry. */
  goOn(): void {
    const { clock } = this.#options;
    this.#cancelTimer();
    const ends = [...this.#changes.values()].flatMap(({ added, denied }) =>
      [...added, ...denied].flatMap(({ untilMs }) => untilMs ?? []),
    );
    if (ends.length === 0 || this.#isStopped) return;
    // Timers do not count the time in which the machine is suspended.
    const delayMs = Math.min(Math.max(0, Math.min(...ends) - this.#upMs), MAX_PAUSE_MS);
    this.#cancelTimer = clock.schedule(delayMs, () => this.#expire());
  }

  /** Ends all changes, with the channel. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelTimer();
    this.#questions.stop();
    for (const name of [...this.#changes.keys()]) this.#end(name);
  }

  /** The defined egresses, and those that forwards lead to. */
  list(): EgressStatus[] {
    const forwards = this.#options.forwards();
    const names = new Set([...this.egresses.keys(), ...forwards.map(egressOf).filter((name) => name !== null)]);
    return [...names].map((name) => ({
      channel: this.channel,
      name,
      services: forwards.filter((spec) => egressOf(spec) === name).map(({ service }) => service),
      rules: describeEgressRules(this.egresses.get(name) ?? null),
      isBlocked: this.#changesOf(name).isBlocked,
      added: this.#changesOf(name).added.map(({ entry, until }) => ({ entry, until })),
      denied: this.#changesOf(name).denied.map(({ entry, until }) => ({ entry, until })),
    }));
  }

  /** See `Proxy.allowEgress`. */
  allow(name: string, destinations: readonly string[], forMs: number | null, askMs?: number): EgressStatus {
    const entries = [...new Set(destinations.map((text) => resolveEntry(text, this.channel).text))];
    if (askMs !== undefined) checkAskMs(askMs);
    if (entries.length === 0 && forMs !== null) throw badArgument('a time, but no destinations');
    const status = this.#add(name, entries, forMs, 'allowed');
    if (askMs === undefined) return status;
    return this.#change(name, { ...this.#changesOf(name), askMs }, 'asking', [], null);
  }

  /** Adds entries to those that are allowed or denied; they no longer belong to the others. */
  #add(name: string, entries: readonly string[], forMs: number | null, how: 'allowed' | 'denied'): EgressStatus {
    rulesOf(this, name);
    const place = `${this.channel}/${name}`;
    const changes = this.#changesOf(name);
    if (changes.isBlocked) throw badArgument(`${place} is blocked; end that first: vproxy egress reset ${place}`);
    if (forMs !== null && !(forMs >= 1000 && forMs <= MAX_FOR_S * 1000))
      throw badArgument(`the time must be from 1 s to ${MAX_FOR_S} s`);
    const untilMs = forMs === null ? null : this.#upMs + forMs;
    const until = forMs === null ? null : new Date(Date.now() + forMs).toISOString();
    const rest = (all: readonly Added[]) => all.filter(({ entry }) => !entries.includes(entry));
    const [added, denied] = [rest(changes.added), rest(changes.denied)];
    const count = added.length + denied.length + entries.length;
    if (count > MAX_ADDED) throw badArgument(`${place} would have ${count} added entries (max ${MAX_ADDED})`);
    if (entries.length === 0) return this.#statusOf(name);
    const more = entries.map((entry) => ({ entry, untilMs, until }));
    const all = how === 'allowed' ? { added: [...added, ...more], denied } : { added, denied: [...denied, ...more] };
    return this.#change(name, { ...changes, ...all }, how, entries, until);
  }

  /** The destinations that wait for an answer. */
  get questions(): EgressQuestion[] {
    return this.#questions.list();
  }

  /** Whether a question is or was one of this channel. */
  knows(id: string): boolean {
    return this.#questions.knows(id);
  }

  /** See `Proxy.answerEgress`. */
  answer(id: string, isAllowed: boolean, forMs: number | null): EgressStatus {
    const { egress, destination } = this.#questions.find(id);
    return this.#questions.answer(id, isAllowed, () =>
      this.#add(egress, [parseEgressEntry(destination).text], forMs, isAllowed ? 'allowed' : 'denied'),
    );
  }

  /** See `Proxy.blockEgress`. */
  block(name: string): EgressStatus {
    const { added, denied } = this.#changesOf(name);
    return this.#change(name, BLOCKED, 'blocked', textsIn([...added, ...denied]));
  }

  /** See `Proxy.resetEgress`. */
  reset(name: string): EgressStatus {
    const { added, denied } = this.#changesOf(name);
    return this.#change(name, UNCHANGED, 'reset', textsIn([...added, ...denied]));
  }

  #changesOf(name: string): Changes {
    return this.#changes.get(name) ?? UNCHANGED;
  }

  #change(
    name: string,
    changes: Changes,
    change: EgressChange,
    entries: readonly string[],
    until: string | null = null,
  ): EgressStatus {
    const configured = this.#configured.get(name) ?? rulesOf(this, name);
    const gone = rulesIn(this.#changesOf(name).added);
    this.#changes.set(name, changes);
    const rules = this.#changed(name, configured);
    for (const { text } of rules.allow) gone.delete(allowedBy(text));
    this.egresses.set(name, rules);
    this.goOn();
    this.#log(name, change, entries, until, this.#options.onRevoked(name, changes.isBlocked ? null : gone));
    this.#settle();
    return this.#statusOf(name);
  }

  #statusOf(name: string): EgressStatus {
    return this.list().find((one) => one.name === name) as EgressStatus;
  }

  #log(
    egress: string,
    change: EgressChange,
    entries: readonly string[],
    until: string | null,
    connections: number,
  ): void {
    const what = escapeText([change, ...entries].join(' '), 1024);
    const end = ['allowed', 'denied', 'asking'].includes(change)
      ? ` until ${until ?? 'reset'}`
      : `; ${formatCount(connections, 'connection')} reset`;
    const fields = { egress, change, entries, until, connections };
    this.#options.log(makeEvent('egress-changed', `egress "${egress}": ${what}${end}`, fields));
  }

  #expire(): void {
    const nowMs = this.#upMs;
    for (const [name, changes] of [...this.#changes]) {
      const left = (all: readonly Added[]) => all.filter(({ untilMs }) => untilMs === null || untilMs > nowMs);
      const [added, denied] = [left(changes.added), left(changes.denied)];
      const over = [...changes.added, ...changes.denied].filter((one) => ![...added, ...denied].includes(one));
      if (over.length > 0) this.#change(name, { ...changes, added, denied }, 'expired', textsIn(over));
    }
    this.goOn();
  }
}

const textsIn = (added: readonly Added[]): string[] => added.map(({ entry }) => entry);
const rulesIn = (added: readonly Added[]): Set<string> => new Set(textsIn(added).map(allowedBy));
