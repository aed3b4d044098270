/** What provokes a finding of the doctor. */
import type { ExecutionContext } from 'ava';
import { FINDINGS, type Finding, type FindingId } from '../../../../cli/doctor/findings.js';
import { callVproxy } from '../../../helpers/call-vproxy.js';
import type { NeedName } from '../../../helpers/needs.js';
import { serialTestWith } from '../../../helpers/test-with.js';
import { type RunResult, runVproxy } from '../../../helpers/vproxy-process.js';

/** Causes a finding, and looks for it. */
type Find = (t: ExecutionContext) => Promise<readonly Finding[]> | readonly Finding[];

interface Expected {
  /** What its line says. */
  readonly says?: RegExp;
  readonly remedy?: RegExp;
  /** What it needs of the machine besides Python. */
  readonly needs?: readonly NeedName[];
}

export interface FindingCase extends Expected {
  readonly id: FindingId;
  readonly when: string;
  readonly find: Find;
}

/** A case; `when` ends a sentence: `nobody listens on the socket any more`. */
export function finds(
  id: FindingId,
  when: string,
  ...rest: [find: Find] | [expected: RegExp | Expected, find: Find]
): FindingCase {
  const [expected, find] = rest.length === 1 ? [{}, rest[0]] : rest;
  return { id, when, find, ...(expected instanceof RegExp ? { says: expected } : expected) };
}

/**
 * Makes a test of each case. They run one after the other: each has processes of its own, whose answers have a deadline, and others
 * that pretend to be something else, which are in Python.
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
      if (['warn', 'fail'].includes(FINDINGS[id].level)) t.truthy(found[0]?.remedy, 'what is wrong has a remedy');
      for (const message of messages) t.notRegex(message, /[\n\u001b]/);
    });
  }
}

/** A machine that is busy may answer late; what never answers is looked at with less ("Every wait is bounded" in docs/doctor.md). */
const WORDS = ['doctor', '--json', '--timeout', '10'];

/** What the command finds. Its status says whether a check fails. */
export const doctor = async (
  t: ExecutionContext,
  args: readonly string[],
  env?: Readonly<Record<string, string>>,
): Promise<readonly Finding[]> => readFindings(t, await callVproxy([...WORDS, ...args], { ...(env && { env }) }));

/** The same in a process without the rights of root. */
export const doctorWithoutRights = async (t: ExecutionContext, ...args: readonly string[]) =>
  readFindings(t, await runVproxy([...WORDS, ...args], { obeysPermissions: true }));

function readFindings(t: ExecutionContext, { stdout, stderr, code }: RunResult): readonly Finding[] {
  t.is(stderr, '');
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: readonly Finding[] };
  t.is(code, ok ? 0 : 1);
  return findings;
}
