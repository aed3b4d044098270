/**
 * A storage call by a minimal script, to compare the wrapper with: `storage-call.js SOCKET ARGV…` sends the request to the unix
 * socket of an emulator, writes the outputs of the reply and exits with its status.
 */
import net from 'node:net';

const [path = '', ...argv] = process.argv.slice(2);
const socket = net.connect(path);
socket.write(`${JSON.stringify({ argv })}\n`);
let text = '';
socket.setEncoding('utf8').on('data', (chunk: string) => {
  text += chunk;
  if (!text.endsWith('\n')) return;
  const reply = JSON.parse(text) as { stdout: string; stderr: string; status: number };
  process.stdout.write(reply.stdout);
  process.stderr.write(reply.stderr);
  process.exitCode = reply.status;
  socket.destroy();
});
