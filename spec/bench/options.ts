/** The command lines of the benchmarks and of the soak. */
import test from 'ava';
import { CONTENDERS } from '../../bench/contenders/list.js';
import { HELP, parseBenchOptions, UsageError } from '../../bench/options.js';
import { parseSoakArguments } from '../../bench/soak/options.js';
import { parseVmOptions } from '../../bench/vm/options.js';
import { VM_WORK } from '../../bench/vm/work.js';

test('without options there are five rounds of everything by everyone', (t) => {
  t.like(parseBenchOptions([]), { rounds: 5, contenders: CONTENDERS, json: 'bench.json', documents: false });
  t.is(parseBenchOptions([]).amounts.bytes, 400e6);
  t.regex('up-1', parseBenchOptions([]).only);
  t.like(parseVmOptions([]), { rounds: 5, json: 'bench-vm.json' });
  t.is(parseVmOptions([]).amounts.bytes, 48e6);
  for (const { id } of VM_WORK) t.regex(id, parseVmOptions([]).only);
  t.is(parseVmOptions(['--megabytes', '3', '--rounds', '2']).amounts.bytes, 3e6);
});

test('--quick does less of everything, and what is given goes before it', (t) => {
  const full = parseBenchOptions([]).amounts;
  const quick = parseBenchOptions(['--quick', '--rounds', '7']);
  t.is(quick.rounds, 7);
  t.true(quick.amounts.bytes < full.bytes && quick.amounts.echoes < full.echoes);
  t.is(parseBenchOptions(['--quick', '--megabytes', '3']).amounts.bytes, 3e6);
  // Two pieces of work before three minutes are over, as one may be under way that starts its contender again.
  t.true(quick.beginUntilMs + 2 * quick.amounts.timeoutMs <= 180_000);
  t.is(parseBenchOptions([]).beginUntilMs, Infinity);
});

test('contenders are chosen by name, each once; their names differ, and the help has all of them', (t) => {
  const { contenders } = parseBenchOptions(['--contenders', 'relays,vproxy,relays']);
  t.deepEqual(
    contenders.map(({ id }) => id),
    ['relays', 'vproxy'],
  );
  const ids = CONTENDERS.map(({ id }) => id);
  t.is(new Set(ids).size, ids.length);
  for (const id of ids) t.true(HELP.includes(id), id);
});

test('a soak takes minutes, a seed and a file', (t) => {
  const { seed, ...rest } = parseSoakArguments([]);
  t.deepEqual(rest, { minutes: 5, out: 'soak.svg', help: false });
  t.true(Number.isInteger(seed));
  t.like(parseSoakArguments(['--minutes', '0.25', '--seed', '4294967295', '--out', 'a']), {
    ...{ minutes: 0.25, seed: 4_294_967_295, out: 'a' },
  });
  for (const words of ['--minutes 0', '--minutes 1e1', '--seed 4294967296', '--seed -1', 'x', '--x']) {
    t.throws(() => parseSoakArguments(words.split(' ')), { instanceOf: Error }, words);
  }
});

const REFUSED: readonly (readonly [words: string, message: RegExp])[] = [
  ['--rounds 0', /^--rounds "0" should be a number from 1 to 999999$/],
  ['--megabytes many', /--megabytes "many"/],
  ['--only (', /--only "\(" is no regular expression/],
  ['--contenders vproxy,frp', /there is no "frp", only vproxy, .*socat/],
  ['--json ', /--json needs/],
  ['--json /no/such/folder/x.json', /no such folder/],
  ['--plots /no/such/folder/x', /--plots .*no such folder/],
  ['--documents --contenders vproxy', /^--documents cannot be used with --contenders$/],
  ['--fast', /'--fast'/],
];

test('what is not valid is refused in one line', (t) => {
  for (const [words, message] of REFUSED) {
    const expected = { instanceOf: UsageError, message };
    const error = t.throws(() => parseBenchOptions(words.split(' ')), expected, words);
    t.false(error.message.includes('\n'));
    if (!/contenders|plots|documents/.test(words)) t.throws(() => parseVmOptions(words.split(' ')), expected, words);
  }
});
