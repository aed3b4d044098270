/** The command lines of the benchmarks and of the soak, and how a soak judges its transfers. */
import test from 'ava';
import { CONTENDERS } from '../../tools/bench/contenders/list.js';
import { HELP, parseBenchOptions, UsageError } from '../../tools/bench/options.js';
import { type EndResult, Ledger } from '../../tools/bench/soak/ledger.js';
import { parseSoakArguments } from '../../tools/bench/soak/options.js';
import { PatternCheck, patternBytes } from '../../tools/bench/soak/pattern.js';
import { parseVmOptions } from '../../tools/bench/vm/options.js';
import { VM_WORK } from '../../tools/bench/vm/work.js';

test('the default is five rounds of everything by every contender', (t) => {
  const [bench, vm] = [parseBenchOptions([]), parseVmOptions([])];
  const usual = { rounds: 5, contenders: CONTENDERS, json: 'bench.json', documents: false, beginUntilMs: Infinity };
  t.like(bench, { ...usual, amounts: { bytes: 400e6 } });
  t.like(vm, { rounds: 5, json: 'bench-vm.json', amounts: { bytes: 48e6 } });
  t.regex('up-1', bench.only);
  for (const { id } of VM_WORK) t.regex(id, vm.only);
});

test('--quick does less of everything; explicit options override it', (t) => {
  const full = parseBenchOptions([]).amounts;
  const quick = parseBenchOptions(['--quick', '--rounds', '7']);
  t.is(quick.rounds, 7);
  t.true(quick.amounts.bytes < full.bytes && quick.amounts.echoes < full.echoes);
  t.is(parseBenchOptions(['--quick', '--megabytes', '3']).amounts.bytes, 3e6);
  t.is(parseVmOptions(['--megabytes', '3', '--rounds', '2']).amounts.bytes, 3e6);
  // Leaves time for two pieces of work, as one in progress may restart its contender.
  t.true(quick.beginUntilMs + 2 * quick.amounts.timeoutMs <= 180_000);
});

test('contenders are selected by unique name, each once; the help lists all of them', (t) => {
  const { contenders } = parseBenchOptions(['--contenders', 'relays,vproxy,relays']);
  t.is(contenders.map(({ id }) => id).join(), 'relays,vproxy');
  const ids = CONTENDERS.map(({ id }) => id);
  t.is(new Set(ids).size, ids.length);
  for (const id of ids) t.true(HELP.includes(id), id);
});

test('a soak takes minutes, a seed and a file', (t) => {
  const { seed, ...rest } = parseSoakArguments([]);
  t.deepEqual(rest, { minutes: 5, out: 'soak.svg', help: false });
  t.true(Number.isInteger(seed));
  const given = parseSoakArguments(['--minutes', '0.25', '--seed', '4294967295', '--out', 'a']);
  t.like(given, { minutes: 0.25, seed: 4_294_967_295, out: 'a' });
  for (const words of ['--minutes 0', '--minutes 1e1', '--seed 4294967296', '--seed -1', 'x', '--x'])
    t.throws(() => parseSoakArguments(words.split(' ')), { instanceOf: Error }, words);
});

const REFUSED: readonly (readonly [words: string, message: RegExp])[] = [
  ['--rounds 0', /^--rounds: "0" must be a number from 1 to 999999$/],
  ['--megabytes many', /--megabytes: "many"/],
  ['--only (', /--only: "\(" is not a valid regular expression/],
  ['--contenders vproxy,frp', /no contender "frp"; available: vproxy, .*socat/],
  ['--json ', /--json: missing value/],
  ['--json /no/such/folder/x.json', /no such folder/],
  ['--plots /no/such/folder/x', /--plots: no such folder/],
  ['--documents --contenders vproxy', /^--documents cannot be used with --contenders$/],
  ['--fast', /'--fast'/],
];

test('invalid options are rejected with one line', (t) => {
  for (const [words, message] of REFUSED) {
    const expected = { instanceOf: UsageError, message };
    const error = t.throws(() => parseBenchOptions(words.split(' ')), expected, words);
    t.false(error.message.includes('\n'));
    if (!/contenders|plots|documents/.test(words)) t.throws(() => parseVmOptions(words.split(' ')), expected, words);
  }
});

const cutShort = { isComplete: false };
const reset = { end: 'reset', isComplete: false } as const;
const disturb = (ledger: Ledger) => {
  ledger.disturb();
  ledger.settle();
};
const killHost = (ledger: Ledger) => {
  disturb(ledger);
  ledger.countKill('host');
};

const VERDICTS: readonly [string, Partial<EndResult>, (ledger: Ledger) => void, RegExp | null][] = [
  ['a complete transfer with EOF is correct', {}, () => undefined, null],
  ['a wrong byte is always wrong', { ...reset, isPrefix: false }, killHost, /^wrong bytes/],
  ['a truncated transfer with EOF is wrong', cutShort, disturb, /^truncated, but ended/],
  ['a truncated transfer is permitted if the system sent the EOF of a killed process', cutShort, killHost, null],
  ['a reset is permitted after a disturbance', reset, disturb, null],
  ['a reset without a disturbance is wrong', reset, () => undefined, /^aborted \(reset\) without/],
];

test('a soak judges a transfer by its bytes, its end, and disturbances meanwhile', (t) => {
  for (const [what, result, meanwhile, problem] of VERDICTS) {
    const ledger = new Ledger();
    const ticket = ledger.begin('host');
    meanwhile(ledger);
    ledger.judge('bulk', ticket, { end: 'ended', isPrefix: true, isComplete: true, receivedBytes: 9, ...result });
    t.is(ledger.problemCount, problem === null ? 0 : 1, what);
    t.regex(ledger.problems[0] ?? '', problem ?? /^$/, what);
  }
  const ledger = new Ledger();
  ledger.disturb();
  ledger.countKill('guest');
  const [ticket, other] = [ledger.begin('guest'), ledger.begin('host')];
  ledger.countLaunch('guest');
  const later = ledger.begin('guest');
  ledger.settle();
  t.false(ledger.isUndisturbed(ticket), 'begun while something is disturbed');
  for (const one of [ticket, other, later])
    ledger.judge('target', one, { end: 'ended', isPrefix: true, isComplete: false, receivedBytes: 9 });
  t.is(ledger.problemCount, 2, 'only one of the truncated ones can belong to the killed process');
  t.true(ledger.isUndisturbed(ledger.begin('guest')));
});

test('a pattern is distinguished from another one, from another offset, and from excess bytes', (t) => {
  const bytes = patternBytes(4, 999_990, 3_000_000);
  const isSame = (key: number, position: number) => bytes.equals(patternBytes(key, position, bytes.length));
  t.deepEqual([isSame(4, 999_990), isSame(5, 999_990), isSame(4, 999_991)], [true, false, false]);
  const check = new PatternCheck(7, 100);
  const pushed = (position: number, length: number) => {
    check.push(patternBytes(7, position, length));
    return [check.isPrefix, check.isComplete];
  };
  t.deepEqual(
    [pushed(0, 60), pushed(60, 40), pushed(100, 1)],
    [
      [true, false],
      [true, true],
      [false, false],
    ],
  );
});
