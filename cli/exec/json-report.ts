/** What `vproxy exec --json` prints: one object for programs. */
import type { VproxyError } from '../../lib/errors.js';
import type { CommandOutput } from '../../lib/exec/exec-call.js';

/** The object, for a command that ended or could not be run, or for a failure of vproxy's. */
export function reportOf(outcome: CommandOutput | VproxyError, startedAt: Date): Readonly<Record<string, unknown>> {
  const head = { startedAt: startedAt.toISOString() };
  if (outcome instanceof Error) {
    const { code, message } = outcome;
    const unknown = { status: null, signal: null, timedOut: false, ...head, durationMs: null, pid: null };
    return { ...unknown, stdout: null, stderr: null, error: { code, message } };
  }
  const { status, signal, timedOut, durationMs, pid, stdout, stderr, stdoutTruncated, stderrTruncated, error } =
    outcome;
  return {
    status,
    signal,
    timedOut,
    ...head,
    durationMs,
    pid,
    ...described('stdout', stdout, stdoutTruncated),
    ...described('stderr', stderr, stderrTruncated),
    error,
  };
}

/** As text where it is valid UTF-8, else null and the bytes in base64. */
function described(name: string, bytes: Buffer, isTruncated: boolean): Record<string, unknown> {
  const text = decode(bytes, isTruncated);
  return {
    [name]: text,
    ...(text === null && { [`${name}Base64`]: bytes.toString('base64') }),
    ...(isTruncated && { [`${name}Truncated`]: true }),
  };
}

/** Text has no NUL, and JSON would make six bytes of each. */
function decode(bytes: Buffer, isTruncated: boolean): string | null {
  if (bytes.includes(0)) return null;
  try {
    // The last character of what was cut may be incomplete.
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: isTruncated });
  } catch {
    return null;
  }
}
