/** The JSON object that `vproxy exec --json` prints. */
import type { VproxyError } from '../../lib/errors.js';
import type { CommandOutput } from '../../lib/services/exec/exec-call.js';

/** Makes the object for a command that ended or could not be run, or for a failure of vproxy. */
export function reportOf(outcome: CommandOutput | VproxyError, startedAt: Date): Readonly<Record<string, unknown>> {
  const head = { startedAt: startedAt.toISOString() };
  if (outcome instanceof Error) {
    const { code, message } = outcome;
    const unknown = { status: null, signal: null, timedOut: false, ...head, durationMs: null, usage: null, pid: null };
    return { ...unknown, stdout: null, stderr: null, error: { code, message } };
  }
  const { status, signal, timedOut, durationMs, usage, pid, stdout, stderr, stdoutTruncated, stderrTruncated, error } =
    outcome;
  return {
    status,
    signal,
    timedOut,
    ...head,
    durationMs,
    usage,
    pid,
    ...described('stdout', stdout, stdoutTruncated),
    ...described('stderr', stderr, stderrTruncated),
    error,
  };
}

/** As text if valid UTF-8, else null and the bytes in base64. */
function described(name: string, bytes: Buffer, isTruncated: boolean): Record<string, unknown> {
  const text = decode(bytes, isTruncated);
  return {
    [name]: text,
    ...(text === null && { [`${name}Base64`]: bytes.toString('base64') }),
    ...(isTruncated && { [`${name}Truncated`]: true }),
  };
}

/** Output with NUL is not text, and JSON would need six bytes for each. */
function decode(bytes: Buffer, isTruncated: boolean): string | null {
  if (bytes.includes(0)) return null;
  try {
    // The last character of truncated output may be incomplete.
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: isTruncated });
  } catch {
    return null;
  }
}
