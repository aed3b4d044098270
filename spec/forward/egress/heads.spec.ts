/** Ten thousand random heads, two thousand through an egress: no crash, one answer of one line each, and no invalid head passes. */

import test from 'ava';
import fc from 'fast-check';
import { BadMessage, parseRequestHead } from '../../../lib/forward/egress/head.js';
import { Refusal } from '../../../lib/forward/egress/refusal.js';
import { originRequestHead, parseProxyRequest } from '../../../lib/forward/egress/request.js';
import { EgressScene } from '../../helpers/egress.js';

const PIECES = [
  ...'GET POST CONNECT OPTIONS http:// https:// one.test two.test [::1] @ %0d%0a # / :80 : \xff ,'.split(' '),
  ...[' ', ' ', ' HTTP/1.1', ' HTTP/1.0', ' HTTP/2.0', '\r\n', '\r\n', '\r', '\n', '\0', '\t', '\x0b', '\r\n\r\n'],
  ...['Host: one.test', 'Host', 'Content-Length: 5', 'Content-Length: 0', 'Transfer-Encoding: chunked', 'chunked'],
  ...['Connection: close', 'Connection: Host', 'Upgrade: h2c', 'Via: 1.1 x', 'X: y', '5\r\nhello\r\n0\r\n\r\n'],
];

/** A valid head. */
const START = 'GET http://one.test/ HTTP/1.1\r\nHost: one.test\r\nX-Field: value\r\n\r\n';

/** Pieces in any order. */
const scrambled = fc
  .array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 14 })
  .map((pieces) => pieces.join(''));

/** The valid head, partly replaced by pieces. */
const damaged = fc
  .array(fc.tuple(fc.nat(START.length - 1), fc.nat(6), fc.constantFrom('', ...PIECES)), { minLength: 0, maxLength: 3 })
  .map((changes) =>
    changes.reduce((text, [at, length, piece]) => `${text.slice(0, at)}${piece}${text.slice(at + length)}`, START),
  );

/** Any bytes. */
const noise = fc.uint8Array({ minLength: 1, maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1'));

const HEADS = fc.sample(fc.oneof(damaged, damaged, scrambled, noise), { numRuns: 10_000, seed: 20_261_123 });

/** Heads that may be sent to an origin server: defined a second time, independently of the code. */
const ORIGIN_HEAD =
  /^[!#$%&'*+.^_`|~0-9A-Za-z-]+ [/*][\x21-\x7e]* HTTP\/1\.1\r\nHost: [a-z0-9.:[\]_-]+\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)*\r\n$/;
const OF_THE_CONNECTION = /\r\n(?:keep-alive|proxy-[a-z]+|te|trailer|upgrade):/i;

test('the head sent to an origin server for a random head is unambiguous', (t) => {
  let through = 0;
  for (const text of HEADS) {
    const end = text.indexOf('\r\n\r\n');
    if (end === -1) continue;
    let sent: string;
    try {
      const request = parseProxyRequest(parseRequestHead(text.slice(0, end + 4)));
      if (request.originTarget === null) continue;
      sent = originRequestHead(request).toString('latin1');
    } catch (error) {
      if (error instanceof BadMessage || error instanceof Refusal) continue;
      throw error;
    }
    through += 1;
    if (!ORIGIN_HEAD.test(sent) || OF_THE_CONNECTION.test(sent)) t.fail(JSON.stringify([text, sent]));
    const framings = sent.match(/\r\n(?:content-length|transfer-encoding):/gi) ?? [];
    if (framings.length > 1 || (sent.match(/\r\nhost:/gi) ?? []).length !== 1) t.fail(JSON.stringify([text, sent]));
  }
  t.true(through > 500, `${through} are right, or damaged where it does not matter`);
});

/** The heads sent to an egress. */
const SENT = HEADS.slice(0, 2000);

test('each random head has one answer of one line, or is a request that the rules decide', async (t) => {
  const scene = new EgressScene(t);
  let answered = 0;
  for (const text of SENT) {
    const isSocks = text.charCodeAt(0) === 5 || text.charCodeAt(0) === 4;
    const before = scene.refused.length;
    const told = await scene.say(text);
    const isEmpty = scene.refused.length === before;
    if (isSocks ? told.length > 12 : !isEmpty && !areAnswers(told)) t.fail(JSON.stringify([text, told]));
    if (!isSocks && !isEmpty) answered += 1;
  }
  t.true(answered > 0.9 * SENT.length, `${answered} answers`);
  t.is(scene.closed.length, SENT.length);
  t.true(scene.closed.every((reason) => reason === null));
  t.is(scene.target.openCount, 0);
});

/** vproxy's own answers, each with its line; only the last may end the connection. */
function areAnswers(told: string): boolean {
  const answers = told.split(/(?<=\n)(?=HTTP\/1\.1 \d)/);
  return answers.every((answer) => {
    const [, length = '', body = ''] =
      /^HTTP\/1\.1 [45]\d\d [A-Za-z ]+\r\nContent-Type: text\/plain\r\nContent-Length: (\d+)\r\nProxy-Status: vproxy; error=[a-z_]+\r\nCache-Control: no-store\r\n(?:Connection: close\r\n)?\r\n(vproxy: [\x20-\x7e]+\n)$/.exec(
        answer,
      ) ?? [];
    return body.length === Number(length) && body !== '';
  });
}
