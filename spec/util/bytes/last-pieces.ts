import test from 'ava';
import { LastPieces, lastOf } from '../../../lib/util/bytes/last-pieces.js';

function piecesOf(...texts: string[]): LastPieces {
  const pieces = new LastPieces();
  for (const text of texts) pieces.add(Buffer.from(text));
  return pieces;
}

const textOf = (views: readonly Buffer[] | null): string | undefined => views?.map(String).join('|');

test('the last bytes are returned in pieces, the first of them cut', (t) => {
  const pieces = piecesOf('abc', 'd', 'efg');
  t.is(textOf(pieces.last(7)), 'abc|d|efg');
  t.is(textOf(pieces.last(6)), 'bc|d|efg');
  t.is(textOf(pieces.last(4)), 'd|efg');
  t.is(textOf(pieces.last(1)), 'g');
  t.is(textOf(pieces.last(0)), '');
  t.is(pieces.last(8), null);
});

test('whole pieces are dropped, and none with a byte that may be needed', (t) => {
  const pieces = piecesOf('abc', 'd', 'efg');
  pieces.forgetAllBut(5);
  t.is(textOf(pieces.last(7)), 'abc|d|efg');
  pieces.forgetAllBut(4);
  t.is(pieces.last(5), null);
  t.is(textOf(pieces.last(4)), 'd|efg');
  pieces.forgetAllBut(0);
  t.is(pieces.last(1), null);
  pieces.add(Buffer.from('h'));
  t.is(textOf(pieces.last(1)), 'h');
});

test('no pieces have no bytes', (t) => {
  t.deepEqual(lastOf(null, 0), []);
  t.is(lastOf(null, 1), null);
  t.is(textOf(lastOf(piecesOf('ab'), 1)), 'b');
});
