/**
 * Forms of request smuggling: what a guest says so that this side and the server behind it take different requests
 * from it. The rows are made by rule: ways to write the framing, the ends of lines and the targets that some reader
 * takes for another one, each around a request that must never reach the server as one of its own.
 */

/** The request that is hidden. */
export const HIDDEN = 'GET /hidden HTTP/1.1\r\nHost: one.test\r\n\r\n';

export interface SmugglingForm {
  readonly what: string;
  /** What the guest says. */
  readonly words: string;
  /** What the server gets; `refused` before anything of it; `broken off`: the head, and no end of the body. */
  readonly outcome: 'refused' | 'broken off' | { readonly atOrigin: string };
}

const POST = 'POST http://one.test/ HTTP/1.1\r\nHost: one.test\r\n';
const GET = 'GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const VIA = 'Via: 1.1 vproxy\r\n';
const NO_CHUNKS = '0\r\n\r\n';

const shown = (text: string): string => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);

const refused = (what: string, words: string): SmugglingForm => ({ what, words, outcome: 'refused' });

/** Field lines that some server takes for a chunked Transfer-Encoding, or overlooks. */
const CODINGS = [
  ...['Transfer-Encoding : chunked', 'Transfer-Encoding\t: chunked', ' Transfer-Encoding: chunked'],
  ...['\tTransfer-Encoding: chunked', 'X: y\r\n Transfer-Encoding: chunked', 'Transfer-Encoding\r\n : chunked'],
  ...['Transfer-Encoding:\r\n chunked', 'Transfer-Encoding:\r\n\tchunked', 'Transfer-Encoding: \x0bchunked'],
  ...['Transfer-Encoding: \x0cchunked', 'Transfer-Encoding: chunked\x0b', 'Transfer-Encoding: chunk\x00ed'],
  ...['Transfer-Encoding\x00: chunked', '\x00Transfer-Encoding: chunked', 'Transfer-Encoding: \x00chunked'],
  ...['Transfer-Encoding: xchunked', 'Transfer-Encoding: chunkedx', 'Transfer-Encoding: "chunked"'],
  ...["Transfer-Encoding: 'chunked'", 'Transfer-Encoding: chunked;q=1', 'Transfer-Encoding: chunked chunked'],
  ...['Transfer-Encoding: chunked, chunked', 'Transfer-Encoding: chunked, identity', 'Transfer-Encoding: identity'],
  ...['Transfer-Encoding: gzip, chunked', 'Transfer-Encoding: chunked, gzip', 'Transfer-Encoding: ch\xfcnked'],
  ...['Transfer-Encoding: chunked\r\nTransfer-Encoding: x', 'Transfer-Encoding: x\r\nTransfer-Encoding: chunked'],
  ...['Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked'],
  ...['Transfer-Encoding:', 'Transfer-Encoding: ,', 'Transfer-Encoding', 'Transfer-Encoding; chunked'],
  ...['X: y\nTransfer-Encoding: chunked', 'X: y\rTransfer-Encoding: chunked', 'Transfer-Encoding: chunked\r\r'],
  ...['Transfer Encoding: chunked', 'Transfer-Encoding\x85: chunked', '(Transfer-Encoding): chunked'],
  ...['Transfer-Encoding: \xa0chunked', 'Transfer-Encoding: chunked\xa0'],
];

/** Texts of a length of five that some server reads as another one. */
const LENGTHS = [
  ...['+5', '-5', '0x5', '5,5', '5, 5', '5, 6', '5 6', '5;', '5.0', '5e0', '5_0', '5L', "'5'", '"5"', '', ','],
  ...['\x0b5', '5\x0c', '5\x00', '\u0665', '18446744073709551621', '9223372036854775813', '0b101', 'five'],
];

/** Chunks whose size, or whose end, some server reads in another way: none of them is passed on. */
const CHUNKS = [
  ...[
    '0x5\r\nhello\r\n',
    '+5\r\nhello\r\n',
    '-5\r\nhello\r\n',
    '5 \r\nhello\r\n',
    ' 5\r\nhello\r\n',
    '5\t\r\nhello\r\n',
  ],
  ...['\r\nhello\r\n', '\n5\r\nhello\r\n', '5\nhello\r\n', '5\rhello\r\n', '5\r\r\nhello\r\n', 'g\r\nhello\r\n'],
  ...['5,5\r\nhello\r\n', '5\x00\r\nhello\r\n', '5_\r\nhello\r\n', '5L\r\nhello\r\n', '10000000000000005\r\nhello\r\n'],
  ...[
    'ffffffffffffffff\r\nhello\r\n',
    '5;a\nGET / HTTP/1.1\r\nhello\r\n',
    '5;a\rb\r\nhello\r\n',
    '5;\x00\r\nhello\r\n',
  ],
  ...[
    '5\r\nhello\n',
    '5\r\nhello\r',
    '5\r\nhello0\r\n\r\n',
    '5\r\nhelloXX',
    '4\r\nhello\r\n',
    '6\r\nhello\r\n',
    '5\r\nhello\r\r\n',
  ],
].map((chunk) => `${chunk}${NO_CHUNKS}`);

/** What some server takes for the end of chunks, or for a field behind them. */
const TRAILERS = [
  ...['0\n\n', '0\r\n\n', '0\r\r\n\r\n', '0\r\nX: a\r\n b\r\n\r\n', '0\r\n X: a\r\n\r\n', '0\r\nX : a\r\n\r\n'],
  ...['0\r\nX\r\n\r\n', '0\r\nX: a\nY: b\r\n\r\n', '0\r\nX: a\rY: b\r\n\r\n', '0\r\nX: a\x00\r\n\r\n'],
  `0\r\n${HIDDEN}`,
];

/** Whole heads, and what follows them, of which some server takes more or less for the head. */
const HEADS = [
  `GET http://one.test/ HTTP/1.1\nHost: one.test\n\n`,
  `GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n\n`,
  `GET http://one.test/ HTTP/1.1\r\nHost: one.test\n\r\n`,
  `GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\r\n\r\n`,
  `GET http://one.test/ HTTP/1.1\r\n\rHost: one.test\r\n\r\n`,
  `\nGET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  `\r\n\r\nGET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  ` GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  `GET http://one.test/ HTTP/1.1\r\n Host: two.test\r\nHost: one.test\r\n\r\n`,
  `GET http://one.test/\r\n\r\n`,
  `GET http://one.test/ HTTP/0.9\r\n\r\n`,
  `GET http://one.test/ HTTP/1.10\r\nHost: one.test\r\n\r\n`,
  `GET http://one.test/ HTTP/01.1\r\nHost: one.test\r\n\r\n`,
  `GET http://one.test/ http/1.1\r\nHost: one.test\r\n\r\n`,
  `GET http://one.test/ HTTP/1.1 HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  `GET http://one.test/ HTTP/1.1 \r\nHost: one.test\r\n\r\n`,
  `GET  http://one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  `GET\thttp://one.test/\tHTTP/1.1\r\nHost: one.test\r\n\r\n`,
  `GET\x0bhttp://one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  `GET http://one.test/\x0b HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  `GET http://one.test/\x85 HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  `GET http://one.test/#/hidden HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  `G(T http://one.test/ HTTP/1.1\r\nHost: one.test\r\n\r\n`,
  `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`,
];

/** Targets, and Hosts, of which one reader goes by the one and another by the other. */
const PLACES: readonly (readonly [target: string, host: string])[] = [
  ['http://one.test/', 'Host: two.test'],
  ['http://one.test/', 'Host: one.test:81'],
  ['http://one.test/', 'Host: one.test\r\nHost: two.test'],
  ['http://one.test/', 'Host: one.test, two.test'],
  ['http://one.test/', 'Host: one.test two.test'],
  ['http://one.test/', 'Host: one.test#two.test'],
  ['http://one.test/', 'Host: one.test/two'],
  ['http://one.test/', 'Host: x@one.test'],
  ['http://one.test/', 'Host : one.test'],
  ['http://one.test/', 'Host:'],
  ['http://one.test/', 'X: y'],
  ['http://one.test/', 'Host: one.test\x0b'],
  ['http://one.test:/', 'Host: two.test'],
  ['http://two.test@one.test/', 'Host: one.test'],
  ['http://one.test\\@two.test/', 'Host: one.test'],
  ['http://one.test%2f@two.test/', 'Host: one.test'],
  ['http:one.test/', 'Host: one.test'],
  ['http:/one.test/', 'Host: one.test'],
  ['http:///one.test/', 'Host: one.test'],
  ['//one.test/', 'Host: one.test'],
  ['/', 'Host: one.test'],
  ['one.test/', 'Host: one.test'],
  ['https://one.test/', 'Host: one.test'],
];

/** A request for the server at one.test, with what the server gets of it. */
const passed = (what: string, words: string, atOrigin: string): SmugglingForm => ({
  what,
  words,
  outcome: { atOrigin },
});

/** Passed on, and so that only one reading is left: what is hidden stays the body that it is, or its own request. */
const REWRITTEN: readonly SmugglingForm[] = [
  passed(
    'a body that looks like a request, by its length',
    `${POST}Content-Length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`,
    `POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: ${HIDDEN.length}\r\n${VIA}\r\n${HIDDEN}`,
  ),
  passed(
    'a body that looks like a request, in chunks',
    `${POST}${CHUNKED}\r\n${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n${NO_CHUNKS}`,
    `POST / HTTP/1.1\r\nHost: one.test\r\n${CHUNKED}${VIA}\r\n${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n${NO_CHUNKS}`,
  ),
  passed(
    'a length that Connection names',
    `${POST}Connection: content-length\r\nContent-Length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`,
    `POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: ${HIDDEN.length}\r\n${VIA}\r\n${HIDDEN}`,
  ),
  passed(
    'a coding that Connection names',
    `${POST}Connection: transfer-encoding\r\n${CHUNKED}\r\n${NO_CHUNKS}`,
    `POST / HTTP/1.1\r\nHost: one.test\r\n${CHUNKED}${VIA}\r\n${NO_CHUNKS}`,
  ),
  passed(
    'a length with zeros before it',
    `${POST}Content-Length: 0000000002\r\n\r\nhi`,
    `POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 2\r\n${VIA}\r\nhi`,
  ),
  passed(
    'a coding in capitals, with blanks around it',
    `${POST}TRANSFER-ENCODING:\t CHUNKED \t\r\n\r\n${NO_CHUNKS}`,
    `POST / HTTP/1.1\r\nHost: one.test\r\n${CHUNKED}${VIA}\r\n${NO_CHUNKS}`,
  ),
  passed(
    'an extension of a chunk that looks like a request',
    `${POST}${CHUNKED}\r\n2;GET /hidden HTTP/1.1\r\nhi\r\n${NO_CHUNKS}`,
    `POST / HTTP/1.1\r\nHost: one.test\r\n${CHUNKED}${VIA}\r\n2\r\nhi\r\n${NO_CHUNKS}`,
  ),
  passed(
    'trailers that are fields of framing',
    `${POST}${CHUNKED}\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: x\r\nHost: two.test\r\n\r\n`,
    `POST / HTTP/1.1\r\nHost: one.test\r\n${CHUNKED}${VIA}\r\n${NO_CHUNKS}`,
  ),
  passed(
    'an upgrade to HTTP/2',
    `${GET}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: one.test\r\n${VIA}\r\n`,
  ),
  passed(
    'fields of a proxy',
    `${GET}Proxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nKeep-Alive: 1\r\nTE: chunked\r\nTrailer: Host\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: one.test\r\n${VIA}\r\n`,
  ),
  passed(
    'a request behind one that closes',
    `${GET}Connection: close\r\n\r\n${HIDDEN}`,
    `GET / HTTP/1.1\r\nHost: one.test\r\n${VIA}Connection: close\r\n\r\n`,
  ),
  passed(
    'an escaped end of line in the target',
    'GET http://one.test/%0d%0a%0d%0aGET%20/hidden HTTP/1.1\r\nHost: one.test\r\n\r\n',
    `GET /%0d%0a%0d%0aGET%20/hidden HTTP/1.1\r\nHost: one.test\r\n${VIA}\r\n`,
  ),
];

/** All forms. */
export const SMUGGLING_FORMS: readonly SmugglingForm[] = [
  ...CODINGS.flatMap((line) => [
    refused(`${shown(line)} beside a length`, `${POST}Content-Length: 5\r\n${line}\r\n\r\n${NO_CHUNKS}${HIDDEN}`),
    refused(`a length beside ${shown(line)}`, `${POST}${line}\r\nContent-Length: 5\r\n\r\n${NO_CHUNKS}${HIDDEN}`),
    refused(`${shown(line)} alone`, `${POST}${line}\r\n\r\n${NO_CHUNKS}${HIDDEN}`),
  ]),
  refused('a length and chunks', `${POST}Content-Length: 5\r\n${CHUNKED}\r\n${NO_CHUNKS}${HIDDEN}`),
  refused('chunks and a length', `${POST}${CHUNKED}Content-Length: 5\r\n\r\n${NO_CHUNKS}${HIDDEN}`),
  refused('chunks in HTTP/1.0', `POST http://one.test/ HTTP/1.0\r\n${CHUNKED}\r\n${NO_CHUNKS}${HIDDEN}`),
  ...LENGTHS.map((length) =>
    refused(`the length ${shown(length)}`, `${POST}Content-Length: ${length}\r\n\r\nhello${HIDDEN}`),
  ),
  ...LENGTHS.map((length) =>
    refused(
      `the length ${shown(length)} behind a good one`,
      `${POST}Content-Length: 5\r\nContent-Length: ${length}\r\n\r\nhello${HIDDEN}`,
    ),
  ),
  refused('the same length twice', `${POST}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello${HIDDEN}`),
  refused(
    'a CONNECT with a length',
    `CONNECT one.test:80 HTTP/1.1\r\nHost: one.test:80\r\nContent-Length: 5\r\n\r\nhello${HIDDEN}`,
  ),
  refused(
    'a CONNECT with chunks',
    `CONNECT one.test:80 HTTP/1.1\r\nHost: one.test:80\r\n${CHUNKED}\r\n${NO_CHUNKS}${HIDDEN}`,
  ),
  ...HEADS.map((head) => refused(`the head ${shown(head)}`, `${head}${HIDDEN}`)),
  ...PLACES.map(([target, host]) =>
    refused(`${shown(target)} with ${shown(host)}`, `GET ${target} HTTP/1.1\r\n${host}\r\n\r\n${HIDDEN}`),
  ),
  ...[...CHUNKS, ...TRAILERS].map(
    (body): SmugglingForm => ({
      what: `the chunks ${shown(body)}`,
      words: `${POST}${CHUNKED}\r\n${body}${HIDDEN}`,
      outcome: 'broken off',
    }),
  ),
  ...REWRITTEN,
];

/** What a server gets of the head of a request in chunks. */
export const CHUNKED_AT_ORIGIN = `POST / HTTP/1.1\r\nHost: one.test\r\n${CHUNKED}${VIA}\r\n`;
