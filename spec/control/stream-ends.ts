/** What a control server keeps of streams that have ended. */
import test from 'ava';
import { KNOWN_ENDS, StreamEnds } from '../../lib/control/context/join-stream.js';
import { VproxyError } from '../../lib/errors.js';

test('open streams are known, and those that have ended last, each with its own end', (t) => {
  const ends = new StreamEnds();
  const open = ends.add();
  const [first, second] = [ends.add(), ends.add()];
  ends.end(first, null);
  ends.end(second, new VproxyError('idle-timeout', `it was silent\u001b[2J${'x'.repeat(100_000)}`));
  t.deepEqual(ends.find(first), { state: 'ended', error: null });
  const { state, error } = ends.find(second);
  t.is(state, 'reset');
  t.is(error?.code, 'idle-timeout');
  t.regex(error?.message ?? '', /^it was silent\\x1b\[2Jx{400,}.{0,3}$/);
  t.true((error?.message ?? '').length <= 520);

  for (let count = 1; count < KNOWN_ENDS; count += 1) ends.end(ends.add(), null);
  t.throws(() => ends.find(first), { code: 'not-found' });
  t.is(ends.find(second).state, 'reset');
  ends.end(ends.add(), null);
  t.throws(() => ends.find(second), { code: 'not-found' });
  t.deepEqual(ends.find(open), { state: 'open', error: null });
  t.throws(() => ends.find(1_000_000), { code: 'not-found' });
});
