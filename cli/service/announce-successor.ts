/** What the service manager is told of the process that takes the place of this one. */
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { systemError } from '../../lib/system/libc.js';
import type { MessageCalls } from '../../lib/system/unix-messages.js';

/**
 * Tells the service manager, at its socket `notifySocket`, that the process `pid` is the main one of the service from now on;
 * to be called just before this one ends. It blocks while the service manager takes no messages, for at most `timeoutMs`. Throws
 * an error of the system where it cannot be told: then the end of this process would be that of the service.
 */
export function announceSuccessor(calls: MessageCalls, notifySocket: string, pid: number, timeoutMs: number): void {
  const deadline = performance.now() + timeoutMs;
  const fd = calls.openDatagrams(notifySocket);
  try {
    while (calls.send(fd, Buffer.from(`MAINPID=${pid}`)) === null) {
      if (calls.wait(fd, 'writable', deadline - performance.now())) continue;
      throw systemError('sendmsg', constants.errno.ETIMEDOUT);
    }
  } finally {
    closeSync(fd);
  }
}
