/** What a control server keeps, without its sockets; and where its socket is. */
import test from 'ava';
import { KNOWN_ENDS, StreamEnds } from '../../lib/control/context/join-stream.js';
import { controlFolder, controlSocketPath, isControlName } from '../../lib/control/socket-paths.js';
import { VproxyError } from '../../lib/errors.js';
import './event-loop-delay.js';
import './stream-rates.js';

test('it is in /run/vproxy for root, and in the folder of the user for others', (t) => {
  const runtimeDirectory = '/run/user/1000';
  t.is(controlSocketPath('vm1', { isRoot: true, runtimeDirectory }), '/run/vproxy/vm1.sock');
  t.is(controlSocketPath('4711', { isRoot: false, runtimeDirectory }), '/run/user/1000/vproxy/4711.sock');
  t.is(controlSocketPath('vm1', { isRoot: false, runtimeDirectory: null }), null);
  t.is(controlFolder({ isRoot: false, runtimeDirectory: 'relative' }), null);
  t.is(controlFolder({ isRoot: false, runtimeDirectory: '' }), null);
});

test('a name that is no file name is not used for one', (t) => {
  for (const name of ['vm1', 'host.example_2', 'A-b']) t.true(isControlName(name), name);
  for (const name of ['', '.', '..', '../x', 'a/b', '-x', 'a b', 'ü', 'storage', 'x'.repeat(65)])
    t.false(isControlName(name), name);
});

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
