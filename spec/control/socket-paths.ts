/** Where the control socket is. */
import test from 'ava';
import { controlFolder, controlSocketPath, isControlName } from '../../lib/control/socket-paths.js';

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
