/** What a request to a control socket fails with. */
import { systemCode, VproxyError } from '../errors.js';
import { describeError } from '../util/describe-error.js';
import { escapeText } from '../util/escape.js';

/** The error in the body of an answer; one that is not of the form of vproxy's is `control-unavailable`. */
export function answeredError(status: number, text: string): VproxyError {
  try {
    const { error } = JSON.parse(text) as { error: { code: unknown; message: unknown } };
    if (typeof error.code === 'string' && typeof error.message === 'string') {
      return new VproxyError(error.code, error.message);
    }
  } catch {
    // Told below.
  }
  return new VproxyError('control-unavailable', `the answer is no vproxy's: status ${status} ${escapeText(text, 80)}`);
}

/** The error for what the system or the HTTP parser said. */
export function requestError(socketPath: string, error: unknown): VproxyError {
  if (error instanceof VproxyError) return error;
  const code = systemCode(error);
  const where = shown(socketPath);
  const fail = (message: string, as: 'control-unavailable' | 'denied' = 'control-unavailable'): VproxyError =>
    new VproxyError(as, message, { cause: error });
  if (code === 'EACCES' || code === 'EPERM') return fail(`no permission to use the control socket ${where}`, 'denied');
  if (code === 'ENOENT') return fail(`no process answers on ${where}: there is no such socket`);
  if (code === 'ECONNREFUSED') return fail(`no process answers on ${where}: the one that made it has ended`);
  if (code === 'ECONNRESET' || code === 'EPIPE') return fail(`the process on ${where} ended before it had answered`);
  if (code.startsWith('HPE_')) return fail(`what answers on ${where} is no vproxy: it does not speak HTTP`);
  return fail(`cannot reach a process on ${where}: ${describeError(error)}`);
}

const shown = (path: string): string => escapeText(path);
