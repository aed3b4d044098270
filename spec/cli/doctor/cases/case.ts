/** Cases that provoke findings of the doctor. */
import type { ExecutionContext } from 'ava';
import type { Finding, FindingId } from '../../../../cli/doctor/findings.js';
import type { ErrorCode } from '../../../../lib/errors.js';
import { remedyFor, type Subject } from '../../../../lib/remedies.js';
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
  readonly id: Finding['id'];
  /** Whose remedy must be shown; null for a finding with a row of its own. */
  readonly subject: Subject | null;
  readonly when: string;
  readonly find: Find;
}

type Rest = [find: Find] | [expected: RegExp | Expected, find: Find];

/** A case; `when` completes its title: `nothing listens on the socket`. */
export const finds = (id: FindingId | ErrorCode, when: string, ...rest: Rest) => makeCase(id, null, when, rest);

/** Cases in which vproxy itself would fail with this code, by what fails. */
const failsAt =
  (subject: Subject) =>
  (code: ErrorCode, when: string, ...rest: Rest) =>
    makeCase(code, subject, when, rest);

export const atPort = failsAt('virtio-port');
export const atSocket = failsAt('unix-socket');
export const atTcp = failsAt('tcp-port');
export const atTcpListener = failsAt('tcp-listener');
export const atLine = failsAt('serial-line');
export const atStty = failsAt('stty');
export const atFifo = failsAt('fifos');
export const atVsock = failsAt('vsock');
export const atVirsh = failsAt('virsh');
export const atDomain = failsAt('domain-port');
export const atKey = failsAt('key-file');
export const atSecret = failsAt('secret-file');
export const anywhere = failsAt('anything');

function makeCase(id: Finding['id'], subject: Subject | null, when: string, rest: Rest): FindingCase {
  const [expected, find] = rest.length === 1 ? [{}, rest[0]] : rest;
  return { id, subject, when, find, ...(expected instanceof RegExp ? { says: expected } : expected) };
}

/**
 * Declares a test for each case. They run serially: each has vproxys of its own, whose answers have a deadline, and Python
 * processes that pretend to be other programs.
 */
export function runCases(cases: readonly FindingCase[]): void {
  for (const { id, subject, when, says, remedy, needs = [], find } of cases) {
    const title = subject === null ? id : `${subject}, ${id}`;
    serialTestWith('python', ...needs)(`${title}: ${when}`, async (t) => {
      const all = await find(t);
      const found = all.filter((one) => one.id === id);
      const messages = found.map(({ message }) => message);
      t.true(found.length > 0, `found: ${all.map((one) => `${one.id}: ${one.message}`).join('\n')}`);
      if (says !== undefined) t.regex(messages.join('\n'), says);
      if (remedy !== undefined) t.regex(found[0]?.remedy ?? '', remedy);
      if (['warn', 'fail'].includes(found[0]?.level ?? '')) t.truthy(found[0]?.remedy, 'a problem has a remedy');
      if (subject !== null) t.regex(found[0]?.remedy ?? '', patternOf(remedyFor(id, subject) ?? '?'));
      for (const message of messages) {
        t.notRegex(message, /[\n\u001b]/);
        t.false(message.includes(found[0]?.remedy ?? '\n'), 'it is said once');
      }
    });
  }
}

/** A remedy of the table as it is shown, with what its words in capitals stand for. */
function patternOf(text: string): RegExp {
  const literal = text.replace(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`);
  return new RegExp(`^${literal.replace(/\b(?:DOMAIN|PATH|FILE)\b/g, String.raw`\S+`)}`);
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
