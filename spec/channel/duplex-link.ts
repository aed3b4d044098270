/** What is particular to a link over a program's Duplex. */
import { type Duplex, PassThrough } from 'node:stream';
import test from 'ava';
import { DuplexLink } from '../../lib/link/duplex-link.js';
import { duplexPair, record } from '../helpers/channel-pair.js';

test('a buffer may be used again as soon as it was written, also where the Duplex hands it on as it is', async (t) => {
  const [near, far] = duplexPair();
  const link = new DuplexLink('near', near);
  const buffer = Buffer.from('first');
  link.write(buffer);
  buffer.write('WRONG');
  link.writeParts([buffer.subarray(0, 0), buffer]);
  buffer.write('other');
  const recorder = record(new DuplexLink('far', far));
  await recorder.received(10);
  t.is(recorder.bytes.toString(), 'firstWRONG');
});

test('a Duplex that fails closes the link with channel-failed, and what it says later harms nobody', async (t) => {
  const [near] = duplexPair();
  const recorder = record(new DuplexLink('near', near));
  near.emit('error', new Error('the line is down'));
  near.emit('error', new Error('still'));
  t.like(await recorder.closed, { code: 'channel-failed', message: 'near failed: the line is down' });
  t.true(near.destroyed);
});

test('a Duplex that is destroyed by its owner closes the link', async (t) => {
  const [near] = duplexPair();
  const recorder = record(new DuplexLink('near', near));
  near.destroy();
  t.is((await recorder.closed).code, 'channel-closed');
});

test('a Duplex that cannot carry bytes both ways is refused', (t) => {
  const useless: Readonly<Record<string, Duplex>> = {
    'carries objects': new PassThrough({ objectMode: true }),
    'gives texts': new PassThrough().setEncoding('utf8'),
    'is destroyed': new PassThrough().destroy(),
    'was ended': new PassThrough().end(),
  };
  for (const [what, duplex] of Object.entries(useless)) {
    t.throws(() => new DuplexLink('near', duplex), { code: 'bad-argument' }, what);
  }
});
