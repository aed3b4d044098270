/** Sends back what comes out of a port, byte for byte, without vproxy: `node raw-echo.js PORT`. */
import { openSync, readSync, writeSync } from 'node:fs';

const port = openSync(process.argv[2] ?? '', 'r+');
const buffer = Buffer.alloc(4096);
const pause = new Int32Array(new SharedArrayBuffer(4));
for (;;) {
  const bytes = readSync(port, buffer);
  // No bytes: the host is not connected.
  if (bytes === 0) Atomics.wait(pause, 0, 0, 20);
  for (let offset = 0; offset < bytes; ) offset += writeSync(port, buffer, offset, bytes - offset);
}
