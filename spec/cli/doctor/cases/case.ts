/** Cases that provoke findings of the doctor. */
import type { ExecutionContext } from 'ava';
import { FINDINGS, type Finding, type FindingId } from '../../../../cli/doctor/findings.js';
import { callVproxy } from '../../../helpers/call-vproxy.js';
import type { NeedName } from '../../../helpers/needs.js';
import { serialTestWith } from '../../../helpers/test-with.js';
import { type RunResult, runVproxy } from '../../../helpers/vproxy-process.js';

/** Causes a finding, and runs the check for it. */
type Find = (t: ExecutionContext) => Promise<readonly Finding[]> | readonly Finding[];

interface Expected {
  /** Matches its message. */
  readonly says?: RegExp;
  readonly remedy?: RegExp;
  /** What the machine must have besides Python. */
  readonly needs?: readonly NeedName[];
}

export interface FindingCase extends Expected {
  readonly id: FindingId;
  readonly when: string;
  readonly find: Find;
}

/** A case; `when` completes its title: `nothing listens on the socket`. */
export function finds(
  id: FindingId,
  when: string,
  ...rest: [find: Find] | [expected: RegExp | Expected, find: Find]
): FindingCase {
  const [expected, find] = rest.length === 1 ? [{}, rest[0]] : rest;
  return { id, when, find, ...(expected instanceof RegExp ? { says: expected } : expected) };
}

/**
 * Declares a test for each case. They run serially: each has vproxys of its own, whose answers have a deadline, and Python
 * processes that pretend to be other programs.
 */
export function runCases(cases: readonly FindingCase[]): void {
  for (const { id, when, says, remedy, needs = [], find } of cases) {
    serialTestWith('python', ...needs)(`${id}: ${when}`, async (t) => {
      const all = await find(t);
      const found = all.filter((one) => one.id === id);
      const messages = found.map(({ message }) => message);
      t.true(found.length > 0, `found: ${all.map((one) => `${one.id}: ${one.message}`).join('\n')}`);
      if (says !== undefined) t.regex(messages.join('\n'), says);
      if (remedy !== undefined) t.regex(found[0]?.remedy ?? '', remedy);
      if (['warn', 'fail'].includes(FINDINGS[id].level)) t.truthy(found[0]?.remedy, 'a problem has a remedy');
      for (const message of messages) t.notRegex(message, /[\n\u001b]/);
    });
  }
}

/** A busy machine may answer late; cases that never get an answer use less ("Every wait is bounded" in docs/doctor.md). */
const WORDS = ['doctor', '--json', '--timeout', '10'];

/** Runs the command and returns its findings; asserts that its status matches them. */
export const doctor = async (
  t: ExecutionContext,
  args: readonly string[],
  env?: Readonly<Record<string, string>>,
): Promise<readonly Finding[]> => readFindings(t, await callVproxy([...WORDS, ...args], { ...(env && { env }) }));

/** The same in a process without root privileges. */
export const doctorWithoutRights = async (t: ExecutionContext, ...args: readonly string[]) =>
  readFindings(t, await runVproxy([...WORDS, ...args], { obeysPermissions: true }));

function readFindings(t: ExecutionContext, { stdout, stderr, code }: RunResult): readonly Finding[] {
  t.is(stderr, '');
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: readonly Finding[] };
  t.is(code, ok ? 0 : 1);
  return findings;
}
