/** What provokes a finding of the doctor. */
import type { ExecutionContext } from 'ava';
import type { Finding, FindingId } from '../../../../cli/doctor/findings.js';
import type { NeedName } from '../../../helpers/needs.js';
import { type RunOptions, runVproxy } from '../../../helpers/vproxy-process.js';

/** One case. */
export interface FindingCase {
  readonly id: FindingId;
  /** When it is found, as the end of a sentence: `nobody listens on the socket any more`. */
  readonly when: string;
  /** What its line says, in addition. */
  readonly says?: RegExp;
  /** What its remedy says. */
  readonly remedy?: RegExp;
  /** What it needs of the machine besides Python. Default: nothing. */
  readonly needs?: readonly NeedName[];
  /** Causes the finding, and looks for it. */
  readonly find: (t: ExecutionContext) => Promise<readonly Finding[]> | readonly Finding[];
}

/** What the real command finds. Its status says whether a check fails. */
export async function doctor(
  t: ExecutionContext,
  args: readonly string[],
  options: RunOptions = {},
): Promise<readonly Finding[]> {
  const { stdout, stderr, code } = await runVproxy(['doctor', '--json', ...args], options);
  t.is(stderr, '');
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: readonly Finding[] };
  t.is(code, ok ? 0 : 1);
  return findings;
}

/** The same without the rights of root. */
export const doctorWithoutRights = (t: ExecutionContext, ...args: readonly string[]): Promise<readonly Finding[]> =>
  doctor(t, args, { obeysPermissions: true });
