/** Which unix sockets are connected with which: /proc does not tell, so ss(8) of iproute2 is asked. */
import { execFile } from 'node:child_process';

const MAX_BYTES = 2 ** 22;

/** The inode at the other end of each connected unix socket, by inode. Rejects where ss is not there or not done in time. */
export function readUnixPeers(timeoutMs: number): Promise<ReadonlyMap<string, string>> {
  return new Promise((resolve, reject) => {
    execFile('ss', ['-xnH'], { timeout: timeoutMs, maxBuffer: MAX_BYTES }, (error, stdout) => {
      if (error === null) resolve(parseUnixPeers(stdout));
      else reject(new Error('ss cannot be asked', { cause: error }));
    });
  });
}

/** `Netid State Recv-Q Send-Q Local-Address:Port Peer-Address:Port`, where the ports are inodes. */
function parseUnixPeers(text: string): Map<string, string> {
  const pairs = text.split('\n').flatMap((line): [string, string][] => {
    const [, inode = '', peer = ''] = / (\d+) +\S+ (\d+) *$/.exec(line) ?? [];
    return inode === '' || peer === '0' ? [] : [[inode, peer]];
  });
  return new Map(pairs);
}
