/** What a soak judges its transfers by. */
import test from 'ava';
import { type EndResult, Ledger } from '../../bench/soak/ledger.js';
import { PatternCheck, patternBytes } from '../../bench/soak/pattern.js';

const nothing = () => undefined;
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
  ['all of it, and its end, are well', {}, nothing, null],
  ['a wrong byte is wrong whatever happened', { ...reset, isPrefix: false }, killHost, /^wrong bytes/],
  ['a part with an end in order is wrong', cutShort, disturb, /^cut short, but ended/],
  ['a part with an end that the system made for a killed process is well', cutShort, killHost, null],
  ['a reset is well where something was disturbed', reset, disturb, null],
  ['a reset is wrong where nothing was', reset, nothing, /^broken off \(reset\) although/],
];

for (const [title, result, meanwhile, problem] of VERDICTS) {
  test(`verdict: ${title}`, (t) => {
    const ledger = new Ledger();
    const ticket = ledger.begin('host');
    meanwhile(ledger);
    ledger.judge('bulk', ticket, { end: 'ended', isPrefix: true, isComplete: true, receivedBytes: 9, ...result });
    t.is(ledger.problemCount, problem === null ? 0 : 1);
    if (problem !== null) t.regex(ledger.problems[0] ?? '', problem);
  });
}

test('what begins while something is disturbed is excused also when it ends later', (t) => {
  const ledger = new Ledger();
  ledger.disturb();
  const ticket = ledger.begin('guest');
  ledger.settle();
  t.false(ledger.isUndisturbed(ticket));
  t.true(ledger.isUndisturbed(ledger.begin('guest')));
});

test('a pattern is told from another one, from another place of itself, and from more than there is', (t) => {
  const bytes = patternBytes(4, 999_990, 3_000_000);
  t.true(bytes.equals(patternBytes(4, 999_990, bytes.length)));
  t.false(bytes.equals(patternBytes(5, 999_990, bytes.length)));
  t.false(bytes.equals(patternBytes(4, 999_991, bytes.length)));
  const check = new PatternCheck(7, 100);
  check.push(patternBytes(7, 0, 60));
  t.deepEqual([check.isPrefix, check.isComplete], [true, false]);
  check.push(patternBytes(7, 60, 40));
  t.true(check.isComplete);
  check.push(patternBytes(7, 100, 1));
  t.false(check.isPrefix);
});
