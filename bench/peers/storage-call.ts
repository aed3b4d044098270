/**
 * A storage call made by the plainest script, to measure the wrapper beside: `storage-call.js SOCKET ARGV…` sends the
 * request to an emulator's unix socket, writes the outputs of the reply and ends with its status.
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
