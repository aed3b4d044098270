import { Duplex, PassThrough } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { DuplexLink } from '../../lib/link/duplex-link.js';
import { testEnds, testLinks } from '../helpers/channel-conformance.js';
import { duplexPair, LinkRecorder } from '../helpers/channel-pair.js';
import { socketPair } from '../helpers/ports.js';

const kinds = { 'a pair in memory': () => duplexPair(), 'sockets as Duplex': socketPair };

for (const [name, open] of Object.entries(kinds)) {
  const links = async (t: ExecutionContext) => {
    const [near, far] = await open(t);
    const ends = { near: new DuplexLink('near', near), far: new DuplexLink('far', far) };
    t.teardown(() => {
      ends.near.destroy();
      ends.far.destroy();
    });
    return ends;
  };
  testLinks(name, links);
  testEnds(name, links);
}

test('a buffer may be used again as soon as it was written, also where the Duplex hands it on as it is', async (t) => {
  const [near, far] = duplexPair();
  const link = new DuplexLink('near', near);
  const buffer = Buffer.from('first');
  link.write(buffer);
  buffer.write('WRONG');
  link.writeParts([buffer.subarray(0, 0), buffer]);
  buffer.write('other');
  const recorder = new LinkRecorder();
  new DuplexLink('far', far).start(recorder);
  await recorder.received(10);
  t.is(recorder.bytes.toString(), 'firstWRONG');
});

test('a Duplex that fails closes the link with channel-failed, and what it says later harms nobody', async (t) => {
  const [near] = duplexPair();
  const link = new DuplexLink('near', near);
  const recorder = new LinkRecorder();
  link.start(recorder);
  near.emit('error', new Error('the line is down'));
  near.emit('error', new Error('still'));
  const reason = await recorder.closed;
  t.is(reason.code, 'channel-failed');
  t.is(reason.message, 'near failed: the line is down');
  t.true(near.destroyed);
});

test('a Duplex that is destroyed by its owner closes the link', async (t) => {
  const [near] = duplexPair();
  const recorder = new LinkRecorder();
  new DuplexLink('near', near).start(recorder);
  near.destroy();
  t.is((await recorder.closed).code, 'channel-closed');
});

const useless: Record<string, () => Duplex> = {
  'carries objects': () => new PassThrough({ objectMode: true }),
  'gives texts': () => new PassThrough().setEncoding('utf8'),
  'is destroyed': () => new PassThrough().destroy(),
  'was ended': () => new PassThrough().end(),
};
for (const [what, make] of Object.entries(useless)) {
  test(`a Duplex that ${what} is refused`, (t) => {
    t.throws(() => new DuplexLink('near', make()), { code: 'bad-argument' });
  });
}
