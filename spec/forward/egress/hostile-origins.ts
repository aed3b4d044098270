/** What a hostile origin server answers to a request in absolute form, and what the guest who asked gets of it. */

export interface HostileOrigin {
  readonly what: string;
  /** What the server says to each request. */
  readonly answer: string;
  /** Default GET. */
  readonly method?: 'GET' | 'HEAD';
  /** Whether it closes the connection behind its answer. */
  readonly isClosing?: boolean;
  /**
   * `bad-answer`: 502 with the reason, and not a byte of the server. `broken-off`: the stream is reset. Else all that
   * the guest gets, `Via` included; another request is then dialled again unless the server is `kept`.
   */
  readonly outcome: 'bad-answer' | 'broken-off' | { readonly told: string; readonly isKept: boolean };
}

const OK = 'HTTP/1.1 200 OK\r\n';
const HI = 'Content-Length: 2\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const VIA = 'Via: 1.1 vproxy\r\n';

/** An answer that a guest must not be told, behind a hostile one. */
export const HIDDEN_ANSWER = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden';

const shown = (text: string): string => JSON.stringify(text.length > 50 ? `${text.slice(0, 50)}…` : text);

const bad = (what: string, answer: string, isClosing = false): HostileOrigin => ({
  what,
  answer,
  isClosing,
  outcome: 'bad-answer',
});

const brokenOff = (what: string, answer: string, isClosing = false): HostileOrigin => ({
  what,
  answer,
  isClosing,
  outcome: 'broken-off',
});

const passed = (what: string, answer: string, told: string, more: Partial<HostileOrigin> = {}): HostileOrigin => ({
  what,
  answer,
  outcome: { told, isKept: false },
  ...more,
});

/** Fields of a framing that could be read in two ways. */
const FRAMINGS = [
  ...[`${HI}${CHUNKED}`, `${CHUNKED}${HI}`, `${HI}${HI}`, 'Content-Length: 2\r\nContent-Length: 60\r\n'],
  ...['Content-Length: 2, 2\r\n', 'Content-Length: +2\r\n', 'Content-Length: -2\r\n', 'Content-Length: 0x2\r\n'],
  ...[
    'Content-Length: 2.0\r\n',
    'Content-Length:\r\n',
    'Content-Length: two\r\n',
    'Content-Length: 18446744073709551618\r\n',
  ],
  ...['Transfer-Encoding: gzip\r\n', 'Transfer-Encoding: gzip, chunked\r\n', 'Transfer-Encoding: xchunked\r\n'],
  ...[`${CHUNKED}${CHUNKED}`, 'Transfer-Encoding: chunked, identity\r\n', 'Transfer-Encoding:\r\n'],
  ...['Transfer-Encoding: \x0bchunked\r\n', 'Transfer-Encoding : chunked\r\n', 'Transfer-Encoding:\r\n chunked\r\n'],
];

/** Lines of a head that are not fields, or not lines. */
const LINES = [
  ...['X\r\n', ': y\r\n', 'X : y\r\n', 'X\t: y\r\n', 'X: a\r\n b\r\n', ' X: a\r\n', 'X Y: a\r\n', 'X\x7f: a\r\n'],
  ...[
    'X: a\nY: b\r\n',
    'X: a\rY: b\r\n',
    'X: a\x00b\r\n',
    'X: a\x0bb\r\n',
    'X: \x1b[2J\r\n',
    'X: a\x7fb\r\n',
    '\r\r\n',
  ],
];

/** First lines that are no status line of HTTP/1.1. */
const STATUS_LINES = [
  ...['HTTP/2 200 OK', 'HTTP/2.0 200 OK', 'HTTP/1.2 200 OK', 'HTTP/0.9 200 OK', 'http/1.1 200 OK', 'ICY 200 OK'],
  ...['HTTP/1.1 20 OK', 'HTTP/1.1 2000 OK', 'HTTP/1.1 000 OK', 'HTTP/1.1 099 OK', 'HTTP/1.1 +20 OK', 'HTTP/1.1 OK'],
  ...['HTTP/1.1  200 OK', ' HTTP/1.1 200 OK', 'HTTP/1.1\t200 OK', 'HTTP/1.1 200 O\x0bK', 'SSH-2.0-OpenSSH_9.2'],
];

/** Chunks that are not right: what was right of them is out when that shows. */
const CHUNKS = [
  ...[
    'zz\r\nhi\r\n',
    '-2\r\nhi\r\n',
    '0x2\r\nhi\r\n',
    '2 \r\nhi\r\n',
    '\r\nhi\r\n',
    '2\nhi\r\n',
    '2\r\nhi\n',
    '2\r\nhiX\r\n',
  ],
  ...['fffffffffffffffff\r\nhi\r\n', `2;${'x'.repeat(1100)}\r\nhi\r\n`, '2;a\rb\r\nhi\r\n', '0\r\nX: a\r\n b\r\n\r\n'],
  ...['0\r\nno field\r\n\r\n', `0\r\nX: ${'x'.repeat(17_000)}\r\n\r\n`, `0\r\n${HIDDEN_ANSWER}`],
];

export const HOSTILE_ORIGINS: readonly HostileOrigin[] = [
  ...FRAMINGS.map((fields) => bad(`the framing ${shown(fields)}`, `${OK}${fields}\r\n${HIDDEN_ANSWER}`)),
  bad('chunks in HTTP/1.0', `HTTP/1.0 200 OK\r\n${CHUNKED}\r\n2\r\nhi\r\n0\r\n\r\n`),
  ...LINES.map((line) => bad(`the line ${shown(line)}`, `${OK}${line}${HI}\r\nhi`)),
  ...STATUS_LINES.map((line) => bad(`the status line ${shown(line)}`, `${line}\r\n${HI}\r\nhi`)),
  bad('no status line', 'hello\r\n\r\n', true),
  bad('the end of lines of another system', 'HTTP/1.1 200 OK\nContent-Length: 2\n\nhi'),
  bad('two empty lines before it', `\r\n\r\n${OK}${HI}\r\nhi`),
  bad('nothing, and an end', '', true),
  bad('half a head, and an end', `${OK}${HI}`, true),
  bad('a head without an end', `${OK}X: ${'x'.repeat(70_000)}`),
  bad('fields without an end', `${OK}${'X: y\r\n'.repeat(12_000)}`),
  bad(
    'another protocol',
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n${HIDDEN_ANSWER}`,
  ),
  brokenOff('fewer bytes than it said', `${OK}Content-Length: 60\r\n\r\nhi`, true),
  brokenOff('chunks without the last one', `${OK}${CHUNKED}\r\n2\r\nhi\r\n`, true),
  brokenOff('half a chunk', `${OK}${CHUNKED}\r\n60\r\nhi`, true),
  ...CHUNKS.map((chunks) => brokenOff(`the chunks ${shown(chunks)}`, `${OK}${CHUNKED}\r\n${chunks}0\r\n\r\n`)),
  passed('a second answer behind it', `${OK}${HI}\r\nhi${HIDDEN_ANSWER}`, `${OK}${HI}${VIA}\r\nhi`),
  passed(
    'a second answer behind chunks',
    `${OK}${CHUNKED}\r\n2\r\nhi\r\n0\r\n\r\n${HIDDEN_ANSWER}`,
    `${OK}${CHUNKED}${VIA}\r\n2\r\nhi\r\n0\r\n\r\n`,
  ),
  passed(
    'a body where none may be: HEAD',
    `${OK}Content-Length: ${HIDDEN_ANSWER.length}\r\n\r\n${HIDDEN_ANSWER}`,
    `${OK}Content-Length: ${HIDDEN_ANSWER.length}\r\n${VIA}\r\n`,
    { method: 'HEAD' },
  ),
  passed(
    'a body where none may be: 204',
    `HTTP/1.1 204 No Content\r\nContent-Length: ${HIDDEN_ANSWER.length}\r\n\r\n${HIDDEN_ANSWER}`,
    `HTTP/1.1 204 No Content\r\n${VIA}\r\n`,
  ),
  passed(
    'a body where none may be: 304',
    `HTTP/1.1 304 Not Modified\r\nContent-Length: ${HIDDEN_ANSWER.length}\r\n\r\n${HIDDEN_ANSWER}`,
    `HTTP/1.1 304 Not Modified\r\nContent-Length: ${HIDDEN_ANSWER.length}\r\n${VIA}\r\n`,
  ),
  passed(
    'chunks where none may be: 204',
    `HTTP/1.1 204 No Content\r\n${CHUNKED}\r\n2\r\nhi\r\n0\r\n\r\n`,
    `HTTP/1.1 204 No Content\r\n${VIA}\r\n`,
  ),
  passed(
    'trailers that are fields of a head',
    `${OK}${CHUNKED}\r\n2\r\nhi\r\n0\r\nContent-Length: 9\r\nSet-Cookie: x\r\n\r\n`,
    `${OK}${CHUNKED}${VIA}\r\n2\r\nhi\r\n0\r\n\r\n`,
    {
      outcome: { told: `${OK}${CHUNKED}${VIA}\r\n2\r\nhi\r\n0\r\n\r\n`, isKept: true },
    },
  ),
  passed('a chunk whose extension is an answer', `${OK}${CHUNKED}\r\n2;HTTP/1.1 200 OK\r\nhi\r\n0\r\n\r\n`, '', {
    outcome: { told: `${OK}${CHUNKED}${VIA}\r\n2\r\nhi\r\n0\r\n\r\n`, isKept: true },
  }),
  passed('a framing that Connection takes away', `${OK}Connection: content-length\r\n${HI}\r\nhi`, '', {
    outcome: { told: `${OK}${HI}${VIA}\r\nhi`, isKept: true },
  }),
  passed(
    'fields of the connection, and of a proxy',
    `${OK}Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nTrailer: X\r\nProxy-Connection: close\r\n${HI}\r\nhi`,
    '',
    {
      outcome: { told: `${OK}${HI}${VIA}\r\nhi`, isKept: true },
    },
  ),
  passed('its end where a length is missing', `${OK}\r\nhi`, `${OK}${CHUNKED}${VIA}\r\n2\r\nhi\r\n0\r\n\r\n`, {
    isClosing: true,
  }),
  passed(
    'informational answers, and a final one',
    `HTTP/1.1 103 Early Hints\r\nConnection: X\r\nX: y\r\n\r\n${OK}${HI}\r\nhi`,
    '',
    {
      outcome: { told: `HTTP/1.1 103 Early Hints\r\n${VIA}\r\n${OK}${HI}${VIA}\r\nhi`, isKept: true },
    },
  ),
];
