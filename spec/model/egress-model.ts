/**
 * A guest's ways out as docs/egress.md describes them: the lines that each step must cause. Uses nothing of lib, and knows only
 * the spellings of hosts and entries that the random lives use.
 */
import { type GuestRequest, ModelOrigin, type OriginRules } from './origin-model.js';

export const EGRESSES = ['internet', 'build'] as const;
export type Egress = (typeof EGRESSES)[number];
export type Rules = Readonly<Record<'allow' | 'deny', readonly string[]>> & { readonly askMs: number | null };

/** What can happen in a life. The model and the world do the same. */
export interface Happenings {
  connect(egress: Egress, host: string, port: number, isRedirected: boolean): void;
  leave(at: number, how: 'ended' | 'reset'): void;
  request(request: GuestRequest, isOnNew: boolean): void;
  /** Answers one of the open questions, or for 0 the latest one again. */
  answer(at: number, isAllowed: boolean, forMs: number | null): void;
  allow(egress: Egress, entry: string, forMs: number | null): void;
  ask(egress: Egress, askMs: number): void;
  reset(egress: Egress, isBlocked: boolean): void;
  reload(internet: Rules, build: Rules): void;
  reloadOrigin(rules: OriginRules): void;
  write(key: string): void;
  /** From now on a name leads there. */
  lead(name: string, address: string | null): void;
  /** The resolver of an egress has answered. */
  learn(egress: Egress, name: string, address: string, ttl: number): void;
  pass(ms: number): void;
  upgrade(): void | Promise<void>;
}

export const FIRST_RULES: Readonly<Record<Egress, Rules>> = {
  internet: { allow: ['*.test:443', '93.184.216.0/24:80'], deny: [], askMs: 5000 },
  build: { allow: ['*:443'], deny: [], askMs: null },
};

export const FIRST_ADDRESSES = [
  ['a.test', '93.184.216.1'],
  ['b.test', '93.184.216.2'],
  ['c.test', '93.184.216.1'],
] as const;

export const placeOf = (host: string, port: number): string => `${host.includes(':') ? `[${host}]` : host}:${port}`;

/** Whether an entry covers a name, or an address: each by its own spelling. */
function covers(entry: string, host: string, port: number): boolean {
  const [, pattern = '', ports = ''] = /^(.*):([^:]*)$/.exec(entry) ?? [];
  const isHost =
    ['*', host, `[${host}]`].includes(pattern) ||
    (pattern === '*.test' && host.endsWith('.test')) ||
    (pattern === '93.184.216.0/24' && host.startsWith('93.184.216.'));
  return isHost && (ports === '*' || ports.split(',').includes(String(port)));
}

const isPrivate = (host: string): boolean => host.startsWith('10.');

interface Entry {
  readonly text: string;
  readonly isDenied: boolean;
  readonly untilMs: number;
}

/** The rules of one egress, with what was changed at run time. */
class ModelRules {
  configured: Rules;
  added: readonly Entry[] = [];
  isBlocked = false;
  changedAskMs: number | null = null;

  constructor(configured: Rules) {
    this.configured = configured;
  }

  list(kind: 'allow' | 'deny'): readonly string[] {
    const added = this.added.filter(({ isDenied }) => isDenied === (kind === 'deny'));
    return this.isBlocked ? [] : [...this.configured[kind], ...added.map(({ text }) => text)];
  }

  get askMs(): number | null {
    return this.isBlocked ? null : (this.changedAskMs ?? this.configured.askMs);
  }

  isDenied(host: string, port: number): boolean {
    return this.isBlocked || this.list('deny').some((entry) => covers(entry, host, port));
  }

  /** The entry that allows a destination; null if somebody is asked, undefined if it is refused. */
  ruleFor(host: string, port: number): string | null | undefined {
    if (this.isDenied(host, port)) return undefined;
    // A private address must be named.
    const isMeant = (entry: string) => !isPrivate(host) || !entry.startsWith('*');
    const rule = this.list('allow').find((entry) => isMeant(entry) && covers(entry, host, port));
    return rule ?? (this.askMs === null ? undefined : null);
  }
}

interface Destination {
  readonly egress: Egress;
  readonly host: string;
  readonly port: number;
}

interface Connection extends Destination {
  readonly id: number;
  readonly isRedirected: boolean;
  /** The redirected address, if it has a name. */
  readonly from: string | null;
  /** Whether the program has ended its direction before it was open, as only a redirected one may. */
  hasEnded: boolean;
  /** Set once it is open; `text` is for the log. */
  opened?: { readonly rule: string; readonly isAdded: boolean; readonly text: string };
}

interface Question extends Destination {
  readonly untilMs: number;
  readonly waiting: Connection[];
  isOpen: boolean;
}

export class EgressModel implements Happenings {
  /** What must have happened since the latest comparison, in any order. */
  readonly expected: string[] = [];
  nowMs = 0;
  readonly #origin = new ModelOrigin(this);
  readonly #rules = new Map(EGRESSES.map((name) => [name, new ModelRules(FIRST_RULES[name])]));
  readonly #leads = new Map<string, string | null>(FIRST_ADDRESSES);
  /** Names by egress and address. */
  readonly #names = new Map<string, { readonly name: string; readonly untilMs: number }>();
  readonly #questions: Question[] = [];
  #connections: Connection[] = [];
  #lastId = 0;

  readonly say = (line: string): void => void this.expected.push(line);
  readonly nextId = (): number => (this.#lastId += 1);

  #of(egress: Egress): ModelRules {
    return this.#rules.get(egress) as ModelRules;
  }

  get openQuestions(): string[] {
    const open = this.#questions.filter(({ isOpen }) => isOpen);
    return open.map(({ egress, host, port }) => `${egress} ${placeOf(host, port)}`);
  }

  /** Every tunnel carries bytes. */
  echo(): void {
    for (const { id, opened } of this.#connections) if (opened !== undefined) this.say(`#${id} echo`);
  }

  // ---- connections ----------------------------------------------------------------------------------------------

  connect(egress: Egress, host: string, port: number, isRedirected: boolean): void {
    const known = isRedirected ? this.#names.get(`${egress} ${host}`) : undefined;
    const name = known !== undefined && this.nowMs < known.untilMs ? known.name : null;
    const from = name === null ? null : host;
    const one = { id: this.nextId(), egress, host: name ?? host, port, isRedirected, from, hasEnded: false };
    this.#connections.push(one);
    this.#decide(one);
  }

  #decide(one: Connection): void {
    const rule = this.#of(one.egress).ruleFor(one.host, one.port);
    if (rule === undefined) this.#refuse(one);
    else if (rule === null) this.#ask(one);
    else this.#reach(one, rule);
  }

  #ask(one: Connection): void {
    const { egress, host, port } = one;
    const isIt = (other: Question) =>
      other.isOpen && other.egress === egress && other.host === host && other.port === port;
    let question = this.#questions.find(isIt);
    if (question === undefined) {
      const untilMs = this.nowMs + (this.#of(egress).askMs ?? 0);
      question = { egress, host, port, untilMs, waiting: [], isOpen: true };
      this.#questions.push(question);
      this.say(`egress-asked ${egress} ${host} ${port}`);
    }
    question.waiting.push(one);
  }

  /** The redirected address comes first, unless only its name is allowed, and leads elsewhere now. */
  #reach(one: Connection, hostRule: string): void {
    const { egress, from, host, id, port } = one;
    const rules = this.#of(egress);
    const led = host.endsWith('.test') ? this.#leads.get(host) : host;
    const address = from !== null && typeof rules.ruleFor(from, port) === 'string' ? from : led;
    if (address === undefined || address === null) {
      this.#refuse(one, 'not-found', 502);
      return;
    }
    const addressRule = isPrivate(address) ? rules.ruleFor(address, port) : hostRule;
    if (rules.isDenied(address, port) || typeof addressRule !== 'string') {
      this.#refuse(one);
      return;
    }
    // The connection needs both entries, and belongs to an added one.
    const rule = rules.configured.allow.includes(hostRule) ? addressRule : hostRule;
    const text = `${egress} ${host} ${port} ${from ?? '-'} ${placeOf(address, port)} allow "${rule}"`;
    one.opened = { rule, isAdded: !rules.configured.allow.includes(rule), text };
    for (const line of [`connect ${placeOf(address, port)}`, `egress-opened ${text}`, `#${id} 200`]) this.say(line);
    if (one.hasEnded) this.#finish(one);
  }

  #refuse(one: Connection, reason = 'denied', status = 403): void {
    this.say(`egress-refused ${one.egress} ${placeOf(one.host, one.port)} ${one.from ?? '-'} ${reason}`);
    this.say(`#${one.id} ${status}`);
    this.#forget(one);
  }

  #forget(one: Connection): void {
    this.#connections = this.#connections.filter((other) => other !== one);
  }

  #close(one: Connection, code: string): void {
    this.say(`egress ${one.opened?.text} ${code}`);
    this.#forget(one);
  }

  /** The server ends once the program has. */
  #finish(one: Connection): void {
    this.say(`#${one.id} end`);
    this.#close(one, '-');
  }

  leave(at: number, how: 'ended' | 'reset'): void {
    const one = this.#connections[at % this.#connections.length];
    if (one === undefined) return;
    if (one.opened !== undefined) {
      if (how === 'ended') this.#finish(one);
      else this.#close(one, 'cancelled');
      return;
    }
    if (how === 'ended' && one.isRedirected) {
      one.hasEnded = true;
      return;
    }
    const question = this.#questions.find(({ waiting }) => waiting.includes(one));
    question?.waiting.splice(question.waiting.indexOf(one), 1);
    if (question?.waiting.length === 0) this.#end(question, 'settled');
    // A program that has only ended its direction may read the answer.
    if (how === 'ended') this.#refuse(one);
    else this.#forget(one);
  }

  lead(name: string, address: string | null): void {
    this.#leads.set(name, address);
  }

  learn(egress: Egress, name: string, address: string, ttl: number): void {
    this.#names.set(`${egress} ${address}`, { name, untilMs: this.nowMs + Math.max(ttl, 600) * 1000 });
  }

  // ---- changes of the rules -------------------------------------------------------------------------------------

  answer(at: number, isAllowed: boolean, forMs: number | null): void {
    const open = this.#questions.filter(({ isOpen }) => isOpen);
    const question = (at === 0 ? undefined : open[at % open.length]) ?? this.#questions.at(-1);
    if (question?.isOpen !== true) {
      this.say('answer failed');
      return;
    }
    const { egress, host, port } = question;
    question.isOpen = false;
    this.#add(egress, placeOf(host, port), forMs, !isAllowed);
    this.#end(question, isAllowed ? 'allowed' : 'denied');
  }

  #end(question: Question, how: string): void {
    const { egress, host, port, waiting } = question;
    question.isOpen = false;
    this.say(`egress-answered ${egress} ${host} ${port} ${how} ${waiting.length}`);
    for (const one of waiting.splice(0)) {
      if (how === 'expired') this.#refuse(one);
      else this.#decide(one);
    }
  }

  #settle(): void {
    for (const one of this.#questions)
      if (one.isOpen && this.#of(one.egress).ruleFor(one.host, one.port) !== null) this.#end(one, 'settled');
  }

  allow(egress: Egress, entry: string, forMs: number | null): void {
    if (this.#of(egress).isBlocked) this.say('allow failed');
    else this.#add(egress, entry, forMs, false);
  }

  #add(egress: Egress, text: string, forMs: number | null, isDenied: boolean): void {
    const others = this.#of(egress).added.filter((other) => other.text !== text);
    const added = [...others, { text, isDenied, untilMs: forMs === null ? Infinity : this.nowMs + forMs }];
    this.#change(egress, isDenied ? 'denied' : 'allowed', [text], { added });
  }

  ask(egress: Egress, changedAskMs: number): void {
    if (this.#of(egress).isBlocked) this.say('allow failed');
    else this.#change(egress, 'asking', [], { changedAskMs });
  }

  reset(egress: Egress, isBlocked: boolean): void {
    const changes = { isBlocked, added: [], changedAskMs: null };
    this.#change(egress, isBlocked ? 'blocked' : 'reset', this.#of(egress).added.map(textOf), changes);
  }

  /** Resets what was allowed by entries that are no longer there. `changed` is what the log tells, in any order. */
  #change(egress: Egress, how: string, changed: readonly string[], changes: Partial<ModelRules>): void {
    const rules = this.#of(egress);
    const before = rules.list('allow');
    Object.assign(rules, changes);
    const gone = before.filter((text) => !rules.list('allow').includes(text));
    const isOver = ({ opened, ...one }: Connection) =>
      one.egress === egress && opened && (rules.isBlocked || (opened.isAdded && gone.includes(opened.rule)));
    const over = this.#connections.filter(isOver);
    for (const one of over) {
      this.say(`#${one.id} reset`);
      this.#close(one, 'denied');
    }
    this.say(`egress-changed ${egress} ${how} ${[...changed].sort().join()} ${over.length}`);
    this.#settle();
  }

  reload(internet: Rules, build: Rules): void {
    this.#of('internet').configured = internet;
    this.#of('build').configured = build;
    this.#settle();
  }

  /** Entries, and then questions, end when their time is over. */
  pass(ms: number): void {
    const endMs = this.nowMs + ms;
    const ends = [...this.#rules.values()].flatMap(({ added }) => added.map(({ untilMs }) => untilMs));
    for (const nowMs of [...ends.filter((untilMs) => untilMs < endMs), endMs].sort((one, other) => one - other)) {
      this.nowMs = nowMs;
      for (const [egress, { added }] of this.#rules) {
        const left = added.filter(({ untilMs }) => untilMs > nowMs);
        const over = added.filter((one) => !left.includes(one)).map(textOf);
        if (over.length > 0) this.#change(egress, 'expired', over, { added: left });
      }
    }
    for (const one of this.#questions) if (one.isOpen && one.untilMs <= endMs) this.#end(one, 'expired');
    this.#origin.pass();
  }

  /** Waits for answers; else nothing changes but for idle programs. */
  upgrade(): void {
    if (this.openQuestions.length > 0) this.say('upgrade waits');
    else this.#origin.upgrade();
  }

  // ---- the origin -----------------------------------------------------------------------------------------------

  request(request: GuestRequest, isOnNew: boolean): void {
    this.#origin.request(request, isOnNew);
  }

  reloadOrigin(rules: OriginRules): void {
    this.#origin.reload(rules);
  }

  write(key: string): void {
    this.#origin.write(key);
  }
}

const textOf = ({ text }: Entry): string => text;
