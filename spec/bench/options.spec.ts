/** The command line of the benchmark. */
import test from 'ava';
import { CONTENDERS } from '../../bench/contenders/list.js';
import { HELP, parseBenchOptions, UsageError } from '../../bench/options.js';

test('without options there are five rounds of everything by everyone', (t) => {
  const options = parseBenchOptions([]);
  t.is(options.rounds, 5);
  t.is(options.amounts.bytes, 400e6);
  t.deepEqual(options.contenders, CONTENDERS);
  t.is(options.json, 'bench.json');
  t.regex('up-1', options.only);
});

test('--quick does less of everything, and what is given goes before it', (t) => {
  const full = parseBenchOptions([]).amounts;
  const quick = parseBenchOptions(['--quick', '--rounds', '7']);
  t.is(quick.rounds, 7);
  t.true(quick.amounts.bytes < full.bytes && quick.amounts.echoes < full.echoes);
  t.is(parseBenchOptions(['--quick', '--megabytes', '3']).amounts.bytes, 3e6);
});

test('--quick begins nothing after the time that leaves room before three minutes, a full run always', (t) => {
  const { beginUntilMs, amounts } = parseBenchOptions(['--quick']);
  // Two pieces of work, as one may be under way that starts its contender again.
  t.true(beginUntilMs + 2 * amounts.timeoutMs <= 180_000);
  t.is(parseBenchOptions([]).beginUntilMs, Infinity);
});

test('the documents are written where that is asked for, of all contenders', (t) => {
  t.false(parseBenchOptions([]).documents);
  t.true(parseBenchOptions(['--documents', '--rounds', '2', '--only', 'up']).documents);
});

test('the axes have fewer rounds, and a folder for their drawings', (t) => {
  t.is(parseBenchOptions(['--axis']).rounds, 2);
  t.is(parseBenchOptions(['--axis', '--quick']).rounds, 1);
  t.is(parseBenchOptions(['--axis', '--rounds', '7']).rounds, 7);
  t.is(parseBenchOptions([]).plots, 'bench-plots');
  t.is(parseBenchOptions(['--plots', 'here']).plots, 'here');
});

test('contenders are chosen by name, each once', (t) => {
  const { contenders } = parseBenchOptions(['--contenders', 'relays,vproxy,relays']);
  t.deepEqual(
    contenders.map(({ id }) => id),
    ['relays', 'vproxy'],
  );
});

test('the names of contenders differ, and the help has all of them', (t) => {
  const ids = CONTENDERS.map(({ id }) => id);
  t.is(new Set(ids).size, ids.length);
  for (const id of ids) t.true(HELP.includes(id), id);
});

const refused = test.macro({
  exec(t, args: readonly string[], message: RegExp) {
    const error = t.throws(() => parseBenchOptions(args), { instanceOf: UsageError, message });
    t.false(error.message.includes('\n'));
  },
  title: (_, args: readonly string[]) => `${args.join(' ')} is refused in one line`,
});

test(refused, ['--rounds', '0'], /^--rounds "0" should be a number from 1 to 999999$/);
test(refused, ['--rounds', '2.5'], /--rounds "2.5"/);
test(refused, ['--megabytes', 'many'], /--megabytes "many"/);
test(refused, ['--only', '('], /--only "\(" is no regular expression/);
test(refused, ['--contenders', 'vproxy,frp'], /there is no "frp", only vproxy, .*socat/);
test(refused, ['--json', ''], /--json needs/);
test(refused, ['--json', '/no/such/folder/x.json'], /no such folder/);
test(refused, ['--plots', ''], /--plots needs the name of a folder/);
test(refused, ['--plots', '/no/such/folder/x'], /--plots .*no such folder/);
test(refused, ['--documents', '--contenders', 'vproxy'], /^--documents cannot be used with --contenders$/);
test(refused, ['--documents', '--quick'], /^--documents cannot be used with --quick$/);
test(refused, ['--documents', '--axis'], /^--documents cannot be used with --axis$/);
test(refused, ['--fast'], /'--fast'/);
test(refused, ['fast'], /'fast'/);
