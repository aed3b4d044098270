/** A target `origin:` as docs/egress.md describes it: the requests that reach the server, and their fields. */

export interface OriginRules {
  /** `methods` null: all. */
  readonly allow: readonly {
    readonly methods: readonly string[] | null;
    readonly path: string;
    readonly isBeginning: boolean;
  }[];
  /** Whether the host sets X-Api-Key to the contents of a file. */
  readonly isKeyed: boolean;
}

export const FIRST_ORIGIN: OriginRules = {
  allow: [{ methods: ['GET', 'POST'], path: '/v1/', isBeginning: true }],
  isKeyed: true,
};

/** A segment as a guest writes it, what it says, and how the host sends it; null if servers may read it differently. */
export type Segment = readonly [raw: string, says: string | null, sent?: string];

export const SEGMENTS: readonly Segment[] = [
  ...['v1', 'V1', 'x;y', '...', '.git', 'models', ''].map((raw): Segment => [raw, raw, raw]),
  ['%76%31', 'v1', 'v1'],
  ['m%6fdels', 'models', 'models'],
  ['a%20b', 'a b', 'a%20b'],
  ['%c3%bc', 'ü', '%C3%BC'],
  ...'. .. %2e%2e .%2E ..;x %2e;x v1%2fx v1%5Cx v1\\x %2576 %zz % %00 %ff v1#x'
    .split(' ')
    .map((raw): Segment => [raw, null]),
];

/** Fields of a guest. Those that a server could take for the key pass only if the host sets none. */
export const FIELDS: Readonly<Record<string, 'passes' | 'is dropped' | 'is a key'>> = {
  'Accept: */*': 'passes',
  'Authorization: mine': 'passes',
  'X-Api-Key: stolen': 'is a key',
  'x_api_key: stolen': 'is a key',
  'X.API.KEY: stolen': 'is a key',
  'X-Forwarded-For: 192.0.2.1': 'is dropped',
  'x_forwarded_host: other.test': 'is dropped',
  'X-HTTP-Method-Override: DELETE': 'is dropped',
  'X_Original_URL: /admin': 'is dropped',
  'Proxy-Authorization: mine': 'is dropped',
};

export interface GuestRequest {
  readonly method: string;
  /** What precedes the path, such as `http://other.test`. */
  readonly prefix: string;
  readonly segments: readonly Segment[];
  readonly query: string;
  readonly fields: readonly string[];
  readonly body: string;
  readonly isChunked: boolean;
}

export const rawPathOf = ({ prefix, segments }: GuestRequest): string =>
  `${prefix}/${segments.map(([raw]) => raw).join('/')}`;

export const framingOf = ({ body, isChunked }: GuestRequest): string[] =>
  body === '' ? [] : [isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`];

/** Whether the request passes. Only the last segment may be empty. */
function isAllowed({ method, prefix, segments }: GuestRequest, { allow }: OriginRules): boolean {
  if (prefix !== '' || method === 'CONNECT') return false;
  if (segments.some(([, says], at) => says === null || (says === '' && at < segments.length - 1))) return false;
  const said = `/${segments.map(([, says]) => says).join('/')}`;
  return allow.some(({ isBeginning, methods, path }) => {
    const isPath = isBeginning ? said.startsWith(path) : said === path;
    return isPath && (methods === null || methods.includes(method));
  });
}

interface Life {
  readonly nowMs: number;
  readonly say: (line: string) => void;
  readonly nextId: () => number;
}

export class ModelOrigin {
  readonly #life: Life;
  #rules = FIRST_ORIGIN;
  #file = 'key-0';
  /** The key as read last; null if it was not. */
  #key: { readonly text: string; readonly atMs: number } | null = null;
  /** Until when an unused connection to the server is kept. */
  #keptUntilMs = 0;
  /** Until when each connection of a program waits for another request, by its id. */
  readonly #idle = new Map<number, number>();

  constructor(life: Life) {
    this.#life = life;
  }

  write(key: string): void {
    this.#file = key;
  }

  reload(rules: OriginRules): void {
    this.#rules = rules;
    this.upgrade();
  }

  /** Unused connections end. */
  upgrade(): void {
    for (const id of this.#idle.keys()) this.#end(id);
    this.#key = null;
    this.#keptUntilMs = 0;
  }

  pass(): void {
    for (const [id, untilMs] of this.#idle) if (untilMs <= this.#life.nowMs) this.#end(id);
  }

  #end(id: number): void {
    this.#idle.delete(id);
    this.#life.say(`#${id} end`);
  }

  request(request: GuestRequest, isOnNew: boolean): void {
    const { body, method } = request;
    const last = isOnNew ? undefined : [...this.#idle.keys()].at(-1);
    const id = last ?? this.#life.nextId();
    if (method === 'CONNECT' && body !== '') this.#refuse(id, request, 'bad-request', 400);
    else if (method === 'TRACE') this.#refuse(id, request, 'not-supported', 501);
    else if (!isAllowed(request, this.#rules)) this.#refuse(id, request, 'denied', 403);
    else if (!this.#readKey()) this.#refuse(id, request, 'bad-credential', 500, body !== '');
    else this.#pass(id, request);
  }

  #refuse(id: number, request: GuestRequest, reason: string, status: number, isLast = true): void {
    this.#life.say(`origin-refused ${request.method} ${rawPathOf(request)} ${reason}`);
    this.#answer(id, status);
    if (isLast) this.#end(id);
  }

  #answer(id: number, status: number): void {
    this.#life.say(`#${id} ${status}`);
    this.#idle.delete(id);
    this.#idle.set(id, this.#life.nowMs + 60_000);
  }

  /** Within a second after a change. */
  #readKey(): boolean {
    const { nowMs } = this.#life;
    if (!this.#rules.isKeyed || (this.#key !== null && nowMs - this.#key.atMs < 1000)) return true;
    if (this.#file !== '') this.#key = { text: this.#file, atMs: nowMs };
    return this.#file !== '';
  }

  #pass(id: number, request: GuestRequest): void {
    const { body, fields, method, query, segments } = request;
    const { isKeyed } = this.#rules;
    const { nowMs, say } = this.#life;
    if (nowMs >= this.#keptUntilMs) say('origin connected');
    this.#keptUntilMs = nowMs + 4000;
    const passes = fields.filter((one) => FIELDS[one] === 'passes' || (FIELDS[one] === 'is a key' && !isKeyed));
    const sent = segments.map(([, , segment]) => segment).join('/');
    const key = isKeyed ? [`X-Api-Key: ${this.#key?.text}`] : [];
    const head = [`${method} /${sent}${query} HTTP/1.1`, 'Host: ORIGIN', ...passes, ...key, ...framingOf(request)];
    say(`origin got ${[...head, 'Via: 1.1 vproxy'].join(' | ')} | | ${body}`);
    say(`origin-request ${method} ${rawPathOf(request)} 200`);
    this.#answer(id, 200);
  }
}
