/** The address of a host name, in bounded time: a name server that is silent would hold up the end of this process. */
import { execFile } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import net from 'node:net';
import { systemCode } from '../../lib/errors.js';

/** The first address, as the system resolves the name. Rejects where there is none, or none within `timeoutMs`. */
export async function resolveName(host: string, timeoutMs: number): Promise<string> {
  const text = await askSystem(host, timeoutMs);
  if (text === null) return (await lookup(host)).address;
  const address = /^\S+/.exec(text)?.[0] ?? '';
  if (net.isIP(address) === 0) throw new Error('there is no such name, or no answer about it');
  return address;
}

/** What getent(1) prints, which can be killed; null where there is none. */
function askSystem(host: string, timeoutMs: number): Promise<string | null> {
  return new Promise((resolve) => {
    execFile('getent', ['ahosts', host], { timeout: timeoutMs }, (error, stdout) => {
      resolve(error !== null && systemCode(error) === 'ENOENT' ? null : stdout);
    });
  });
}
